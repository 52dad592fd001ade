/**
 * Damaged and hostile bootstraps: an error that names the field, or a tree; never a crash, a hang, or memory by their
 * say-so.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { describe, expect, it } from 'vitest';
import type { RafsBlob } from '../../../src/formats/rafs/blob.ts';
import { ChunkInfo } from '../../../src/formats/rafs/chunk-info.ts';
import { unpackMeta } from '../../../src/formats/rafs/meta.ts';
import { openBootstrap } from '../../../src/formats/rafs/open.ts';
import { listTree } from '../../../src/inspect/entries.ts';
import { portableCodec } from '../../../src/native/codec.ts';
import { fromText } from '../../../src/tree/node.ts';
import { fixture } from '../../kit/layers.ts';
import { needs } from '../../kit/skip.ts';
import { smallBootstrap } from '../../kit/small-bootstrap.ts';

/** Reads everything there is. */
function readAll(bytes: Buffer): void {
  const image = openBootstrap(bytes, { subject: 'hostile' });
  for (const [i] of image.blobs.entries()) image.chunksOf(i);
  for (const { node } of listTree(image.root(), '/', { recursive: true })) void node.chunks;
}

const zstd = (data: Buffer): Buffer =>
  (createRequire(import.meta.url)('zstd-napi') as { compress(data: Buffer): Buffer }).compress(data);

const format = (field: string, message: RegExp) =>
  expect.objectContaining({ code: 'FORMAT', field, message: expect.stringMatching(message) });

describe('hostile bootstraps', () => {
  const good = smallBootstrap();
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
  it('a bootstrap cut short, or not one at all', () => {
    expect(() => readAll(good.subarray(0, 1000))).toThrowError(
      format('bootstrap', /1000 bytes are not a whole number/),
    );
    expect(() => readAll(Buffer.alloc(0))).toThrowError(format('bootstrap', /0 bytes/));
    expect(() => readAll(Buffer.alloc(4096))).toThrowError(format('magic', /at byte 1024/));
  });

  it('a size that would need more memory than there is', () => {
    const size = (value: bigint) => changed((bytes) => void bytes.writeBigUInt64LE(value, inodeOf('file') + 8));
    expect(size(1n << 52n)).toThrowError(format('chunk indexes', /the metadata exceeds the length of the bootstrap/));
    expect(size((1n << 64n) - 1n)).toThrowError(format('i_size', /2\^53/));
    const sub = (value: bigint) => changed((bytes) => void bytes.writeBigUInt64LE(value, inodeOf('sub') + 8));
    expect(sub(1n << 52n)).toThrowError(format('directory', /the metadata exceeds the length of the bootstrap/));
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
      format('chunk index', /the chunk has 4096 bytes, not 904/),
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
      format('file_type', /1 does not match a dir/),
    );
  });

  it('two chunks in the same place, and tables that overlap', () => {
    const table = reader.superblock.chunkTableOffset;
    expect(changed((bytes) => void bytes.writeBigUInt64LE(0n, table + 80 + 56))).toThrowError(
      format('uncompressed_offset', /overlaps/),
    );
    expect(changed((bytes) => void bytes.writeUInt32LE(0, table + 80 + 72))).toThrowError(
      format('index', /duplicate chunk 0 /),
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

const skip = needs('zstd-napi');

describe.skipIf(skip.reason)('hostile chunk info', () => {
  /** The fixture's blob and its plain chunk info: 174 entries, four batches; spans of a gzip stream with windows. */
  const opened = async (variant: string, file: (blob: RafsBlob) => string) => {
    const [blob] = openBootstrap(readFileSync(fixture('rafs', variant, 'bootstrap')), { subject: variant }).blobs;
    const stored = readFileSync(fixture('rafs', variant, file(blob!)));
    const packed = stored.subarray(blob!.ciOffset, blob!.ciOffset + blob!.ciCompressedSize + 4096);
    return { blob: blob!, meta: await unpackMeta(packed, blob!, portableCodec(), variant) };
  };
  const readAllInfo = (meta: Buffer, blob: RafsBlob) => {
    const info = new ChunkInfo(meta, blob, 'hostile');
    for (let i = 0; i < info.length; i++) info.within(i, info.entry(i).uncompressedSize);
  };
  type Change = (meta: Buffer, header: number, contexts: number) => void;

  it.each<[string, string, RegExp, Change]>([
    ['magic', 's_magic', /not the header/, (meta, header) => void meta.writeUInt32LE(0, header)],
    ['the other magic', 's_magic', /not the header/, (meta, header) => void meta.writeUInt32LE(0, header + 4092)],
    ['features', 's_features', /in the blob table/, (meta, header) => void meta.writeUInt32LE(1, header + 4)],
    [
      'entries',
      's_ci_entries',
      /174 in the blob table/,
      (meta, header) => void meta.writeUInt32LE(1 << 24, header + 12),
    ],
    ['size', 's_ci_uncompressed_size', /in the blob table/, (meta, header) => void meta.writeUInt32LE(1, header + 32)],
    [
      'place of contexts',
      's_ci_zran_offset',
      /in the blob table/,
      (meta, header) => void meta.writeUInt32LE(8, header + 40),
    ],
    [
      'size of contexts',
      's_ci_zran_size',
      /in the blob table/,
      (meta, header) => void meta.writeUInt32LE(8, header + 48),
    ],
    ['contexts', 's_ci_zran_count', /too many/, (meta, header) => void meta.writeUInt32LE(0xffff_ffff, header + 56)],
    ['no contexts', 'context', /context 0 does not exist/, (meta, header) => void meta.writeUInt32LE(0, header + 56)],
    ['unknown flags', 'flags', /unknown bits/, (meta) => void meta.writeUInt8(0x80, 7)],
    ['zran in a batch blob', 'flags', /another kind/, (meta) => void meta.writeUInt8(2, 7)],
    ['an empty batch', 'context', /invalid sizes/, (meta, _, at) => void meta.writeUInt32LE(0, at)],
    ['a huge batch', 'context', /invalid sizes/, (meta, _, at) => void meta.writeUInt32LE(0x0300_0000, at + 4)],
    [
      'a batch beyond the blob',
      'context',
      /exceeds the blob/,
      (meta, _, at) => void meta.writeUInt32LE(0x0100_0000, at),
    ],
    ['a batch too small', 'offset', /exceed the unit/, (meta, _, at) => void meta.writeUInt32LE(16, at + 4)],
  ])('batches: %s', async (_, field, message, change) => {
    const { blob, meta } = await opened('batch', ({ id }) => id);
    readAllInfo(meta, blob);
    change(meta, meta.length - 4096, blob.chunkCount * 24);
    expect(() => readAllInfo(meta, blob)).toThrowError(
      expect.objectContaining({ code: 'FORMAT', field, message: expect.stringMatching(message) }),
    );
  });

  it.each<[string, string, RegExp, Change]>([
    ['beyond 2^53', 'in_offset', /2\^53/, (meta, _, at) => void meta.fill(0xff, at, at + 8)],
    ['a span beyond the blob', 'context', /exceeds the blob/, (meta, _, at) => void meta.writeUInt32LE(1 << 20, at)],
    ['an empty span', 'context', /invalid sizes/, (meta, _, at) => void meta.writeUInt32LE(0, at + 24)],
    ['a huge span', 'context', /invalid sizes/, (meta, _, at) => void meta.writeUInt32LE(0xffff_ffff, at + 28)],
    ['a short span', 'offset', /exceed the unit's 1 bytes/, (meta, _, at) => void meta.writeUInt32LE(1, at + 28)],
    [
      'a window too large',
      'dict_size',
      /exceed the windows/,
      (meta, _, at) => void meta.writeUInt32LE(32_769, at + 32),
    ],
    [
      'a window elsewhere',
      'dict_size',
      /exceed the windows/,
      (meta, _, at) => {
        meta.writeUInt32LE(0x7fff_ffff, at + 16);
      },
    ],
    ['bits', 'ctx_bits', /8 bits/, (meta, _, at) => void meta.writeUInt8(8, at + 37)],
    [
      'bits of no byte',
      'ctx_bits',
      /1 bits/,
      (meta, _, at) => {
        meta.writeBigUInt64LE(0n, at);
        meta[at + 37] = 1;
      },
    ],
  ])('spans: %s', async (_, field, message, change) => {
    const { blob, meta } = await opened('zran-single', ({ metaDigest }) => metaDigest!.toString('hex'));
    readAllInfo(meta, blob);
    change(meta, meta.length - 4096, blob.chunkCount * 24);
    expect(() => readAllInfo(meta, blob)).toThrowError(
      expect.objectContaining({ code: 'FORMAT', field, message: expect.stringMatching(message) }),
    );
  });

  it('a bomb, and one cut short', async () => {
    const { blob } = await opened('batch', ({ id }) => id);
    const lies = { ...blob, ciCompressedSize: 17, ciUncompressedSize: 8000 };
    const stored = Buffer.concat([zstd(Buffer.alloc(2 ** 24)).subarray(0, 17), Buffer.alloc(4096)]);
    await expect(unpackMeta(stored, lies, portableCodec(), 'bomb')).rejects.toMatchObject({ code: 'FORMAT' });
    await expect(unpackMeta(Buffer.alloc(100), blob, portableCodec(), 'short')).rejects.toMatchObject({
      code: 'FORMAT',
      field: 'ci_compressed_size',
    });
  });
});

describe('hostile blob tables', () => {
  const change = (variant: string, at: number, write: (bytes: Buffer, at: number) => void) => () => {
    const bytes = readFileSync(fixture('rafs', variant, 'bootstrap'));
    write(bytes, bytes.readUInt32LE(1152 + 8) + at);
    readAll(bytes);
  };
  const u32 = (value: number) => (bytes: Buffer, at: number) => void bytes.writeUInt32LE(value, at);
  const features = (value: number) => u32(0x4000_0000 + value);

  it.each<[string, number, (bytes: Buffer, at: number) => void, string]>([
    ['encrypted', 216, u32(0), 'cipher_algo'],
    ['encrypted', 216, u32(9), 'cipher_algo'],
    ['default', 216, u32(1), 'cipher_algo'],
    ['encrypted', 84, features(0x101), 'features'],
    ['default', 84, features(0x81), 'features'],
    ['zran', 84, features(0x8d), 'features'],
    ['default', 84, features(0x40), 'features'],
    ['tarfs', 84, features(1), 'features'],
    ['batch', 128, u32(4175), 'ci_uncompressed_size'],
    ['batch', 128, u32(0x1000_0001), 'ci_uncompressed_size'],
    ['default', 128, u32(1), 'ci_uncompressed_size'],
    ['default', 104, u32(4097), 'blob_toc_size'],
    ['default', 72, u32(0x0100_0000), 'chunk_count'],
  ])('%s, byte %i of the entry: %o', (variant, at, write, field) => {
    expect(change(variant, at, write)).toThrowError(expect.objectContaining({ code: 'FORMAT', field }));
  });

  it('names what no version reads', () => {
    const unsupported = (message: RegExp) =>
      expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringMatching(message) });
    expect(change('default', 84, features(0x1001))).toThrowError(unsupported(/the feature 0x1000/));
    expect(change('encrypted', 216, u32(2))).toThrowError(unsupported(/AES-256/));
    const hole = (bytes: Buffer) => {
      const table = bytes.readUInt32LE(1152 + 24);
      bytes.writeUInt32LE(0x12, table + 36);
    };
    expect(change('default', 0, hole)).toThrowError(unsupported(/hole/));
  });

  it('a chunk that is encrypted in a blob without a key', () => {
    const flag = (bytes: Buffer) => void bytes.writeUInt32LE(0x15, bytes.readUInt32LE(1152 + 24) + 36);
    expect(change('default', 0, flag)).toThrowError(format('flags', /no key/));
  });
});
