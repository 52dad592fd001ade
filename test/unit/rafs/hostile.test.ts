/** Damaged and hostile bootstraps: an error that names the field, or a tree; never a crash, a hang, or memory by their say-so. */
import { describe, expect, it } from 'vitest';
import { openBootstrap } from '../../../src/formats/rafs/open.ts';
import { listTree } from '../../../src/reader/rows.ts';
import { fromText } from '../../../src/tree/node.ts';
import { smallBootstrap } from '../../kit/small-bootstrap.ts';

/** Reads everything there is. */
function readAll(bytes: Buffer): void {
  const image = openBootstrap(bytes, { subject: 'hostile' });
  for (const [i] of image.blobs.entries()) image.chunksOf(i);
  for (const { node } of listTree(image.root(), '/', { recursive: true })) void node.chunks;
}

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
