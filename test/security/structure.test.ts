/** A bootstrap is looked at before the kernel mounts it: what it must not meet is refused, what other tools write is not. */
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openBootstrap } from '../../src/formats/rafs/open.ts';
import { checkStructure } from '../../src/formats/rafs/structure.ts';
import { fixture } from '../kit/layers.ts';
import { smallBootstrap } from '../kit/small-bootstrap.ts';

function check(bytes: Buffer, blobId?: string): void {
  const { superblock, blobs } = openBootstrap(bytes, { subject: 'test', ...(blobId === undefined ? {} : { blobId }) });
  checkStructure(bytes, superblock, blobs.length, 'test');
}

const bootstraps = readdirSync(fixture('rafs')).flatMap((variant) =>
  readdirSync(fixture('rafs', variant))
    .filter((name) => name === 'bootstrap' || name.endsWith('.boot'))
    .map((name) => [variant, name] as const),
);

describe('bootstraps of other tools', () => {
  it.each(bootstraps)('%s, %s is taken', (variant, name) => {
    const blobId = /^([0-9a-f]{64})\.boot$/.exec(name)?.[1];
    check(readFileSync(fixture('rafs', variant, name)), blobId);
  });
});

describe('a bootstrap that the kernel must not meet', () => {
  const good = smallBootstrap();
  const { superblock } = openBootstrap(good, { subject: 'good' });
  const meta = superblock.metaBlkaddr * 4096;
  const root = meta + superblock.rootNid * 32;
  /** Where the entries of a directory lie whose data follows its inode. */
  const entriesOf = (inode: number): number => {
    const xattrs = good.readUInt16LE(inode + 2);
    return inode + 64 + (xattrs === 0 ? 0 : 12 + (xattrs - 1) * 4);
  };
  const entryOf = (inode: number, name: string): number => {
    const entries = entriesOf(inode);
    for (let at = entries; ; at += 12) {
      const nameAt = entries + good.readUInt16LE(at + 8);
      if (good.toString('latin1', nameAt, nameAt + name.length) === name) return at;
    }
  };
  const inodeOf = (name: string, directory = root): number =>
    meta + Number(good.readBigUInt64LE(entryOf(directory, name))) * 32;
  const nidOf = (name: string): bigint => good.readBigUInt64LE(entryOf(root, name));

  it('nothing is wrong with the one that is changed', () => check(good));

  const faults: ReadonlyArray<readonly [string, string, (bytes: Buffer) => void]> = [
    ['a root that is a file', 'root_nid', (bytes) => bytes.writeUInt16LE(Number(nidOf('file')), 1024 + 14)],
    ['a directory within itself', 'nid', (b) => b.writeBigUInt64LE(nidOf('sub'), entryOf(inodeOf('sub'), 'deeper'))],
    ['an inode behind the end', 'i_format', (b) => b.writeBigUInt64LE(1n << 40n, entryOf(root, 'file'))],
    ['a compressed layout', 'i_format', (b) => b.writeUInt16LE(1 | (1 << 1), inodeOf('file'))],
    ['a type that there is none of', 'i_mode', (b) => b.writeUInt16LE(0o030644, inodeOf('file') + 4)],
    ['an entry of another type than its inode', 'file_type', (b) => b.writeUInt8(2, entryOf(root, 'file') + 10)],
    ['names out of order', 'name', (b) => b.write('a', entriesOf(root) + b.readUInt16LE(entryOf(root, 'sub') + 8))],
    ['a directory without dots', 'directory', (b) => b.writeBigUInt64LE(0n, inodeOf('sub') + 8)],
    ['a parent that is another', 'nid', (b) => b.writeBigUInt64LE(nidOf('sub'), entriesOf(inodeOf('sub')) + 12)],
    ['a directory larger than the file', 'directory', (b) => b.writeBigUInt64LE(1n << 40n, inodeOf('large') + 8)],
    ['blocks behind the end', 'dir data', (b) => b.writeUInt32LE(0xffff_fff0, inodeOf('large') + 16)],
    ['a file of another extent format', 'i_u.c.format', (b) => b.writeUInt32LE(0x140, inodeOf('file') + 16)],
    ['indexes behind the end', 'chunk indexes', (b) => b.writeBigUInt64LE(1n << 50n, inodeOf('file') + 8)],
    ['a device that is not there', 'device_id', (b) => b.writeUInt16LE(9, inodeOf('file') + 64 + 2)],
    ['attributes that run out of their inode', 'e_value_size', (b) => b.writeUInt16LE(9000, root + 64 + 12 + 2)],
    ['a link without a target', 'i_size', (b) => b.writeBigUInt64LE(0n, inodeOf('s', inodeOf('sub')) + 8)],
  ];

  it.each(faults)('%s is refused, and %s named', (_, field, change) => {
    const bytes = Buffer.from(good);
    change(bytes);
    expect(() => check(bytes)).toThrowError(expect.objectContaining({ code: 'FORMAT', field }));
  });

  it('a directory that two names lead to is refused', () => {
    const bytes = Buffer.from(good);
    bytes.writeBigUInt64LE(nidOf('sub'), entryOf(root, 'large'));
    expect(() => check(bytes)).toThrowError(/reached twice/);
  });
});
