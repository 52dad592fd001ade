/** Checks of a directory's blocks (struct erofs_dirent). A damaged entry does not keep others from being decoded. */
import { DIRENT } from '../formats/rafs/dirent.ts';
import { type ByteString, display } from '../tree/node.ts';
import { MAX_NAME } from '../tree/path.ts';
import type { Bytes } from './bytes.ts';

const { fields: ENTRY, size: ENTRY_SIZE } = DIRENT;

/** A directory entry whose name is readable. */
export interface CheckedEntry {
  readonly name: ByteString;
  readonly nid: number;
  readonly fileType: number;
  /** Offsets of the entry and of its name in the bootstrap. */
  readonly at: number;
  readonly nameAt: number;
}

/** Appends the entries of the block at `at`. Its `length` bytes belong to the directory and lie in the file. */
export function checkDirectoryBlock(
  bytes: Bytes,
  at: number,
  length: number,
  path: string,
  into: CheckedEntry[],
): void {
  const { findings } = bytes;
  if (length < ENTRY_SIZE) {
    findings.error('i_size', at, `a block of ${length} bytes is too short for an entry`, { path });
    return;
  }
  const first = ENTRY.nameoff.read(bytes, at);
  if (first === 0 || first % ENTRY_SIZE !== 0 || first > length) {
    bytes.error(ENTRY.nameoff, at, `the first offset, ${first}, does not give a number of entries`, { path });
    return;
  }
  for (let entry = at; entry < at + first; entry += ENTRY_SIZE) {
    const nameoff = ENTRY.nameoff.read(bytes, entry);
    const isLast = entry + ENTRY_SIZE === at + first;
    const end = isLast ? length : ENTRY.nameoff.read(bytes, entry + ENTRY_SIZE);
    bytes.reserved(DIRENT, entry, 'reserved of an entry', path);
    if (nameoff < first || nameoff >= length || end <= nameoff || end > length) {
      bytes.error(ENTRY.nameoff, entry, `${nameoff}, then ${end}: offsets must rise and lie inside the block`, {
        path,
      });
      continue;
    }
    const nameAt = at + nameoff;
    const name = nameOf(bytes, nameAt, end - nameoff, isLast, path);
    if (name === '' || name.length > MAX_NAME || name.includes('/') || name.includes('\0')) {
      findings.error('name', nameAt, `${shown(name)} is empty, too long, or has a slash or NUL`, { path });
      continue;
    }
    const nid = ENTRY.nid.read(bytes, entry);
    into.push({ name, nid, fileType: ENTRY.type.read(bytes, entry), at: entry, nameAt });
  }
}

/** Length of a name. The last name of a block that is not full ends at a NUL, and NULs fill the rest. */
function nameOf(bytes: Bytes, at: number, length: number, isLast: boolean, path: string): ByteString {
  const name = bytes.text(at, length, 'name');
  const nul = isLast ? name.indexOf('\0') : -1;
  if (nul < 0) return name;
  bytes.zeros(at + nul, length - nul, 'padding of a directory', path);
  return name.slice(0, nul);
}

export const shown = (name: ByteString): string => JSON.stringify(display(name.slice(0, MAX_NAME)));
