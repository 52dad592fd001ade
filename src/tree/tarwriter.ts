/** Tar headers, plain ustar where it is enough and pax records where it is not. Same entry → same bytes; no I/O. */
import { type ByteString, bytesOf, fromText, sortedXattrs } from './node.ts';
import { XATTR_PREFIX } from './pax.ts';
import type { TarEntry } from './tar.ts';
import { BLOCK, encodeTarHeader, TAR_HEADER, USTAR_MAGIC } from './tarheader.ts';

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

const { fields: TAR } = TAR_HEADER;

/** Whether an octal field, which ends with a NUL, has room for a number. */
const fits = (value: number, { size }: { readonly size: number }): boolean => value >= 0 && value < 8 ** (size - 1);

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
  need('path', name, name.length > TAR.name.size);
  need('linkpath', link, link.length > TAR.linkName.size);
  need('uid', entry.uid, !fits(entry.uid, TAR.uid));
  need('gid', entry.gid, !fits(entry.gid, TAR.gid));
  need('size', entry.size, !fits(entry.size, TAR.size));
  need('mtime', paxTimeText(sec, nsec), nsec !== 0 || !fits(sec, TAR.mtime));
  for (const [key, value] of sortedXattrs(entry.xattrs)) records.push([XATTR_PREFIX + key, value.toString('latin1')]);
  const header = block(entry, name, link);
  if (records.length === 0) return header;
  const body = Buffer.concat(records.map(([key, value]) => record(key, value)));
  const described: TarEntry = { ...entry, type: 'reg', mode: 0o644, uid: 0, gid: 0, size: body.length, rdev: null };
  const pax = block({ ...described, mtime: { sec: 0, nsec: 0 } }, 'pax', '', 'x');
  return Buffer.concat([pax, body, tarPadding(body.length), header]);
}

/** What does not fit stands in a pax record: old readers see the beginning of a name, and 0 for a number. */
function block(entry: TarEntry, name: ByteString, link: ByteString, typeflag = TYPEFLAGS[entry.type]): Buffer {
  const number = (value: number, field: { readonly size: number }) => (fits(value, field) ? value : 0);
  const { rdev } = entry;
  return encodeTarHeader({
    name,
    mode: number(entry.mode, TAR.mode),
    uid: number(entry.uid, TAR.uid),
    gid: number(entry.gid, TAR.gid),
    size: number(entry.size, TAR.size),
    mtime: number(entry.mtime.sec, TAR.mtime),
    typeflag,
    linkName: link,
    magic: USTAR_MAGIC,
    rdevMajor: rdev === null ? null : number(rdev.major, TAR.rdevMajor),
    rdevMinor: rdev === null ? null : number(rdev.minor, TAR.rdevMinor),
  });
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
