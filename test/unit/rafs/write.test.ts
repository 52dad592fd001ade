import { deepStrictEqual } from 'node:assert/strict';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openBootstrap } from '../../../src/formats/rafs/open.ts';
import { writeBootstrap } from '../../../src/formats/rafs/write.ts';
import { listTree } from '../../../src/inspect/entries.ts';
import { type FileNode, plainChunk } from '../../../src/tree/node.ts';
import { CHUNK_SIZE, plainNode, type RandomTree, randomTree } from '../../kit/random-tree.ts';

const OPTIONS = { chunkSize: CHUNK_SIZE, compressor: 3, digester: 1 } as const;
const write = ({ root, blobs }: RandomTree): Buffer => writeBootstrap(root, blobs, OPTIONS);
const open = (bytes: Buffer) => openBootstrap(bytes, { subject: 'test' });
const everything = (root: FileNode) =>
  [...listTree(root, '/', { recursive: true })].map(({ row, node }) => ({
    row,
    chunks: node.chunks.map((chunk) => plainChunk(chunk)),
  }));

describe('writeBootstrap', () => {
  it('gives back the tree it was given (property)', () => {
    fc.assert(
      fc.property(randomTree(), (tree) => {
        const image = open(write(tree));
        deepStrictEqual(everything(image.root()), everything(tree.root));
        const used = new Set(everything(tree.root).flatMap(({ chunks }) => chunks.map(({ blob }) => blob)));
        expect(new Set(image.blobs.map(({ id }) => id))).toEqual(used);
        for (const blob of image.blobs) expect(blob).toEqual(tree.blobs.find(({ id }) => id === blob.id));
      }),
      { numRuns: 150 },
    );
  });

  it('writes the same bytes for the same tree, whatever the order of its children, and again after reading it', () => {
    fc.assert(
      fc.property(randomTree(), (tree) => {
        const bytes = write(tree);
        const other = { ...tree, root: reversed(tree.root), blobs: [...tree.blobs].reverse() };
        expect(write(other).equals(bytes)).toBe(true);
        const image = open(bytes);
        expect(writeBootstrap(image.root(), image.blobs, OPTIONS).equals(bytes)).toBe(true);
      }),
      { numRuns: 50 },
    );
  });

  it('refuses what RAFS v6 has no room for, by name', () => {
    const failing = (node: FileNode) => () => {
      const root = plainNode('dir', { children: new Map([['it', node]]) });
      writeBootstrap(root, [], OPTIONS);
    };
    const unsupported = (message: RegExp) =>
      expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringMatching(message) });
    const withXattr = (name: string, length: number) =>
      plainNode('fifo', { xattrs: new Map([[name, Buffer.alloc(length)]]) });
    expect(failing(withXattr('com.apple.provenance', 1))).toThrowError(unsupported(/"com.apple.provenance"/));
    expect(failing(withXattr('user.large', 65536))).toThrowError(unsupported(/"user.large" of "it", 65536 bytes/));
    expect(failing(withXattr(`user.${'n'.repeat(256)}`, 1))).toThrowError(unsupported(/cannot be stored/));
    expect(failing(plainNode('char', { rdev: { major: 0x1000, minor: 0 } }))).toThrowError(
      unsupported(/4096:0 of "it"/),
    );
    expect(failing(plainNode('symlink', { target: 'x'.repeat(4096) }))).toThrowError(unsupported(/"it"/));
  });

  it('leaves attributes out that no Linux file system has, and tells of each', () => {
    const xattrs = new Map([
      ['user.kept', Buffer.from('1')],
      ['com.apple.provenance', Buffer.alloc(11)],
    ]);
    const root = plainNode('dir', { children: new Map([['it', plainNode('fifo', { xattrs })]]) });
    const dropped: object[] = [];
    const bytes = writeBootstrap(root, [], { ...OPTIONS, onDropped: (one) => void dropped.push(one) });
    expect(dropped).toEqual([{ file: 'it', xattr: 'com.apple.provenance', size: 11 }]);
    expect(open(bytes).root().children!.get('it')!.xattrs).toEqual(new Map([['user.kept', Buffer.from('1')]]));
  });

  it('refuses more blobs than a byte can name', () => {
    const blob = (i: number) => {
      const id = i.toString(16).padStart(64, '0');
      const chunk = { uncompressedOffset: 0, uncompressedSize: 1, compressedOffset: 0, compressedSize: 1, index: 0 };
      const file = plainNode('reg', {
        size: 1,
        chunks: [
          { ...chunk, compressor: 0, digester: 1, digest: Buffer.alloc(32, i), blob: id, crc32c: null, within: null },
        ],
      });
      const sizes = {
        compressedSize: 1000,
        uncompressedSize: 4096,
        tocSize: 0,
        tocDigest: Buffer.alloc(32),
        cipher: null,
        metaDigest: null,
        metaSize: 0,
      };
      const ci = { ciCompressor: 0, ciOffset: 1, ciCompressedSize: 16, ciUncompressedSize: 16 } as const;
      const kinds = { chunkSize: CHUNK_SIZE, chunkCount: 1, compressor: 0, digester: 1, features: 1 } as const;
      return { file, blob: { id, ...kinds, ...sizes, ...ci } };
    };
    const image = (count: number) => {
      const all = Array.from({ length: count }, (_, i) => blob(i));
      const root = plainNode('dir', { children: new Map(all.map(({ file }, i) => [String(i), file])) });
      return writeBootstrap(
        root,
        all.map((one) => one.blob),
        OPTIONS,
      );
    };
    expect(open(image(254)).blobs).toHaveLength(254);
    expect(() => image(255)).toThrowError(expect.objectContaining({ code: 'UNSUPPORTED' }));
  });
});

/** The same tree with the children of every directory the other way round. */
function reversed(node: FileNode, known = new Map<FileNode, FileNode>()): FileNode {
  const before = known.get(node);
  if (before !== undefined) return before;
  const children =
    node.children && new Map([...node.children].reverse().map(([k, child]) => [k, reversed(child, known)]));
  const copy = { ...node, children };
  known.set(node, copy);
  return copy;
}
