/** Inline extended attributes of an inode (struct erofs_xattr_ibody_header, erofs_xattr_entry). */
import { type ByteString, display, sortedXattrs } from '../../tree/node.ts';
import type { Reader } from './bytes.ts';
import { MAX_XATTRS } from './limits.ts';

/** h_reserved u32 · h_shared_count u8 · h_reserved2[7] */
export const XATTR_HEADER = 12;
/** e_name_len u8 · e_name_index u8 · e_value_size u16 */
export const XATTR_ENTRY = 4;

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

/** Whether a name that was put together has a suffix where it needs one, and none where it may not. */
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

/** Bytes of an entry with what pads it. */
export const entrySize = (suffix: number, value: number): number => (XATTR_ENTRY + suffix + value + 3) & ~3;

/** Whether EROFS, like Linux, has a place for this attribute. */
export function isStorable(name: ByteString, value: Buffer): boolean {
  const suffix = splitName(name)?.suffix;
  return suffix !== undefined && suffix.length <= 255 && value.length <= 0xffff && !name.includes('\0');
}

/** Bytes that storable attributes take after the inode; 0 without any. */
export function xattrSize(xattrs: ReadonlyMap<ByteString, Buffer> | null): number {
  if (xattrs === null || xattrs.size === 0) return 0;
  let size = XATTR_HEADER;
  for (const [name, value] of xattrs) size += entrySize(splitName(name)!.suffix.length, value.length);
  return size;
}

/** i_xattr_icount for attributes of `size` bytes in all. */
export const xattrCount = (size: number): number => (size === 0 ? 0 : (size - XATTR_HEADER) / 4 + 1);
/** The inverse of {@link xattrCount}. */
export const xattrSizeOf = (icount: number): number => (icount === 0 ? 0 : XATTR_HEADER + (icount - 1) * 4);

/** Writes the attributes at `at` of a zeroed buffer. */
export function writeXattrs(out: Buffer, at: number, xattrs: ReadonlyMap<ByteString, Buffer>): void {
  let position = at + XATTR_HEADER;
  for (const [name, value] of sortedXattrs(xattrs)) {
    const { index, suffix } = splitName(name)!;
    out[position] = suffix.length;
    out[position + 1] = index;
    out.writeUInt16LE(value.length, position + 2);
    out.write(suffix, position + XATTR_ENTRY, 'latin1');
    value.copy(out, position + XATTR_ENTRY + suffix.length);
    position += entrySize(suffix.length, value.length);
  }
}

/** Reads `size` bytes of attributes at `at`; null when there are none. */
export function readXattrs(reader: Reader, at: number, size: number): Map<ByteString, Buffer> | null {
  if (size === 0) return null;
  const end = at + size;
  reader.check(at, size, 'xattr');
  if (reader.u8(at + 4, 'h_shared_count') !== 0) throw reader.bad('h_shared_count', 'shared attributes', at + 4);
  const found = new Map<ByteString, Buffer>();
  let position = at + XATTR_HEADER;
  while (position + XATTR_ENTRY <= end) {
    const nameLength = reader.u8(position, 'e_name_len');
    const index = reader.u8(position + 1, 'e_name_index');
    const valueLength = reader.u16(position + 2, 'e_value_size');
    const next = position + entrySize(nameLength, valueLength);
    if (next > end) throw reader.bad('e_value_size', 'runs out of the attributes', position);
    const prefix = prefixOf(index);
    if (prefix === null) throw reader.bad('e_name_index', `unknown prefix ${index}`, position + 1);
    const name = prefix + reader.text(position + XATTR_ENTRY, nameLength, 'e_name');
    if (!isXattrName(name)) throw reader.bad('e_name', 'not a name', position);
    if (found.size >= MAX_XATTRS) throw reader.bad('e_name', `more than ${MAX_XATTRS} attributes`, position);
    if (found.has(name)) throw reader.bad('e_name', `${JSON.stringify(display(name))} twice`, position);
    found.set(name, Buffer.from(reader.slice(position + XATTR_ENTRY + nameLength, valueLength, 'e_value')));
    position = next;
  }
  if (position !== end) throw reader.bad('i_xattr_icount', 'leaves a rest', at);
  return found.size === 0 ? null : found;
}
