/** Checks of an inode's extended attributes (struct erofs_xattr_ibody_header, erofs_xattr_entry). */
import { entrySize, isXattrName, prefixOf, XATTR_ENTRY, XATTR_HEADER } from '../formats/rafs/xattr.ts';
import { type ByteString, display } from '../tree/node.ts';
import type { Bytes } from './bytes.ts';

/** Maximum padding of an entry, in bytes. */
const PADDING = 3;

/** Checks `size` bytes at `at`, which lie in the file; `size` is not 0. */
export function checkXattrs(bytes: Bytes, at: number, size: number, path: string): void {
  const { findings } = bytes;
  const { fields: HEADER } = XATTR_HEADER;
  const { fields: ENTRY } = XATTR_ENTRY;
  const end = at + size;
  const shared = HEADER.sharedCount.read(bytes, at);
  if (shared !== 0) bytes.error(HEADER.sharedCount, at, `${shared} shared attributes, but RAFS has none`, { path });
  for (const { at: offset, size: length, name } of XATTR_HEADER.reserved) bytes.zeros(at + offset, length, name, path);
  let position = at + XATTR_HEADER.size;
  const seen = new Set<ByteString>();
  while (position + XATTR_ENTRY.size <= end) {
    const nameLength = ENTRY.nameLength.read(bytes, position);
    const index = ENTRY.nameIndex.read(bytes, position);
    const valueLength = ENTRY.valueLength.read(bytes, position);
    const used = XATTR_ENTRY.size + nameLength + valueLength;
    const next = position + entrySize(nameLength, valueLength);
    if (next > end) {
      const problem = `a name of ${nameLength} and a value of ${valueLength} bytes exceed the attributes`;
      bytes.error(ENTRY.valueLength, position, problem, { path });
      return;
    }
    const prefix = prefixOf(index);
    if (prefix === null) {
      bytes.error(ENTRY.nameIndex, position, `unknown prefix ${index}`, { path });
    } else {
      const name = prefix + bytes.text(position + XATTR_ENTRY.size, nameLength, 'e_name');
      if (!isXattrName(name))
        findings.error('e_name', position + XATTR_ENTRY.size, `${shown(name)} is not a valid attribute name`, { path });
      else if (seen.has(name))
        findings.error('e_name', position + XATTR_ENTRY.size, `duplicate attribute ${shown(name)}`, { path });
      seen.add(name);
    }
    bytes.zeros(position + used, next - position - used, 'padding of an attribute', path);
    position = next;
  }
  if (position !== end) {
    const problem = `${end - position} bytes follow the last attribute; maximum ${PADDING}`;
    findings.error('i_xattr_icount', position, problem, { path });
  }
}

const shown = (name: ByteString): string => JSON.stringify(display(name));
