/**
 * Directory blocks (struct erofs_dirent): each block holds its entries, then their names, sorted bytewise including
 * "." and "..", as the kernel's binary search needs them (fs/erofs/namei.c).
 */

import { u8, u16, u64, zeros } from '../../binary/fields.ts';
import type { Reader } from '../../binary/reader.ts';
import { struct } from '../../binary/struct.ts';
import type { ByteString, NodeType } from '../../tree/node.ts';
import { MAX_NAME } from '../../tree/path.ts';
import { entryTypeOf } from './inode.ts';
import { BLOCK, EROFS_H } from './layout.ts';

export const DIRENT = struct('erofs_dirent', EROFS_H, 12, {
  nid: u64(0, 'nid', 'inode: 32-byte slots from meta_blkaddr'),
  nameoff: u16(8, 'nameoff', 'of the name in the block; that of the first says how many entries there are'),
  type: u8(10, 'file_type', 'EROFS_FT_*: 1 regular, 2 directory, 3 char, 4 block, 5 FIFO, 6 socket, 7 symlink'),
  reserved: zeros(11, 1),
});
const { fields: ENTRY, size: ENTRY_SIZE } = DIRENT;

/** Layout of a directory's names in blocks. */
export interface DirectoryLayout {
  /** All names in order, with "." and "..". */
  readonly names: readonly ByteString[];
  /** Index of the first name of each block. */
  readonly starts: readonly number[];
  /** i_size: full blocks, and the used bytes of the last one. */
  readonly size: number;
}

export function planDirectory(children: Iterable<ByteString>): DirectoryLayout {
  const names = ['.', '..', ...children].sort();
  const starts: number[] = [0];
  let used = 0;
  for (const [index, name] of names.entries()) {
    if (used + ENTRY_SIZE + name.length > BLOCK) {
      starts.push(index);
      used = 0;
    }
    used += ENTRY_SIZE + name.length;
  }
  return { names, starts, size: (starts.length - 1) * BLOCK + used };
}

/** Encodes a directory. Its last block ends after the last name. */
export function encodeDirectory(
  layout: DirectoryLayout,
  target: (index: number) => { nid: number; type: NodeType },
): Buffer {
  const out = Buffer.alloc(layout.size);
  for (const [block, first] of layout.starts.entries()) {
    const names = layout.names.slice(first, layout.starts[block + 1]);
    const base = block * BLOCK;
    let nameoff = names.length * ENTRY_SIZE;
    for (const [i, name] of names.entries()) {
      const { nid, type } = target(first + i);
      const at = base + i * ENTRY_SIZE;
      ENTRY.nid.write(out, at, nid);
      ENTRY.nameoff.write(out, at, nameoff);
      ENTRY.type.write(out, at, entryTypeOf(type));
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

/** Decodes the directory block at `at`, of which `length` ≤ 4096 bytes are used. */
export function decodeDirectoryBlock(reader: Reader, at: number, length: number, into: DirectoryEntry[]): void {
  const first = ENTRY.nameoff.read(reader, at);
  if (length < ENTRY_SIZE || first === 0 || first % ENTRY_SIZE !== 0 || first > length) {
    throw ENTRY.nameoff.bad(reader, at, `the first is ${first}, which is not a number of entries`);
  }
  for (let entry = at; entry < at + first; entry += ENTRY_SIZE) {
    const nameoff = ENTRY.nameoff.read(reader, entry);
    const isLast = entry + ENTRY_SIZE === at + first;
    const end = isLast ? length : ENTRY.nameoff.read(reader, entry + ENTRY_SIZE);
    if (nameoff < first || end <= nameoff || end > length) {
      throw ENTRY.nameoff.bad(reader, entry, 'offsets must be strictly rising inside the block');
    }
    let name = reader.text(at + nameoff, end - nameoff, 'name');
    // A NUL ends the last name of a block that is not full.
    const nul = isLast ? name.indexOf('\0') : -1;
    if (nul >= 0) name = name.slice(0, nul);
    if (name === '' || name.length > MAX_NAME || name.includes('/') || name.includes('\0')) {
      throw reader.bad('name', 'the name is empty, too long, or contains a slash or NUL', at + nameoff);
    }
    into.push({ name, nid: ENTRY.nid.read(reader, entry), type: ENTRY.type.read(reader, entry) });
  }
}
