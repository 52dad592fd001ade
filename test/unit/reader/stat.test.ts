/** What is told of an inode: its row as in the ground truth, and for a lazy image where its bytes are. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { stat } from '../../../src/inspect/stat.ts';
import { fixture, sha256, zstdDecompress } from '../../kit/layers.ts';
import { diffTrees, nydusImageTime, readRows } from '../../kit/tree.ts';

const DEFAULT = `rafs:${fixture('rafs/default/bootstrap')}`;
const LAYER1 = readRows(fixture('truth/tame-mini.only-layer1.merged.jsonl'));
const NASTY = `oci:${fixture('oci/nasty-mini')}:nasty-mini-gzip`;

const rowWithout = { time: nydusImageTime, ignore: ['link_group' as const] };

describe('stat', () => {
  it('tells every path of an image as the truth does', async () => {
    const named = LAYER1.filter(({ path }) => path !== undefined);
    const files = await stat(
      DEFAULT,
      named.map(({ path }) => path!),
    );
    expect(
      diffTrees(
        named,
        files.map(({ row }) => row),
        rowWithout,
      ),
    ).toEqual([]);
    const nids = new Set(files.map(({ nid }) => nid));
    expect(nids.has(null)).toBe(false);
    // Names of one inode have one number.
    const inodes = new Set(named.map(({ link_group, path }) => link_group ?? path));
    expect(nids.size).toBe(inodes.size);
  });

  it("tells where a file's bytes are, so that they can be read with nothing else", async () => {
    const largest = LAYER1.filter(({ type }) => type === 'reg').sort((a, b) => b.size! - a.size!)[0]!;
    const [file] = await stat(DEFAULT, [largest.path!]);
    expect(file!.chunks.length).toBeGreaterThan(0);
    const pieces = file!.chunks.map((chunk) => {
      const blob = readFileSync(fixture('rafs/default', chunk.blob));
      const stored = Buffer.from(blob.subarray(chunk.compressedOffset, chunk.compressedOffset + chunk.compressedSize));
      return chunk.compressor === 'zstd' ? zstdDecompress(stored) : stored;
    });
    expect(file!.chunks.map(({ fileOffset }) => fileOffset)).toEqual(
      pieces.map((_, at) => pieces.slice(0, at).reduce((sum, { length }) => sum + length, 0)),
    );
    expect(sha256(Buffer.concat(pieces))).toBe(largest.sha256);
  });

  it('follows the last symlink only when told to', async () => {
    const link = readRows(fixture('truth/nasty-mini.merged.jsonl')).find(
      ({ type, target }) => type === 'symlink' && target !== undefined && /^[a-z.]+$/.test(target),
    )!;
    const [itself] = await stat(NASTY, [link.path!]);
    expect(itself!.row).toMatchObject({ type: 'symlink', target: link.target });
    expect(itself!.nid).toBeNull();
    const followed = await stat(NASTY, [link.path!], { dereference: true }).catch((error: unknown) => error);
    if (Array.isArray(followed)) expect(followed[0].row.type).not.toBe('symlink');
    else expect(followed).toMatchObject({ code: 'NOT_FOUND' });
    await expect(stat(NASTY, ['/', '/nowhere'])).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});
