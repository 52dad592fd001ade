/** How much is asked of a registry when many small files are read, and that what comes is right. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convert } from '../../../src/convert/convert.ts';
import { diff } from '../../../src/inspect/diff.ts';
import { ls } from '../../../src/inspect/ls.ts';
import type { Progress } from '../../../src/observe/progress.ts';
import { unpack } from '../../../src/unpack/unpack.ts';
import { startRegistry, type TestRegistry } from '../../kit/registry.ts';
import { needs } from '../../kit/skip.ts';
import { sourceLayout } from '../../kit/source-image.ts';
import { END, member } from '../../kit/tar.ts';

const FILES = 3000;
const CHUNK = 4096;
const skip = needs('addon');
const platform = 'linux/amd64';

const sha256 = (data: string): string => createHash('sha256').update(data, 'latin1').digest('hex');
const random = (size: number): string => randomBytes(size).toString('latin1');

describe.skipIf(skip.reason)('many small files over a registry', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-requests-'));
  let registry: TestRegistry;
  /** Path → what it holds. */
  const contents = new Map<string, string>();

  beforeAll(async () => {
    registry = await startRegistry();
    const [a, b] = [random(CHUNK), random(CHUNK)];
    const layer = (number: number): Buffer => {
      const files: Array<[string, string]> = Array.from({ length: FILES / 2 }, (_, i) => [
        `/l${number}/${String(i).padStart(5, '0')}`,
        random(100 + (i % 3000)),
      ]);
      // Chunks that lie in the lower blob, before, between and behind chunks of the own one, and twice in a row.
      files.push([`/l${number}/mixed`, random(CHUNK) + a + random(CHUNK) + b + b + a + random(10)]);
      files.push([`/l${number}/same`, a], [`/l${number}/empty`, '']);
      for (const [path, data] of files) contents.set(path, data);
      return Buffer.concat([...files.map(([path, data]) => member({ name: path.slice(1), data })), END]);
    };
    const source = sourceLayout(join(dir, 'source'), { layers: [{ tar: layer(1) }, { tar: layer(2) }] });
    registry.storage.putLayout('app', join(dir, 'source'));
    await convert(source, `oci:${join(dir, 'lazy')}:lazy`, { chunkSize: CHUNK });
    registry.storage.putLayout('app', join(dir, 'lazy'));
    await convert(source, `oci:${join(dir, 'other')}:other`, { chunkSize: 2 * CHUNK });
    registry.storage.putLayout('app', join(dir, 'other'));
  });
  afterAll(async () => {
    await registry.close();
    rmSync(dir, { recursive: true });
  });

  const named = (tag: string): string => `docker://${registry.host}/app:${tag}`;
  const requestsOf = async (work: () => Promise<unknown>): Promise<number> => {
    registry.requests.length = 0;
    await work();
    return registry.requests.length;
  };

  it('are listed with their digests in a few requests', async () => {
    const found = new Map<string, string>();
    const events: Progress[] = [];
    const requests = await requestsOf(async () => {
      const options = { platform, recursive: true, digests: true, onProgress: (event: Progress) => events.push(event) };
      for await (const row of ls(named('lazy'), options)) if (row.type === 'reg') found.set(row.path!, row.sha256!);
    });
    expect(found.size).toBe(contents.size);
    for (const [path, data] of contents) expect(found.get(path), path).toBe(sha256(data));
    expect(requests).toBeLessThanOrEqual(12);
    const total = [...contents.values()].reduce((sum, data) => sum + data.length, 0);
    expect(events.at(-1)).toMatchObject({ phase: 'hash', done: total, total, unit: 'bytes' });
    const hashing = events.filter(({ phase }) => phase === 'hash');
    expect(hashing.length).toBeLessThanOrEqual(201);
    const fetched = events.findLast(({ phase }) => phase === 'read')!;
    expect(fetched).toMatchObject({ done: fetched.total, unit: 'bytes' });
  });

  it('are compared with the original in a few requests, each of its layers read once', async () => {
    const requests = await requestsOf(async () => {
      for await (const difference of diff(named('image'), named('lazy'), { platform })) expect(difference).toBeNull();
    });
    expect(requests).toBeLessThanOrEqual(24);
    const whole = registry.requests.filter(({ path, status }) => path.includes('/blobs/') && status === 200);
    expect(new Set(whole.map(({ path }) => path)).size).toBe(whole.length);
  });

  it('are compared by their chunks alone where these are comparable, else in a few requests', async () => {
    const blobs = () => registry.requests.filter(({ status }) => status === 206);
    await requestsOf(async () => {
      for await (const _ of diff(named('lazy'), named('lazy'), { platform })) expect.unreachable();
    });
    expect(blobs()).toEqual([]);
    const requests = await requestsOf(async () => {
      for await (const _ of diff(named('lazy'), named('other'), { platform })) expect.unreachable();
    });
    expect(requests).toBeLessThanOrEqual(30);
  });

  it('are unpacked in a few requests', async () => {
    const target = join(dir, 'rootfs');
    const requests = await requestsOf(() => unpack(named('lazy'), target, { platform }));
    expect(readdirSync(join(target, 'l2')).length).toBe(FILES / 2 + 3);
    expect(requests).toBeLessThanOrEqual(30);
  });
});
