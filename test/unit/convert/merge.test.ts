/** Bare bootstraps of nydus-image, merged: the tree that the truth says, and the tables that nydus-image merged. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { mergeBootstraps } from '../../../src/convert/merge-bootstraps.ts';
import { openBootstrap } from '../../../src/formats/rafs/open.ts';
import { ls } from '../../../src/inspect/ls.ts';
import { fixture } from '../../kit/layers.ts';
import { needs } from '../../kit/skip.ts';
import { diffTrees, nydusImageTime, type Row, readRows } from '../../kit/tree.ts';

const layers = (variant: string): string[] =>
  [1, 2, 3].map((layer) => `rafs:${fixture('rafs', variant, `layer${layer}.boot`)}`);

async function rows(bytes: Buffer, blobs: string, dir: string): Promise<Row[]> {
  const path = join(dir, 'merged');
  writeFileSync(path, bytes);
  const found: Row[] = [];
  for await (const row of ls(`rafs:${path},blobs=${blobs}`, { recursive: true, digests: true })) found.push(row);
  return found;
}

describe.skipIf(needs('addon').reason)('mergeBootstraps', () => {
  const dir = mkdtempSync(join(tmpdir(), 'merge-'));
  afterAll(() => rmSync(dir, { recursive: true }));

  it.each(['merged', 'zran'])('%s: tables and tree as nydus-image merged them', async (variant) => {
    const { bytes } = await mergeBootstraps(layers(variant));
    const theirs = readFileSync(fixture('rafs', variant, 'bootstrap'));
    const [a, b] = [bytes, theirs].map((boot) => openBootstrap(boot, { subject: variant }));
    expect(a!.blobs).toEqual(b!.blobs);
    expect({ ...a!.superblock, chunkTableOffset: 0 }).toEqual({ ...b!.superblock, chunkTableOffset: 0 });
    const blobs = mkdtempSync(join(dir, 'blobs-'));
    cpSync(fixture('rafs', variant), blobs, { recursive: true });
    // The data of the references are gzip layers.
    cpSync(fixture('oci/tame-mini/blobs/sha256'), blobs, { recursive: true });
    const found = await rows(bytes, blobs, dir);
    expect(diffTrees(readRows(fixture('truth/tame-mini.merged.jsonl')), found, { time: nydusImageTime })).toEqual([]);
  });

  it('gives the tree of a single bootstrap without its whiteouts', async () => {
    const [layer] = layers('merged');
    const { bytes, blobs } = await mergeBootstraps([layer!]);
    expect(blobs).toHaveLength(1);
    expect(openBootstrap(bytes, { subject: 'one' }).root().children!.size).toBeGreaterThan(0);
  });

  it('refuses layers of different chunk sizes, by name', async () => {
    const other = `rafs:${fixture('rafs/chunk-4k/bootstrap')}`;
    await expect(mergeBootstraps([layers('merged')[0]!, other])).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      subject: other,
    });
    await expect(mergeBootstraps([])).rejects.toMatchObject({ code: 'USAGE' });
  });
});
