/** What the reference tools made and what Lacuna makes is clean, with all data read. */

import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { check } from '../../../src/check/check.ts';
import { convert } from '../../../src/convert/convert.ts';
import type { ConvertOptions } from '../../../src/convert/options.ts';
import { fixture } from '../../kit/layers.ts';
import { startRegistry } from '../../kit/registry.ts';
import { needs } from '../../kit/skip.ts';

const skip = needs('addon');
/** Data of these lies elsewhere: layers, or tars of layers. */
const ELSEWHERE = ['zran', 'tarfs'];

describe.skipIf(skip.reason)('check finds nothing wrong with', () => {
  const dir = mkdtempSync(join(tmpdir(), 'check-'));
  const layers = fixture('oci/tame-mini/blobs/sha256');
  beforeAll(() => {
    for (const variant of ELSEWHERE) {
      cpSync(fixture('rafs', variant), join(dir, variant), { recursive: true });
      for (const name of readdirSync(layers)) {
        const stored = readFileSync(join(layers, name));
        const plain = stored.readUInt16BE(0) === 0x1f8b ? gunzipSync(stored) : stored;
        for (const data of [stored, plain]) writeFileSync(join(dir, variant, sha256(data)), data);
      }
    }
    cpSync(fixture('nydus-oci/zran'), join(dir, 'oci-zran'), { recursive: true });
    cpSync(layers, join(dir, 'oci-zran/blobs/sha256'), { recursive: true });
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

  const variants = readdirSync(fixture('rafs'));
  it.each(variants)('rafs/%s of nydus-image', async (variant) => {
    const folder = ELSEWHERE.includes(variant) ? join(dir, variant) : fixture('rafs', variant);
    const bootstrap = readdirSync(folder).find((name) => name === 'bootstrap' || /^[0-9a-f]{64}\.boot$/.test(name))!;
    const report = await check(`rafs:${join(folder, bootstrap)}`, { deep: true });
    expect(report.problems).toEqual([]);
    expect(report.images[0]!.blobs.every(({ isRead }) => isRead)).toBe(true);
    expect(report.images[0]!.inodes).toBeGreaterThan(50);
  });

  it('an image but that its data is missing', async () => {
    const report = await check(`rafs:${fixture('rafs/zran/bootstrap')}`);
    expect(report.problems.map(({ code, field }) => `${code} ${field}`)).toEqual(Array(3).fill('NOT_FOUND blob_id'));
    expect(report.ok).toBe(false);
  });

  it.each([
    ['nydus-oci/index', 2],
    ['oci/tame-mini:tame-mini-gzip', 1],
    ['oci/tame-mini:tame-mini-plain-layers-2-3', 1],
    ['oci/nasty-mini:nasty-mini-zstd-multi', 1],
  ])('%s', async (reference, images) => {
    const report = await check(`oci:${fixture(reference)}`, { deep: true });
    expect(report.problems).toEqual([]);
    expect(report.images).toHaveLength(images);
  });

  it('an index of gzip layers by nydusify', async () => {
    const report = await check(`oci:${join(dir, 'oci-zran')}`, { deep: true });
    expect(report.problems).toEqual([]);
    expect(report.images[0]!.blobs.map(({ isRead }) => isRead)).toEqual([true, true, true]);
  });

  const CHOICES: ReadonlyArray<readonly [string, ConvertOptions]> = [
    ['as it is by default', {}],
    ['with chunks of 4 KiB, each once', { chunkSize: 4096, dedup: 'image' }],
    ['with lz4 and sha256', { compressor: 'lz4', digester: 'sha256' }],
    ['uncompressed', { compressor: 'none' }],
    ['with batches', { batchSize: 128 * 1024, prefetch: ['/bin', '/'] }],
    ['with chunk info apart', { blob: 'separate' }],
    ['as an index of its own layers', { ociRef: true }],
    ['beside the original in one index', { as: 'index' }],
  ];
  it.each(CHOICES)('what Lacuna converts, %s', async (_, options) => {
    const target = `oci:${mkdtempSync(join(dir, 'to-'))}:x`;
    await convert(`oci:${fixture('oci/nasty-mini')}:nasty-mini-gzip`, target, { ...options, target: { create: true } });
    const report = await check(target, { deep: true });
    expect(report.problems).toEqual([]);
    expect(report.images.at(-1)).toMatchObject({ kind: 'lazy' });
    expect(report.images.at(-1)!.blobs.length).toBeGreaterThan(2);
  });

  it('a registry, which is asked for no layer and no data unless it is to be deep', async () => {
    await using registry = await startRegistry({});
    registry.storage.putLayout('lazy', fixture('nydus-oci/index'));
    const reference = `docker://${registry.host}/lazy:index`;
    const report = await check(reference);
    expect(report.problems).toEqual([]);
    expect(report.images.map(({ kind }) => kind)).toEqual(['layers', 'lazy']);
    const bytes = registry.requests.reduce((sum, request) => sum + request.bytes, 0);
    const heads = registry.requests.filter(({ method }) => method === 'HEAD').length;
    expect(heads).toBeGreaterThanOrEqual(8);
    // Bootstrap layer, documents and the ends of the blobs, of 0.8 MB.
    expect(bytes).toBeLessThan(120_000);
    expect((await check(reference, { deep: true, platform: 'linux/amd64' })).problems).toEqual([]);
  });
});
