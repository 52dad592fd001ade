/** A bootstrap for tests that read it thousands of times. */
import { writeBootstrap } from '../../src/formats/rafs/write.ts';
import { type FileNode, fromText } from '../../src/tree/node.ts';
import { plainNode } from './random-tree.ts';

/** A tree with everything in it, small enough to be read thousands of times. */
/** `entries`: how many its largest directory has; beyond 127 it takes more than a block. */
export function smallBootstrap(entries = 300): Buffer {
  const blob = '5'.repeat(64);
  const chunk = (index: number) => ({
    uncompressedOffset: index * 4096,
    uncompressedSize: 4096,
    compressedOffset: index * 4096,
    compressedSize: 4096,
    compressor: 0 as const,
    digester: 0 as const,
    digest: Buffer.alloc(32, index),
    within: null,
    blob,
    index,
    crc32c: null,
  });
  const names = Array.from({ length: entries }, (_, i): [string, FileNode] => [
    `${i}`.padStart(20, '-'),
    plainNode('fifo'),
  ]);
  const file = plainNode('reg', { size: 12_288, chunks: [chunk(0), chunk(1), chunk(2)] });
  const root = plainNode('dir', {
    xattrs: new Map([['user.a', Buffer.from('x')]]),
    children: new Map([
      ['file', file],
      ['link', file],
      [fromText('größe'), plainNode('reg', { size: 8192, chunks: [chunk(2), chunk(0)] })],
      [
        'sub',
        plainNode('dir', {
          children: new Map([
            ['deeper', plainNode('dir')],
            ['s', plainNode('symlink', { target: 'x/y' })],
          ]),
        }),
      ],
      ['large', plainNode('dir', { children: new Map(names) })],
      ['dev', plainNode('char', { rdev: { major: 1, minor: 3 } })],
    ]),
  });
  const sizes = {
    compressedSize: 20_000,
    uncompressedSize: 12_288,
    tocSize: 0,
    tocDigest: Buffer.alloc(32),
    cipher: null,
    metaDigest: null,
    metaSize: 0,
  };
  const ci = { ciCompressor: 0, ciOffset: 12_800, ciCompressedSize: 48, ciUncompressedSize: 48 } as const;
  const kinds = { chunkSize: 4096, chunkCount: 3, compressor: 3, digester: 0, features: 1 } as const;
  return writeBootstrap(root, [{ id: blob, ...kinds, ...sizes, ...ci }], {
    chunkSize: 4096,
    compressor: 3,
    digester: 0,
  });
}
