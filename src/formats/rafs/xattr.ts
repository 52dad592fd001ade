/** Inline extended attributes of an inode (struct erofs_xattr_ibody_header, erofs_xattr_entry). */

import { u8, u16, zeros } from '../../binary/fields.ts';
import type { Reader } from '../../binary/reader.ts';
import { struct } from '../../binary/struct.ts';
import { type ByteString, display, sortedXattrs } from '../../tree/node.ts';
import { EROFS_H } from './layout.ts';
import { MAX_XATTRS } from './limits.ts';

/** Header of the attributes, which follows the inode. */
export const XATTR_HEADER = struct('erofs_xattr_ibody_header', EROFS_H, 12, {
  reserved: zeros(0, 4, 'h_reserved'),
  sharedCount: u8(4, 'h_shared_count', 'no shared attributes', 0),
  reserved2: zeros(5, 7, 'h_reserved2'),
});

/** Header of each attribute. Its name without the prefix and its value follow, padded to 4 bytes. */
export const XATTR_ENTRY = struct('erofs_xattr_entry', EROFS_H, 4, {
  nameLength: u8(0, 'e_name_len', 'bytes, without the prefix'),
  nameIndex: u8(1, 'e_name_index', 'prefix: 1 user., 2 and 3 the POSIX ACLs, 4 trusted., 6 security.'),
  valueLength: u16(2, 'e_value_size', 'bytes'),
});

const { fields: HEADER, size: HEADER_SIZE } = XATTR_HEADER;
const { fields: ENTRY, size: ENTRY_SIZE } = XATTR_ENTRY;

/** e_name_index → prefix. The two ACLs are whole names. */
const PREFIXES: ReadonlyArray<readonly [number, ByteString]> = [
  [1, 'user.'],
  [2, 'system.posix_acl_access'],
  [3, 'system.posix_acl_default'],
  [4, 'trusted.'],
  [6, 'security.'],
];

/** The prefix of e_name_index, null for an unknown one. */
export const prefixOf = (index: number): ByteString | null =>
  PREFIXES.find(([number]) => number === index)?.[1] ?? null;

/** Whether a full name has a suffix if and only if its prefix needs one. */
export const isXattrName = (name: ByteString): boolean => splitName(name) !== null && !name.includes('\0');

function splitName(name: ByteString): { index: number; suffix: ByteString } | null {
  for (const [index, prefix] of PREFIXES) {
    const isWhole = index === 2 || index === 3;
    if (isWhole ? name === prefix : name.startsWith(prefix) && name.length > prefix.length) {
      return { index, suffix: name.slice(prefix.length) };
    }
  }
  return null;
}

/** Bytes of an entry with its padding. */
export const entrySize = (suffix: number, value: number): number => (ENTRY_SIZE + suffix + value + 3) & ~3;

/** Whether EROFS, like Linux, can store this attribute. */
export function isStorable(name: ByteString, value: Buffer): boolean {
  const suffix = splitName(name)?.suffix;
  return suffix !== undefined && suffix.length <= 255 && value.length <= 0xffff && !name.includes('\0');
}

/** Bytes that storable attributes take after the inode; 0 when there are none. */
export function xattrSize(xattrs: ReadonlyMap<ByteString, Buffer> | null): number {
  if (xattrs === null || xattrs.size === 0) return 0;
  let size = HEADER_SIZE;
  for (const [name, value] of xattrs) size += entrySize(splitName(name)!.suffix.length, value.length);
  return size;
}

/** i_xattr_icount for attributes of `size` bytes in all. */
export const xattrCount = (size: number): number => (size === 0 ? 0 : (size - HEADER_SIZE) / 4 + 1);
/** The inverse of {@link xattrCount}. */
export const xattrSizeOf = (icount: number): number => (icount === 0 ? 0 : HEADER_SIZE + (icount - 1) * 4);

/** Writes the attributes at `at` of a zeroed buffer. */
export function writeXattrs(out: Buffer, at: number, xattrs: ReadonlyMap<ByteString, Buffer>): void {
  let position = at + HEADER_SIZE;
  for (const [name, value] of sortedXattrs(xattrs)) {
    const { index, suffix } = splitName(name)!;
    ENTRY.nameLength.write(out, position, suffix.length);
    ENTRY.nameIndex.write(out, position, index);
    ENTRY.valueLength.write(out, position, value.length);
    out.write(suffix, position + ENTRY_SIZE, 'latin1');
    value.copy(out, position + ENTRY_SIZE + suffix.length);
    position += entrySize(suffix.length, value.length);
  }
}

/** Reads `size` bytes of attributes at `at`; null when there are none. */
export function readXattrs(reader: Reader, at: number, size: number): Map<ByteString, Buffer> | null {
  if (size === 0) return null;
  const end = at + size;
  reader.check(at, size, 'xattr');
  if (HEADER.sharedCount.read(reader, at) !== 0)
    throw HEADER.sharedCount.bad(reader, at, 'shared attributes are not supported');
  const found = new Map<ByteString, Buffer>();
  let position = at + HEADER_SIZE;
  while (position + ENTRY_SIZE <= end) {
    const nameLength = ENTRY.nameLength.read(reader, position);
    const index = ENTRY.nameIndex.read(reader, position);
    const valueLength = ENTRY.valueLength.read(reader, position);
    const next = position + entrySize(nameLength, valueLength);
    if (next > end) throw ENTRY.valueLength.bad(reader, position, 'exceeds the attributes');
    const prefix = prefixOf(index);
    if (prefix === null) throw ENTRY.nameIndex.bad(reader, position, `unknown prefix ${index}`);
    const name = prefix + reader.text(position + ENTRY_SIZE, nameLength, 'e_name');
    if (!isXattrName(name)) throw reader.bad('e_name', 'not a valid attribute name', position);
    if (found.size >= MAX_XATTRS) throw reader.bad('e_name', `more than ${MAX_XATTRS} attributes`, position);
    if (found.has(name)) throw reader.bad('e_name', `duplicate attribute ${JSON.stringify(display(name))}`, position);
    found.set(name, Buffer.from(reader.slice(position + ENTRY_SIZE + nameLength, valueLength, 'e_value')));
    position = next;
  }
  if (position !== end) throw reader.bad('i_xattr_icount', 'the attributes end before this size', at);
  return found.size === 0 ? null : found;
}
