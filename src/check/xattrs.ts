/** Claims of an inode's extended attributes (struct erofs_xattr_ibody_header, erofs_xattr_entry). */
import { entrySize, isXattrName, prefixOf, XATTR_ENTRY, XATTR_HEADER } from '../formats/rafs/xattr.ts';
import { type ByteString, display } from '../tree/node.ts';
import type { Bytes } from './bytes.ts';

/** Bytes of the end of an entry that are at most padding. */
const PADDING = 3;

/** `size` bytes at `at`, which are in the file and more than none. */
export function checkXattrs(bytes: Bytes, at: number, size: number, path: string): void {
  const { findings } = bytes;
  const end = at + size;
  const shared = bytes.u8(at + 4, 'h_shared_count');
  if (shared !== 0) findings.error('h_shared_count', at + 4, `${shared} shared attributes; there are none`, { path });
  bytes.zeros(at, 4, 'h_reserved', path);
  bytes.zeros(at + 5, 7, 'h_reserved2', path);
  let position = at + XATTR_HEADER;
  const seen = new Set<ByteString>();
  while (position + XATTR_ENTRY <= end) {
    const nameLength = bytes.u8(position, 'e_name_len');
    const index = bytes.u8(position + 1, 'e_name_index');
    const valueLength = bytes.u16(position + 2, 'e_value_size');
    const used = XATTR_ENTRY + nameLength + valueLength;
    const next = position + entrySize(nameLength, valueLength);
    if (next > end) {
      const problem = `a name of ${nameLength} and a value of ${valueLength} bytes run out of the attributes`;
      findings.error('e_value_size', position + 2, problem, { path });
      return;
    }
    const prefix = prefixOf(index);
    if (prefix === null) {
      findings.error('e_name_index', position + 1, `unknown prefix ${index}`, { path });
    } else {
      const name = prefix + bytes.text(position + XATTR_ENTRY, nameLength, 'e_name');
      if (!isXattrName(name)) findings.error('e_name', position + XATTR_ENTRY, `${shown(name)} is no name`, { path });
      else if (seen.has(name)) findings.error('e_name', position + XATTR_ENTRY, `${shown(name)} twice`, { path });
      seen.add(name);
    }
    bytes.zeros(position + used, next - position - used, 'padding of an attribute', path);
    position = next;
  }
  if (position !== end) {
    const problem = `${end - position} bytes are left behind the last attribute (at most ${PADDING} can be)`;
    findings.error('i_xattr_icount', position, problem, { path });
  }
}

const shown = (name: ByteString): string => JSON.stringify(display(name));
