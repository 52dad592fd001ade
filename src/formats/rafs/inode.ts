/** On-disk inodes, bytes ⇄ object. Compact inodes are only read, extended ones also written. */

import { i64, u16, u32, u64, zeros } from '../../binary/fields.ts';
import type { Reader } from '../../binary/reader.ts';
import { struct } from '../../binary/struct.ts';
import type { FileNode, Mtime, NodeType } from '../../tree/node.ts';
import { EROFS_H } from './layout.ts';

export const MAX_NSEC = 999_999_999;

const FORMAT = 'bit 0: extended; from bit 1: data layout, 0 plain, 2 inline, 4 chunk-based';
const XATTR_COUNT = '0 without attributes, else 1 + their bytes behind the 12 of the header / 4';
const UNION = 'start block, chunk format (bits 0…4: log2 of blocks in an extent; bit 5: indexes), or device number';

export const EXTENDED_INODE = struct('erofs_inode_extended', EROFS_H, 64, {
  format: u16(0, 'i_format', FORMAT),
  xattrCount: u16(2, 'i_xattr_icount', XATTR_COUNT),
  mode: u16(4, 'i_mode', 'type and permissions, as stat(2)'),
  reserved: zeros(6, 2, 'i_reserved'),
  size: u64(8, 'i_size', 'bytes'),
  union: u32(16, 'i_u', UNION),
  ino: u32(20, 'i_ino', 'for stat(2) on 32-bit hosts'),
  uid: u32(24, 'i_uid'),
  gid: u32(28, 'i_gid'),
  mtime: i64(32, 'i_mtime', 'seconds'),
  mtimeNsec: u32(40, 'i_mtime_nsec', `at most ${MAX_NSEC}`),
  nlink: u32(44, 'i_nlink', 'names, `.` and `..` included'),
  reserved2: zeros(48, 16, 'i_reserved2'),
});

/** Compact inodes: no time, 16-bit ids, a 32-bit size. */
export const COMPACT_INODE = struct('erofs_inode_compact', EROFS_H, 32, {
  format: u16(0, 'i_format', FORMAT),
  xattrCount: u16(2, 'i_xattr_icount', XATTR_COUNT),
  mode: u16(4, 'i_mode', 'type and permissions, as stat(2)'),
  nlink: u16(6, 'i_nlink', 'names, `.` and `..` included'),
  size: u32(8, 'i_size', 'bytes'),
  reserved: zeros(12, 4, 'i_reserved'),
  union: u32(16, 'i_u', UNION),
  ino: u32(20, 'i_ino', 'for stat(2) on 32-bit hosts'),
  uid: u16(24, 'i_uid'),
  gid: u16(26, 'i_gid'),
  reserved2: zeros(28, 4, 'i_reserved2'),
});

/** Fields up to i_ino lie at the same offsets in both. */
const { fields: INODE } = EXTENDED_INODE;
const { fields: COMPACT } = COMPACT_INODE;

export const INODE_SIZE: number = EXTENDED_INODE.size;
export const COMPACT_SIZE: number = COMPACT_INODE.size;

/** i_datalayout. */
export const LAYOUT = { PLAIN: 0, INLINE: 2, CHUNK_BASED: 4 } as const;
/** EROFS_CHUNK_FORMAT_INDEXES; the low five bits are log2(chunk size) − log2(block size). */
export const CHUNK_FORMAT_INDEXES = 0x20;
export const CHUNK_FORMAT_BITS = 0x1f;

/** S_IFMT values of stat(2), and EROFS_FT_* of directory entries. */
const KINDS: Readonly<Record<NodeType, { readonly mode: number; readonly entry: number }>> = {
  reg: { mode: 0o100000, entry: 1 },
  dir: { mode: 0o040000, entry: 2 },
  char: { mode: 0o020000, entry: 3 },
  block: { mode: 0o060000, entry: 4 },
  fifo: { mode: 0o010000, entry: 5 },
  socket: { mode: 0o140000, entry: 6 },
  symlink: { mode: 0o120000, entry: 7 },
};

const TYPE_OF_MODE: ReadonlyMap<number, NodeType> = new Map(
  Object.entries(KINDS).map(([type, { mode }]) => [mode, type as NodeType]),
);

/** file_type of a directory entry. */
export const entryTypeOf = (type: NodeType): number => KINDS[type].entry;

/** The kernel's 32-bit encoding of a device number (new_encode_dev). */
export function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & 0xfff00) << 12)) >>> 0;
}

export function decodeDevice(value: number): { major: number; minor: number } {
  return { major: (value >>> 8) & 0xfff, minor: (value & 0xff) | ((value >>> 12) & 0xfff00) };
}

export interface InodeFields {
  readonly layout: number;
  readonly xattrCount: number;
  readonly size: number;
  /** Start block of full data blocks, chunk format, or device number, depending on the type. */
  readonly union: number;
  readonly ino: number;
  readonly nlink: number;
}

/** Writes the inode of `node` into a zeroed buffer. */
export function writeInode(out: Buffer, at: number, node: FileNode, fields: InodeFields): void {
  INODE.format.write(out, at, 1 | (fields.layout << 1));
  INODE.xattrCount.write(out, at, fields.xattrCount);
  INODE.mode.write(out, at, KINDS[node.type].mode | node.mode);
  INODE.size.write(out, at, fields.size);
  INODE.union.write(out, at, fields.union);
  INODE.ino.write(out, at, fields.ino);
  INODE.uid.write(out, at, node.uid);
  INODE.gid.write(out, at, node.gid);
  INODE.mtime.write(out, at, node.mtime.sec);
  INODE.mtimeNsec.write(out, at, node.mtime.nsec);
  INODE.nlink.write(out, at, fields.nlink);
}

export interface DecodedInode extends InodeFields {
  readonly type: NodeType;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: Mtime;
  /** Bytes of the inode itself. */
  readonly inodeSize: number;
}

/** An inode as it is; its layout may be unknown. */
export interface RawInode extends Omit<DecodedInode, 'type'> {
  /** Type of the inode; null when it is unknown. */
  readonly type: NodeType | null;
}

/** Reads an inode of either form. */
export function readInode(reader: Reader, at: number): DecodedInode {
  const inode = decodeInode(reader, at);
  if (!isKnownLayout(inode.layout)) throw INODE.format.bad(reader, at, `unknown data layout ${inode.layout}`);
  if (!isKnownType(inode)) {
    throw INODE.mode.bad(reader, at, `unknown file type 0${INODE.mode.read(reader, at).toString(8)}`);
  }
  if (inode.mtime.nsec > MAX_NSEC) {
    throw INODE.mtimeNsec.bad(reader, at, `${inode.mtime.nsec} is not below a second`);
  }
  return inode;
}

const isKnownType = (inode: RawInode): inode is DecodedInode => inode.type !== null;

export const isKnownLayout = (layout: number): boolean =>
  layout === LAYOUT.PLAIN || layout === LAYOUT.INLINE || layout === LAYOUT.CHUNK_BASED;

/** Reads an inode of either form, nothing checked but that it is there. */
export function decodeInode(reader: Reader, at: number): RawInode {
  const format = INODE.format.read(reader, at);
  const isExtended = (format & 1) === 1;
  reader.check(at, isExtended ? INODE_SIZE : COMPACT_SIZE, 'inode');
  const fullMode = INODE.mode.read(reader, at);
  // One literal: a million of these are made.
  return {
    layout: format >> 1,
    xattrCount: INODE.xattrCount.read(reader, at),
    size: isExtended ? INODE.size.read(reader, at) : COMPACT.size.read(reader, at),
    union: INODE.union.read(reader, at),
    ino: INODE.ino.read(reader, at),
    nlink: isExtended ? INODE.nlink.read(reader, at) : COMPACT.nlink.read(reader, at),
    type: TYPE_OF_MODE.get(fullMode & 0o170000) ?? null,
    mode: fullMode & 0o7777,
    uid: isExtended ? INODE.uid.read(reader, at) : COMPACT.uid.read(reader, at),
    gid: isExtended ? INODE.gid.read(reader, at) : COMPACT.gid.read(reader, at),
    mtime: isExtended
      ? { sec: INODE.mtime.read(reader, at), nsec: INODE.mtimeNsec.read(reader, at) }
      : { sec: 0, nsec: 0 },
    inodeSize: isExtended ? INODE_SIZE : COMPACT_SIZE,
  };
}
