/** Damaged and hostile bootstraps: an error that names the field, or a tree; never a crash, a hang, or memory by their say-so. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { isLacunaError } from '../../../src/errors.ts';
import { openBootstrap } from '../../../src/formats/rafs/open.ts';
import { writeBootstrap } from '../../../src/formats/rafs/write.ts';
import { listTree } from '../../../src/reader/rows.ts';
import { type FileNode, fromText } from '../../../src/tree/node.ts';
import { fixture } from '../../kit/layers.ts';
import { random } from '../../kit/random.ts';
import { plainNode } from '../../kit/random-tree.ts';

const ROUNDS = 1200;
/** Far more than reading any of these takes; what a loop or a quadratic walk would exceed. */
const SLOW_MS = 2000;

/** Reads everything there is. */
function readAll(bytes: Buffer): void {
  const image = openBootstrap(bytes, { subject: 'hostile' });
  for (const [i] of image.blobs.entries()) image.chunksOf(i);
  for (const { node } of listTree(image.root(), '/', { recursive: true })) void node.chunks;
}

/** Values at which counts, sizes and offsets go wrong. */
const VALUES = [
  0n,
  1n,
  2n,
  7n,
  0x7fn,
  0xffn,
  0x1000n,
  0xffffn,
  0x7fffffffn,
  0xffffffffn,
  1n << 32n,
  1n << 40n,
  1n << 53n,
  (1n << 64n) - 1n,
];

function mutate(original: Buffer, pick: (below: number) => number): Buffer {
  let bytes = Buffer.from(original);
  for (let n = 1 + pick(3); n > 0; n--) {
    // Half of the changes hit superblocks and tables, where one field governs everything.
    const at = pick(2) === 0 ? 1024 + pick(1024) : pick(2) === 0 ? 4096 + pick(512) : pick(bytes.length);
    const value = VALUES[pick(VALUES.length)]!;
    const kind = pick(8);
    if (kind === 0) bytes[Math.min(at, bytes.length - 1)] = pick(256);
    else if (kind === 1) bytes[Math.min(at, bytes.length - 1)]! ^= 1 << pick(8);
    else if (kind === 2) bytes.writeUInt16LE(Number(value & 0xffffn), Math.min(at & ~1, bytes.length - 2));
    else if (kind === 3 || kind === 4)
      bytes.writeUInt32LE(Number(value & 0xffffffffn), Math.min(at & ~3, bytes.length - 4));
    else if (kind === 5) bytes.writeBigUInt64LE(value, Math.min(at & ~7, bytes.length - 8));
    else if (kind === 6)
      bytes.copy(bytes, Math.min(at & ~31, bytes.length - 64), pick(bytes.length - 64) & ~31, bytes.length);
    else bytes = Buffer.from(bytes.subarray(0, 4096 + (pick(bytes.length - 4095) & ~4095)));
  }
  return bytes;
}

/** A tree with everything in it, small enough to be read thousands of times. */
function smallTree(): Buffer {
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
  const names = Array.from({ length: 300 }, (_, i): [string, FileNode] => [
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

describe('mutated bootstraps', () => {
  it.each([
    ['ours', smallTree()],
    ['one layer with a chunk dict', readFileSync(fixture('rafs/chunk-dict/bootstrap'))],
    ['three merged layers', readFileSync(fixture('rafs/merged/bootstrap')).subarray(0)],
  ])('%s', (_, original) => {
    const pick = random(original.length);
    const rounds = original.length > 100_000 ? ROUNDS / 8 : ROUNDS;
    let refused = 0;
    for (let round = 0; round < rounds; round++) {
      const bytes = mutate(original, pick);
      const begin = performance.now();
      try {
        readAll(bytes);
      } catch (error) {
        const isExpected = isLacunaError(error) && (error.code === 'FORMAT' || error.code === 'UNSUPPORTED');
        if (!isExpected) throw new Error(`round ${round}`, { cause: error });
        refused++;
      }
      if (performance.now() - begin > SLOW_MS) throw new Error(`round ${round} took ${performance.now() - begin} ms`);
    }
    expect(refused).toBeGreaterThan(rounds / 4);
    expect(refused).toBeLessThan(rounds);
  });
});

describe('hostile bootstraps', () => {
  const good = smallTree();
  const reader = openBootstrap(good, { subject: 'good' });
  const meta = reader.superblock.metaBlkaddr * 4096;
  /** Offset of the inode of the root's entry `name`. */
  const inodeOf = (name: string): number => {
    const root = meta + 4096;
    const entries = root + 64 + good.readUInt16LE(root + 2) * 4 + 8;
    for (let at = entries; ; at += 12) {
      const nameAt = entries + good.readUInt16LE(at + 8);
      if (good.toString('latin1', nameAt, nameAt + name.length) === name)
        return meta + Number(good.readBigUInt64LE(at)) * 32;
    }
  };
  const changed = (change: (bytes: Buffer) => void) => () => {
    const bytes = Buffer.from(good);
    change(bytes);
    readAll(bytes);
  };
  const format = (field: string, message: RegExp) =>
    expect.objectContaining({ code: 'FORMAT', field, message: expect.stringMatching(message) });

  it('a bootstrap cut short, or not one at all', () => {
    expect(() => readAll(good.subarray(0, 1000))).toThrowError(
      format('bootstrap', /1000 bytes are not a whole number/),
    );
    expect(() => readAll(Buffer.alloc(0))).toThrowError(format('bootstrap', /0 bytes/));
    expect(() => readAll(Buffer.alloc(4096))).toThrowError(format('magic', /at byte 1024/));
  });

  it('a size that would need more memory than there is', () => {
    const size = (value: bigint) => changed((bytes) => void bytes.writeBigUInt64LE(value, inodeOf('file') + 8));
    expect(size(1n << 52n)).toThrowError(format('chunk indexes', /more metadata than the bootstrap is long/));
    expect(size((1n << 64n) - 1n)).toThrowError(format('i_size', /2\^53/));
    const sub = (value: bigint) => changed((bytes) => void bytes.writeBigUInt64LE(value, inodeOf('sub') + 8));
    expect(sub(1n << 52n)).toThrowError(format('directory', /more metadata than the bootstrap is long/));
  });

  it('a blob id that is a path', () => {
    const evil = '../../../../etc/cron.d/x'.padEnd(64, '0');
    const both = (bytes: Buffer) => {
      bytes.write(evil, 1408, 'latin1');
      bytes.write(evil, 4096, 'latin1');
    };
    expect(changed(both)).toThrowError(format('blob_id', /not 64 lower-case hex digits/));
    expect(changed((bytes) => void bytes.write('a'.repeat(64), 1408))).toThrowError(
      format('device tag', /another blob/),
    );
  });

  it('a directory that contains itself', () => {
    const sub = (inodeOf('sub') - meta) / 32;
    const subEntries = inodeOf('sub') + 64;
    const loop = (bytes: Buffer) => {
      // "deeper" is the third entry, after the dots.
      bytes.writeBigUInt64LE(BigInt(sub), subEntries + 24);
    };
    expect(changed(loop)).toThrowError(format('nid', /reached twice/));
  });

  it('a chunk that is not the one the file needs', () => {
    const file = inodeOf('file') + 64;
    expect(changed((bytes) => void bytes.writeUInt32LE(1, file + 4))).toThrowError(
      format('chunk index', /not in the chunk table/),
    );
    expect(changed((bytes) => void bytes.writeUInt16LE(9, file))).toThrowError(
      format('chunk index', /chunk 9 of blob 0/),
    );
    expect(changed((bytes) => void bytes.writeBigUInt64LE(5000n, inodeOf('file') + 8))).toThrowError(
      format('chunk index', /4096 bytes where 904 belong/),
    );
    const lies = (bytes: Buffer) => void bytes.writeUInt32LE(0x20 + 31, inodeOf(fromText('größe')) + 16);
    expect(changed(lies)).toThrowError(format('i_u.c.format', /8796093022208 bytes/));
  });

  it('names that a kernel would not find or a tool would misread', () => {
    const sub = inodeOf('sub') + 64;
    // ".", "..", "deeper", "s": names begin behind four entries of 12 bytes.
    const names = sub + 48;
    expect(good.toString('latin1', names, names + 10)).toBe('...deepers');
    expect(changed((bytes) => void bytes.write('de/per', names + 3))).toThrowError(format('name', /slash or NUL/));
    expect(changed((bytes) => void bytes.write('zzzzzz', names + 3))).toThrowError(format('name', /not sorted/));
    expect(changed((bytes) => void bytes.writeUInt16LE(13, sub + 8))).toThrowError(
      format('nameoff', /the first is 13/),
    );
    expect(changed((bytes) => void bytes.writeUInt16LE(60, sub + 20))).toThrowError(
      format('nameoff', /strictly rising/),
    );
    expect(changed((bytes) => void bytes.writeUInt8(1, sub + 24 + 10))).toThrowError(
      format('file_type', /1 for a dir/),
    );
  });

  it('two chunks in the same place, and tables that overlap', () => {
    const table = reader.superblock.chunkTableOffset;
    expect(changed((bytes) => void bytes.writeBigUInt64LE(0n, table + 80 + 56))).toThrowError(
      format('uncompressed_offset', /overlaps/),
    );
    expect(changed((bytes) => void bytes.writeUInt32LE(0, table + 80 + 72))).toThrowError(
      format('index', /chunk 0 .* twice/),
    );
    expect(changed((bytes) => void bytes.writeBigUInt64LE(4096n, 1152 + 24))).toThrowError(
      format(expect.anything(), /overlaps another table/),
    );
  });

  it('many directories that share one block cost no more than the file is long', () => {
    const [sub, large] = [inodeOf('sub'), inodeOf('large')];
    const shared = (bytes: Buffer) => {
      // "sub" claims to be as large as the whole file, over everything.
      bytes.writeUInt16LE(1, sub);
      bytes.writeBigUInt64LE(BigInt(good.length - 8192), sub + 8);
      bytes.writeUInt32LE(good.readUInt32LE(large + 16), sub + 16);
    };
    expect(changed(shared)).toThrowError(expect.objectContaining({ code: 'FORMAT' }));
  });
});
