/**
 * Directory blocks (struct erofs_dirent): each block holds its entries, then their names, sorted bytewise including
 * "." and "..", as the kernel's binary search needs them (fs/erofs/namei.c).
 */
import type { ByteString, NodeType } from '../../tree/node.ts';
import { MAX_NAME } from '../../tree/path.ts';
import { putU64, type Reader } from './bytes.ts';
import { entryTypeOf } from './inode.ts';
import { BLOCK } from './layout.ts';

/** nid u64 · nameoff u16 · file_type u8 · reserved u8 */
export const DIRENT = 12;

/** How the names of a directory fall into blocks. */
export interface DirectoryLayout {
  /** All names in order, with "." and "..". */
  readonly names: readonly ByteString[];
  /** Index of the first name of each block. */
  readonly starts: readonly number[];
  /** i_size: full blocks and what is used of the last. */
  readonly size: number;
}

export function planDirectory(children: Iterable<ByteString>): DirectoryLayout {
  const names = ['.', '..', ...children].sort();
  const starts: number[] = [0];
  let used = 0;
  for (const [index, name] of names.entries()) {
    if (used + DIRENT + name.length > BLOCK) {
      starts.push(index);
      used = 0;
    }
    used += DIRENT + name.length;
  }
  return { names, starts, size: (starts.length - 1) * BLOCK + used };
}

/** The directory's bytes; its last block ends where the last name ends. */
export function encodeDirectory(
  layout: DirectoryLayout,
  target: (index: number) => { nid: number; type: NodeType },
): Buffer {
  const out = Buffer.alloc(layout.size);
  for (const [block, first] of layout.starts.entries()) {
    const names = layout.names.slice(first, layout.starts[block + 1]);
    const base = block * BLOCK;
    let nameoff = names.length * DIRENT;
    for (const [i, name] of names.entries()) {
      const { nid, type } = target(first + i);
      const at = base + i * DIRENT;
      putU64(out, nid, at);
      out.writeUInt16LE(nameoff, at + 8);
      out[at + 10] = entryTypeOf(type);
      out.write(name, base + nameoff, 'latin1');
      nameoff += name.length;
    }
  }
  return out;
}

export interface DirectoryEntry {
  readonly name: ByteString;
  readonly nid: number;
  readonly type: number;
}

/** Decodes a directory's block at `at`, `length` ≤ 4096 bytes of it belong to the directory. */
export function decodeDirectoryBlock(reader: Reader, at: number, length: number, into: DirectoryEntry[]): void {
  const first = reader.u16(at + 8, 'nameoff');
  if (length < DIRENT || first === 0 || first % DIRENT !== 0 || first > length) {
    throw reader.bad('nameoff', `the first is ${first}`, at + 8);
  }
  for (let entry = at; entry < at + first; entry += DIRENT) {
    const nameoff = reader.u16(entry + 8, 'nameoff');
    const isLast = entry + DIRENT === at + first;
    const end = isLast ? length : reader.u16(entry + DIRENT + 8, 'nameoff');
    if (nameoff < first || end <= nameoff || end > length) {
      throw reader.bad('nameoff', 'not strictly rising inside the block', entry + 8);
    }
    let name = reader.text(at + nameoff, end - nameoff, 'name');
    // The last name of a block that is not full ends at a NUL.
    const nul = isLast ? name.indexOf('\0') : -1;
    if (nul >= 0) name = name.slice(0, nul);
    if (name === '' || name.length > MAX_NAME || name.includes('/') || name.includes('\0')) {
      throw reader.bad('name', 'empty, too long, or with a slash or NUL', at + nameoff);
    }
    into.push({ name, nid: reader.u64(entry, 'nid'), type: reader.u8(entry + 10, 'file_type') });
  }
}
