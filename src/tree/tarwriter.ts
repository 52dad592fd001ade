/** Tar headers, plain ustar where it is enough and pax records where it is not. Same entry → same bytes; no I/O. */
import { type ByteString, bytesOf, fromText, sortedXattrs } from './node.ts';
import { XATTR_PREFIX } from './pax.ts';
import type { TarEntry } from './tar.ts';
import { BLOCK } from './tarheader.ts';

/** What follows the last member: two zero blocks. */
export const TAR_END: Buffer = Buffer.alloc(2 * BLOCK);

/** Zero bytes that follow `size` bytes of content. */
export const tarPadding = (size: number): Buffer => Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK);

const TYPEFLAGS: Readonly<Record<TarEntry['type'], string>> = {
  reg: '0',
  hardlink: '1',
  symlink: '2',
  char: '3',
  block: '4',
  dir: '5',
  fifo: '6',
};

/** The largest number of an octal field of `width` bytes. */
const octalMax = (width: number): number => 8 ** (width - 1) - 1;

/** The header blocks of an entry; `size` bytes of content and {@link tarPadding} follow. */
export function tarHeader(entry: TarEntry): Buffer {
  const name = entry.type === 'dir' && entry.name !== '' ? `${entry.name}/` : entry.name || './';
  const link = entry.linkName ?? '';
  const records: Array<readonly [ByteString, ByteString]> = [];
  const need = (key: string, value: string | number, isNeeded: boolean) => {
    if (isNeeded) records.push([key, String(value)]);
  };
  const { sec, nsec } = entry.mtime;
  // ustar says which bytes a name has, not how they are encoded; readers take pax records for UTF-8 and keep others.
  need('path', name, name.length > 100);
  need('linkpath', link, link.length > 100);
  need('uid', entry.uid, entry.uid > octalMax(8));
  need('gid', entry.gid, entry.gid > octalMax(8));
  need('size', entry.size, entry.size > octalMax(12));
  need('mtime', paxTimeText(sec, nsec), nsec !== 0 || sec < 0 || sec > octalMax(12));
  for (const [key, value] of sortedXattrs(entry.xattrs)) records.push([XATTR_PREFIX + key, value.toString('latin1')]);
  const header = block(entry, name, link);
  if (records.length === 0) return header;
  const body = Buffer.concat(records.map(([key, value]) => record(key, value)));
  const described: TarEntry = { ...entry, type: 'reg', mode: 0o644, uid: 0, gid: 0, size: body.length, rdev: null };
  const pax = block({ ...described, mtime: { sec: 0, nsec: 0 } }, 'pax', '', 'x');
  return Buffer.concat([pax, body, tarPadding(body.length), header]);
}

function block(entry: TarEntry, name: ByteString, link: ByteString, typeflag = TYPEFLAGS[entry.type]): Buffer {
  const header = Buffer.alloc(BLOCK);
  // What does not fit stands in a pax record; old readers see the beginning.
  header.write(name.slice(0, 100), 0, 'latin1');
  octal(header, entry.mode, 100, 8);
  octal(header, entry.uid, 108, 8);
  octal(header, entry.gid, 116, 8);
  octal(header, entry.size, 124, 12);
  octal(header, entry.mtime.sec, 136, 12);
  header.fill(' ', 148, 156); // the checksum counts as spaces
  header.write(typeflag, 156, 'latin1');
  header.write(link.slice(0, 100), 157, 'latin1');
  header.write('ustar\0' + '00', 257, 'latin1');
  if (entry.rdev !== null) {
    octal(header, entry.rdev.major, 329, 8);
    octal(header, entry.rdev.minor, 337, 8);
  }
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return header;
}

/** A number that does not fit is 0: its pax record says it. */
function octal(header: Buffer, value: number, at: number, width: number): void {
  const stored = value < 0 || value > octalMax(width) ? 0 : value;
  header.write(`${stored.toString(8).padStart(width - 1, '0')}\0`, at, 'latin1');
}

/** "LENGTH KEY=VALUE\n", the length including itself. */
function record(key: ByteString, value: ByteString): Buffer {
  const body = ` ${key}=${value}\n`;
  let length = body.length + 1;
  while (String(length).length + body.length !== length) length = String(length).length + body.length;
  return bytesOf(`${length}${body}`);
}

/** `{ sec: -1235, nsec: 500000000 }` → `-1234.5`: seconds are floored here and signed there. */
function paxTimeText(sec: number, nsec: number): string {
  const [whole, fraction] = sec < 0 && nsec > 0 ? [-(sec + 1), 1_000_000_000 - nsec] : [Math.abs(sec), nsec];
  const digits = fraction === 0 ? '' : `.${String(fraction).padStart(9, '0').replace(/0+$/, '')}`;
  return `${sec < 0 ? '-' : ''}${whole}${digits}`;
}

/** A file without an owner or a time, for archives that are the same whoever makes them. */
export const plainFile = (name: string, size: number, mode = 0o644): TarEntry => ({
  name: fromText(name),
  type: 'reg',
  linkName: null,
  mode,
  uid: 0,
  gid: 0,
  size,
  mtime: { sec: 0, nsec: 0 },
  rdev: null,
  xattrs: null,
});
