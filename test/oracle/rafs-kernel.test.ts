/** What we write is what the kernel and fsck.erofs read. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openBootstrap } from '../../src/formats/rafs/open.ts';
import { writeBootstrap } from '../../src/formats/rafs/write.ts';
import type { FileNode } from '../../src/tree/node.ts';
import { erofsMount, fsck } from '../kit/erofs.ts';
import { unmountBelow } from '../kit/mounts.ts';
import { CHUNK_SIZE, expectedRows, plainNode, type RandomTree, randomTree } from '../kit/random-tree.ts';
import { needs } from '../kit/skip.ts';
import { diffTrees, walk } from '../kit/tree.ts';

const symlink = (length: number): FileNode => plainNode('symlink', { target: 'x'.repeat(length) });
const withXattrs = (node: FileNode, sizes: readonly number[]): FileNode => {
  node.xattrs = new Map(sizes.map((size, i) => [`trusted.${i}`, Buffer.alloc(size, i)]));
  return node;
};
const directory = (children: Array<[string, FileNode]>): FileNode => plainNode('dir', { children: new Map(children) });
/** `count` names of `length` bytes. */
const names = (count: number, length: number): Array<[string, FileNode]> =>
  Array.from({ length: count }, (_, i) => [String(i).padStart(length, '_'), plainNode('fifo')]);

/** Places where a structure just fits its block, or just does not. */
const EDGES: Array<[string, FileNode]> = [
  ['an empty root', directory([])],
  ['a root with more attributes than a block holds', withXattrs(directory(names(3, 3)), [5000, 60_000])],
  ['symlinks around the inline limit', directory([1, 4031, 4032, 4033, 4095].map((n) => [`to${n}`, symlink(n)]))],
  // 12 + 4 bytes an entry, and 27 for the dots: 4032 − 27 = 250 · 16 + 5.
  ['directories around the inline limit', directory([249, 250, 251, 252].map((n) => [`${n}`, directory(names(n, 4))]))],
  // Names of 255 bytes leave gaps at the end of each block; 4096 = 4 · 1024 fills one exactly.
  [
    'directories of several blocks',
    directory([
      [`long`, directory(names(400, 255))],
      ['full', directory(names(2048, 20))],
    ]),
  ],
  [
    'inline data after attributes',
    directory([0, 1, 100, 3000, 4100].map((n) => [`${n}`, withXattrs(symlink(90), [n])])),
  ],
  [
    'names that sort before the dots',
    directory([
      ['*', symlink(1)],
      ['-', symlink(1)],
      ['+a', directory(names(300, 9))],
    ]),
  ],
  [
    'devices, sockets and odd numbers',
    directory([
      ['c', plainNode('char', { rdev: { major: 0xfff, minor: 0xfffff } })],
      ['b', plainNode('block', { rdev: { major: 259, minor: 257 }, uid: 0xffff_fffe, gid: 0xffff_fffe })],
      ['s', plainNode('socket', { mode: 0o7777, mtime: { sec: -(2 ** 40), nsec: 999_999_999 } })],
    ]),
  ],
];

const skip = needs('root', 'erofs', 'python3', 'fsck.erofs');

describe.skipIf(skip.reason)('bootstraps that we write, under the kernel', () => {
  const dir = mkdtempSync(join(tmpdir(), 'rafs-kernel-'));
  const mountpoint = join(dir, 'mnt');
  beforeAll(() => mkdirSync(mountpoint));
  afterAll(() => {
    unmountBelow(dir);
    rmSync(dir, { recursive: true });
  });

  /** Every row differs from what the tree says in nothing, times and link counts included. */
  async function check({ root, blobs, devices }: RandomTree): Promise<void> {
    const bytes = writeBootstrap(root, blobs, { chunkSize: CHUNK_SIZE, compressor: 3, digester: 1 });
    const image = join(dir, 'bootstrap');
    writeFileSync(image, bytes);
    const files = openBootstrap(bytes, { subject: 'test' }).blobs.map(({ id }) => {
      const file = join(dir, id);
      writeFileSync(file, devices.get(id)!);
      return file;
    });
    using _ = erofsMount(image, files, mountpoint);
    expect(diffTrees(expectedRows(root, devices), await walk(mountpoint))).toEqual([]);
    expect(fsck(image, files)).toBe('');
  }

  it('random trees have no difference (property)', { timeout: 180_000 }, async () => {
    await fc.assert(fc.asyncProperty(randomTree(), check), { numRuns: 25, interruptAfterTimeLimit: 150_000 });
  });

  it.each(EDGES)('%s', async (_, root) => {
    await check({ root, blobs: [], devices: new Map() });
  });
});
