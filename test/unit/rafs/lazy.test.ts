/** Listing a directory, or reading a file, touches what is on the way to it: all the rest of the bootstrap may be garbage. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openBootstrap } from '../../../src/formats/rafs/open.ts';
import { writeBootstrap } from '../../../src/formats/rafs/write.ts';
import { listTree, type Row } from '../../../src/inspect/entries.ts';
import { ls } from '../../../src/inspect/ls.ts';
import type { FileNode } from '../../../src/tree/node.ts';
import { fixture } from '../../kit/layers.ts';
import { plainNode } from '../../kit/random-tree.ts';

const directory = (names: string[], make: (name: string) => FileNode): FileNode =>
  plainNode('dir', { children: new Map(names.map((name) => [name, make(name)])) });
const names = (count: number, prefix: string) => Array.from({ length: count }, (_, i) => `${prefix}${i}`);

/** A wanted directory among many of many entries. */
const root = directory([...names(500, 'other'), 'wanted'], (name) =>
  name === 'wanted'
    ? directory(['dir', 'link', 'pipe'], (child) =>
        child === 'dir'
          ? directory(names(3, 'sub'), () => plainNode('dir', { children: new Map() }))
          : plainNode(child === 'link' ? 'symlink' : 'fifo', child === 'link' ? { target: 'pipe' } : {}),
      )
    : directory(names(20, 'x'), () => plainNode('fifo')),
);

const good = writeBootstrap(root, [], { chunkSize: 4096, compressor: 3, digester: 0 });
const open = (bytes: Buffer) => openBootstrap(bytes, { subject: 'lazy' });
const rowsOf = (bytes: Buffer, path: string, recursive = false): Row[] =>
  [...listTree(open(bytes).root(), path, { recursive })].map(({ row }) => row);

/** The bootstrap with every inode overwritten that is not one of `kept`, and how many those are. */
function onlyWith(kept: (path: string) => boolean): { bytes: Buffer; overwritten: number } {
  const image = open(good);
  const bytes = Buffer.from(good);
  let overwritten = 0;
  for (const { path, node } of listTree(image.root(), '/', { recursive: true })) {
    if (kept(path)) continue;
    const at = image.superblock.metaBlkaddr * 4096 + node.nid! * 32;
    bytes.fill(0xff, at, at + 64);
    overwritten++;
  }
  return { bytes, overwritten };
}

describe('a bootstrap of ten thousand inodes', () => {
  it('is read on the way to a directory alone', () => {
    const { bytes, overwritten } = onlyWith((path) => path === '/' || /^\/wanted(\/[^/]*)?$/.test(path));
    expect(overwritten).toBeGreaterThan(10_000);
    expect(() => rowsOf(bytes, '/', true)).toThrowError(expect.objectContaining({ code: 'FORMAT' }));
    const rows = rowsOf(bytes, '/wanted');
    expect(rows.map(({ path }) => path)).toEqual(['/wanted', '/wanted/dir', '/wanted/link', '/wanted/pipe']);
    expect(rows).toEqual(rowsOf(good, '/', true).filter(({ path }) => /^\/wanted(\/[^/]*)?$/.test(path!)));
  });

  it('is read on the way to one path alone', () => {
    const { bytes } = onlyWith((path) => ['/', '/wanted', '/wanted/pipe'].includes(path));
    expect(rowsOf(bytes, '/wanted/pipe')).toHaveLength(1);
    expect(() => rowsOf(bytes, '/wanted')).toThrowError(expect.objectContaining({ code: 'FORMAT' }));
  });

  it('tells of every name and of none besides', () => {
    const image = open(good);
    for (const name of root.children!.keys()) expect(image.root().children!.has(name)).toBe(true);
    for (const name of ['', '.', '..', 'other', 'other500', 'wanted0', '~', '\x01']) {
      expect(open(good).root().children!.has(name), name).toBe(false);
    }
    expect(image.root().children!.size).toBe(501);
  });
});

describe('a part of an image', () => {
  it.each(['default', 'merged'])('is listed as it is in the whole: every directory of %s', (variant) => {
    const bytes = readFileSync(fixture('rafs', variant, 'bootstrap'));
    const withoutGroup = ({ link_group, ...row }: Row) => ({ ...row, shared: link_group !== undefined });
    const whole = rowsOf(bytes, '/', true);
    for (const directory of whole.filter(({ type }) => type === 'dir')) {
      const path = directory.path ?? Buffer.from(directory.path_b64!, 'base64').toString('latin1');
      const latin1 = directory.path === undefined ? path : Buffer.from(path).toString('latin1');
      const listed = new Map(rowsOf(bytes, latin1).map((row) => [row.path ?? row.path_b64, row]));
      expect(listed.size).toBeGreaterThan(0);
      for (const row of whole) {
        const found = listed.get(row.path ?? row.path_b64);
        if (found !== undefined) expect(withoutGroup(found)).toEqual(withoutGroup(row));
      }
    }
  });

  it('is what ls gives of a bare bootstrap', async () => {
    const { bytes } = onlyWith((path) => path === '/' || /^\/wanted(\/[^/]*)?$/.test(path));
    const folder = mkdtempSync(join(tmpdir(), 'll-'));
    try {
      writeFileSync(join(folder, 'bootstrap'), bytes);
      const found: Row[] = [];
      for await (const row of ls(`rafs:${join(folder, 'bootstrap')}`, { path: '/wanted' })) found.push(row);
      expect(found).toHaveLength(4);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
