/** Encodes tar headers: ustar, with pax records for values that do not fit. The same entry gives the same bytes; no I/O. */
import { type ByteString, bytesOf, fromText, sortedXattrs } from './node.ts';
import { XATTR_PREFIX } from './pax.ts';
import type { TarEntry } from './tar.ts';
import { BLOCK, encodeTarHeader, TAR_HEADER, USTAR_MAGIC } from './tarheader.ts';

/** End of a tar: two zero blocks after the last member. */
export const TAR_END: Buffer = Buffer.alloc(2 * BLOCK);

/** Padding that follows `size` bytes of content. */
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

/** Whether a number fits an octal field, which ends with a NUL. */
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
  // Names that fit stay in the ustar header: it has no encoding, while readers expect UTF-8 in pax records.
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

/** Encodes one header block. Values that do not fit are truncated names and 0 for numbers, since a pax record has them. */
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

/** A pax record, "LENGTH KEY=VALUE\n". The length includes its own digits. */
function record(key: ByteString, value: ByteString): Buffer {
  const body = ` ${key}=${value}\n`;
  let length = body.length + 1;
  while (String(length).length + body.length !== length) length = String(length).length + body.length;
  return bytesOf(`${length}${body}`);
}

/** Converts `{ sec: -1235, nsec: 500000000 }` to `-1234.5`: our seconds are floored, those of pax are signed decimals. */
function paxTimeText(sec: number, nsec: number): string {
  const [whole, fraction] = sec < 0 && nsec > 0 ? [-(sec + 1), 1_000_000_000 - nsec] : [Math.abs(sec), nsec];
  const digits = fraction === 0 ? '' : `.${String(fraction).padStart(9, '0').replace(/0+$/, '')}`;
  return `${sec < 0 ? '-' : ''}${whole}${digits}`;
}

/** A file owned by root with time 0, for reproducible archives. */
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
