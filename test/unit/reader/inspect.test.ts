/** What `inspect` counts, against what the truths and the tool that made the images say. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { InspectedBootstrap } from '../../../src/inspect/bootstrap.ts';
import { type InspectOptions, inspect } from '../../../src/inspect/inspect.ts';
import { fixture, sha256 } from '../../kit/layers.ts';
import { type Row, readRows } from '../../kit/tree.ts';

const LAYER1 = readRows(fixture('truth/tame-mini.only-layer1.merged.jsonl'));
const MERGED = readRows(fixture('truth/tame-mini.merged.jsonl'));

async function bootstrapOf(variant: string, options: InspectOptions = {}): Promise<InspectedBootstrap> {
  return (await inspect(`rafs:${fixture('rafs', variant, 'bootstrap')}`, options)).bootstrap!;
}

/** Each inode once. */
const inodesOf = (rows: readonly Row[]): Row[] => {
  const groups = new Set<number>();
  return rows.filter(({ type, link_group: group }) => {
    if (type !== 'reg' || (group !== undefined && groups.has(group))) return false;
    if (group !== undefined) groups.add(group);
    return true;
  });
};
const sum = (numbers: Iterable<number>): number => [...numbers].reduce((total, number) => total + number, 0);

describe('inspect', () => {
  it.each([
    ['default', LAYER1],
    ['sha256', LAYER1],
    ['batch', LAYER1],
    ['encrypted', LAYER1],
    ['tarfs', MERGED],
    ['zran', MERGED],
    ['merged', MERGED],
  ])('counts the tree of %s', async (variant, truth) => {
    const { tree, paths } = await bootstrapOf(variant, { tree: true });
    const count = (type: string): number => truth.filter((row) => row.type === type).length;
    const others = count('char') + count('block') + count('fifo') + count('socket');
    const wanted = { regularFiles: count('reg'), directories: count('dir'), symlinks: count('symlink'), others };
    expect(tree).toMatchObject({ ...wanted, bytes: sum(inodesOf(truth).map(({ size }) => size!)) });
    expect(paths).toBe(truth.length);
  });

  it('tells what files share', async () => {
    // Each file is one chunk there, so equal chunks are equal files.
    const { tree, chunks, blobs } = await bootstrapOf('chunk-16m', { tree: true });
    const inodes = inodesOf(LAYER1).filter(({ size }) => size! > 0);
    const contents = new Map(inodes.map((row) => [row.sha256, row.size!]));
    const shared = sum(inodes.map(({ size }) => size!)) - sum(contents.values());
    expect(tree).toMatchObject({ chunkReferences: inodes.length, chunks: contents.size, sharedBytes: shared });
    expect(chunks).toMatchObject({ count: contents.size, uncompressed: sum(contents.values()), duplicates: 0 });
    expect(blobs.map(({ usedChunks }) => usedChunks)).toEqual([contents.size]);
  });

  it('tells what several blobs store again', async () => {
    const { chunks, chunkList } = await bootstrapOf('merged', { chunks: true });
    const seen = new Set<string>();
    const again = chunkList!.filter(({ digest }) => seen.has(digest) || !seen.add(digest));
    expect(again.length).toBeGreaterThan(0);
    expect(chunks).toMatchObject({ duplicates: again.length, duplicateBytes: sum(again.map(({ size }) => size)) });
    expect(chunkList!.length).toBe(chunks!.count);
  });

  it('tells of each blob what it is', async () => {
    const of = async (variant: string) => (await bootstrapOf(variant)).blobs;
    for (const variant of ['default', 'lz4', 'none', 'batch', 'encrypted', 'blob-toc', 'merged', 'chunk-dict']) {
      const output = JSON.parse(readFileSync(fixture('rafs', variant, 'output.json'), 'utf8')) as { blobs: string[] };
      const found = await of(variant);
      expect(found.map(({ id }) => id)).toEqual(output.blobs);
      for (const { id, chunkInfo, toc } of found) {
        if (!readdirSync(fixture('rafs', variant)).includes(id)) continue;
        const blob = readFileSync(fixture('rafs', variant, id));
        // The second magic number ends the header, and so the chunk info.
        const end = chunkInfo!.offset + chunkInfo!.size;
        if (variant !== 'encrypted') expect(blob.readUInt32LE(end - 4).toString(16)).toBe('b10bb10b');
        if (toc !== null) expect(sha256(blob.subarray(blob.length - toc.size))).toBe(toc.digest);
      }
    }
    expect((await of('lz4'))[0]).toMatchObject({
      compressor: 'lz4_block',
      digester: 'blake3',
      features: expect.arrayContaining(['ALIGNED']),
    });
    expect((await of('sha256'))[0]).toMatchObject({ compressor: 'zstd', digester: 'sha256' });
    expect((await of('batch'))[0]?.features).toContain('BATCH');
    expect((await of('encrypted'))[0]?.features).toContain('ENCRYPTED');
    expect((await of('blob-toc'))[0]).toMatchObject({
      features: expect.arrayContaining(['HAS_TOC']),
      toc: expect.anything(),
    });
    expect((await of('zran')).map(({ chunkInfo }) => chunkInfo!.file)).not.toContain(null);
    expect((await of('tarfs'))[0]).toMatchObject({
      usedChunks: null,
      chunkInfo: null,
      features: expect.arrayContaining(['TARFS']),
    });
  });

  it('tells flags, sizes and what is prefetched', async () => {
    const found = await bootstrapOf('prefetch', { tree: true });
    const list = readFileSync(fixture('rafs/prefetch/prefetch.txt'), 'utf8').trimEnd().split('\n');
    expect(found.prefetch).toEqual(list.filter((path) => LAYER1.some((row) => row.path === path)));
    expect(found.prefetchEntries).toBe(found.prefetch!.length);
    const size = statSync(fixture('rafs/prefetch/bootstrap')).size;
    expect(found).toMatchObject({ size, chunkSize: 1024 * 1024, blockSize: 4096 });
    expect(found.share).toBeCloseTo(size / (size + found.blobs[0]!.uncompressedSize), 12);
    expect(found.flags).toEqual(expect.arrayContaining(['COMPRESSION_ZSTD', 'HASH_BLAKE3']));
    expect((await bootstrapOf('encrypted')).flags).toContain('ENCRYPTION_AES_128_XTS');
    expect((await bootstrapOf('tarfs')).blockSize).toBe(512);
  });

  it('reads no inode when only blobs and chunks are asked for', async () => {
    const reference = `rafs:${fixture('rafs/merged/bootstrap')}`;
    const found = await inspect(reference);
    expect(found.bootstrap).toMatchObject({ tree: null, prefetch: null, chunkList: null });
    expect(found).toMatchObject({ manifest: null, config: null, size: null });
  });

  it('adds up the layers of an image', async () => {
    const found = await inspect(`oci:${fixture('oci/nasty-mini')}:nasty-mini-gzip`, { platform: 'linux/amd64' });
    expect(found.size).toBe(sum(found.manifest!.layers.map(({ size }) => size)));
    expect(found.bootstrap).toBeNull();
  });
});
