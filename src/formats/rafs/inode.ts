/** Extended on-disk inodes (struct erofs_inode_extended); compact ones are only read. */
import type { FileNode, Mtime, NodeType } from '../../tree/node.ts';
import { putI64, putU64, type Reader } from './bytes.ts';

export const INODE_SIZE = 64;
export const COMPACT_SIZE = 32;

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
  /** Start block of full data blocks, chunk format, or device number, by type. */
  readonly union: number;
  readonly ino: number;
  readonly nlink: number;
}

/** Writes the inode of `node` into a zeroed buffer. */
export function writeInode(out: Buffer, at: number, node: FileNode, fields: InodeFields): void {
  out.writeUInt16LE(1 | (fields.layout << 1), at); // i_format
  out.writeUInt16LE(fields.xattrCount, at + 2); // i_xattr_icount
  out.writeUInt16LE(KINDS[node.type].mode | node.mode, at + 4); // i_mode
  putU64(out, fields.size, at + 8); // i_size
  out.writeUInt32LE(fields.union, at + 16); // i_u
  out.writeUInt32LE(fields.ino, at + 20); // i_ino
  out.writeUInt32LE(node.uid, at + 24); // i_uid
  out.writeUInt32LE(node.gid, at + 28); // i_gid
  putI64(out, node.mtime.sec, at + 32); // i_mtime
  out.writeUInt32LE(node.mtime.nsec, at + 40); // i_mtime_nsec
  out.writeUInt32LE(fields.nlink, at + 44); // i_nlink
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
  /** Null for an unknown one. */
  readonly type: NodeType | null;
}

/** Reads an inode of either form. */
export function readInode(reader: Reader, at: number): DecodedInode {
  const inode = decodeInode(reader, at);
  if (!isKnownLayout(inode.layout)) throw reader.bad('i_format', `unknown data layout ${inode.layout}`, at);
  if (!isKnownType(inode)) {
    throw reader.bad('i_mode', `unknown file type 0${reader.u16(at + 4, 'i_mode').toString(8)}`, at + 4);
  }
  if (inode.mtime.nsec > MAX_NSEC) {
    throw reader.bad('i_mtime_nsec', `${inode.mtime.nsec} is not below a second`, at + 40);
  }
  return inode;
}

const isKnownType = (inode: RawInode): inode is DecodedInode => inode.type !== null;

export const MAX_NSEC = 999_999_999;
export const isKnownLayout = (layout: number): boolean =>
  layout === LAYOUT.PLAIN || layout === LAYOUT.INLINE || layout === LAYOUT.CHUNK_BASED;

/** Reads an inode of either form, nothing checked but that it is there. */
export function decodeInode(reader: Reader, at: number): RawInode {
  const format = reader.u16(at, 'i_format');
  const isExtended = (format & 1) === 1;
  reader.check(at, isExtended ? INODE_SIZE : COMPACT_SIZE, 'inode');
  const fullMode = reader.u16(at + 4, 'i_mode');
  // struct erofs_inode_compact has no time, 16-bit ids, a 32-bit size. One literal: a million of these are made.
  return {
    layout: format >> 1,
    xattrCount: reader.u16(at + 2, 'i_xattr_icount'),
    size: isExtended ? reader.u64(at + 8, 'i_size') : reader.u32(at + 8, 'i_size'),
    union: reader.u32(at + 16, 'i_u'),
    ino: reader.u32(at + 20, 'i_ino'),
    nlink: isExtended ? reader.u32(at + 44, 'i_nlink') : reader.u16(at + 6, 'i_nlink'),
    type: TYPE_OF_MODE.get(fullMode & 0o170000) ?? null,
    mode: fullMode & 0o7777,
    uid: isExtended ? reader.u32(at + 24, 'i_uid') : reader.u16(at + 24, 'i_uid'),
    gid: isExtended ? reader.u32(at + 28, 'i_gid') : reader.u16(at + 26, 'i_gid'),
    mtime: isExtended
      ? { sec: reader.i64(at + 32, 'i_mtime'), nsec: reader.u32(at + 40, 'i_mtime_nsec') }
      : { sec: 0, nsec: 0 },
    inodeSize: isExtended ? INODE_SIZE : COMPACT_SIZE,
  };
}
