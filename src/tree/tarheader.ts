/**
 * Tar header blocks of 512 bytes: ustar, GNU, star and v7, bytes ⇄ fields. `tar.ts` applies extended headers, and
 * `tarwriter.ts` writes them.
 */
import { octal, parseOctal, text, zeros } from '../binary/fields.ts';
import { struct, type ValuesOf } from '../binary/struct.ts';
import { FormatError } from '../errors.ts';
import type { ByteString } from './node.ts';

export const TAR_HEADER = struct('ustar header', 'POSIX.1-2017 pax, and GNU tar', 512, {
  name: text(0, 100, 'name', 'a path, and NULs if it is shorter'),
  mode: octal(100, 8, 'mode', 'permissions; all numbers also as base-256 where they are too large (GNU)'),
  uid: octal(108, 8, 'uid'),
  gid: octal(116, 8, 'gid'),
  size: octal(124, 12, 'size', 'bytes of content'),
  mtime: octal(136, 12, 'mtime', 'seconds'),
  checksum: octal(148, 8, 'chksum', 'of all bytes, itself as spaces'),
  typeflag: text(156, 1, 'typeflag', 'type of the member'),
  linkName: text(157, 100, 'linkname', 'target of a link'),
  magic: text(257, 8, 'magic', '`ustar`, NUL, `00`; in a GNU header `ustar`, two spaces, NUL'),
  userName: text(265, 32, 'uname', 'not read'),
  groupName: text(297, 32, 'gname', 'not read'),
  rdevMajor: octal(329, 8, 'devmajor'),
  rdevMinor: octal(337, 8, 'devminor'),
  prefix: text(345, 155, 'prefix', 'of the path; in GNU headers times and a sparse map, in those of star 131 bytes'),
  reserved: zeros(500, 12, 'padding', 'ends with `tar` and NUL in headers of star'),
});
const { fields: TAR } = TAR_HEADER;

/** Block size in bytes; headers and padded content are whole blocks. */
export const BLOCK: number = TAR_HEADER.size;

/** Magic and version. */
export const USTAR_MAGIC = 'ustar\0' + '00';
export const GNU_MAGIC = 'ustar  \0';
/** Offset of the mark of star in its headers, and length of their shorter prefix. */
const STAR_AT = 508;
const STAR_PREFIX = 131;

/** Encodes a header block. Missing values are NULs. `digits`: length of the checksum, which a NUL and perhaps a space follow. */
export function encodeTarHeader(values: Partial<Omit<ValuesOf<typeof TAR>, 'checksum'>>, digits = 6): Buffer {
  const header = TAR_HEADER.encoded(values);
  const sum = `${tarChecksum(header, 0).toString(8).padStart(digits, '0')}\0`;
  header.write(sum.padEnd(TAR.checksum.size), TAR.checksum.at, 'latin1');
  return header;
}

/** Checksum of the block at `at`. Its checksum field counts as eight spaces. */
export function tarChecksum(block: Buffer, at: number): number {
  const { at: field, size } = TAR.checksum;
  let sum = size * 32;
  for (let i = at; i < at + field; i++) sum += block[i]!;
  for (let i = at + field + size; i < at + BLOCK; i++) sum += block[i]!;
  return sum;
}

/** The part of a field before the first NUL. */
export const untilNul = (field: string): string => {
  const nul = field.indexOf('\0');
  return nul < 0 ? field : field.slice(0, nul);
};

/** Fields of a header block as stored, without those that are not needed. */
export interface RawHeader {
  name: ByteString;
  mode: number;
  /** The low 32 bits, which are all that container engines pass to the kernel. */
  uid: number;
  gid: number;
  size: number;
  /** Seconds; may be negative (GNU base-256), and inexact beyond 2^53. */
  mtime: number;
  typeflag: string;
  linkName: ByteString;
  rdevMajor: number;
  rdevMinor: number;
}

/** Whether the block at `at` is all zero. */
export function isZeroBlock(block: Buffer, at: number): boolean {
  for (let i = at; i < at + BLOCK; i++) if (block[i] !== 0) return false;
  return true;
}

/** Decodes the block at `at`; `offset` is that in the tar, for error messages. Throws FormatError. */
export function decodeHeader(block: Buffer, at: number, offset: number, subject: string): RawHeader {
  verifyChecksum(block, at, offset, subject);
  const number = ({ name, at: start, size }: TarField) =>
    numeric(block, at + start, size, `tar ${name}`, subject, offset + start);
  const low32 = (field: TarField) => {
    const isBinary = block[at + field.at]! >= 0x80;
    return isBinary ? block.readUInt32BE(at + field.at + 4) : number(field);
  };
  const typeflag = String.fromCharCode(block[at + TAR.typeflag.at]!);
  const isDevice = typeflag === '3' || typeflag === '4';
  return {
    name: fullName(block, at),
    mode: low32(TAR.mode),
    uid: low32(TAR.uid),
    gid: low32(TAR.gid),
    size: exact(number(TAR.size), 'tar size', subject, offset + TAR.size.at),
    mtime: number(TAR.mtime),
    typeflag,
    linkName: textOf(block, at, TAR.linkName),
    rdevMajor: isDevice ? low32(TAR.rdevMajor) : 0,
    rdevMinor: isDevice ? low32(TAR.rdevMinor) : 0,
  };
}

/** Whether the block at `at` is a GNU header, which has its own magic and version. */
export const isGnuHeader = (block: Buffer, at: number): boolean =>
  block.toString('latin1', at + TAR.magic.at, at + TAR.magic.at + TAR.magic.size) === GNU_MAGIC;

/**
 * The name with the prefix, which only POSIX headers have. Headers of star have access times in the last 24 bytes of the
 * field. GNU headers have times there, but Go before 1.8, and so old versions of Docker, wrote GNU headers with a prefix.
 */
function fullName(block: Buffer, at: number): ByteString {
  const name = textOf(block, at, TAR.name);
  const start = at + TAR.prefix.at;
  if (block[start] === 0) return name;
  const prefix = textOf(block, at, TAR.prefix);
  if (isGnuHeader(block, at)) return hasGnuTimes(block, start, prefix) ? name : `${prefix}/${name}`;
  const magic = at + TAR.magic.at;
  if (block.toString('latin1', magic, magic + 6) !== 'ustar\0') return name;
  const isStar = block.toString('latin1', at + STAR_AT, at + BLOCK) === 'tar\0';
  return `${isStar ? prefix.slice(0, STAR_PREFIX) : prefix}/${name}`;
}

/** Whether the prefix field holds the times of a GNU header: two numbers, or bytes that are not ASCII. */
function hasGnuTimes(block: Buffer, start: number, prefix: ByteString): boolean {
  const isNumber = (at: number) => block[at] === 0 || block[at]! >= 0x80 || parseOctal(block, at, 12) !== null;
  return (isNumber(start) && isNumber(start + 12)) || /[\u0080-\u00ff]/.test(prefix);
}

type TarField = Pick<(typeof TAR)[keyof typeof TAR], 'name' | 'at' | 'size'>;

function textOf(block: Buffer, at: number, field: TarField): ByteString {
  const start = at + field.at;
  let end = start;
  while (end < start + field.size && block[end] !== 0) end++;
  return block.toString('latin1', start, end);
}

/** Throws FormatError on a wrong checksum. Some old writers summed signed bytes, which is accepted. */
function verifyChecksum(block: Buffer, at: number, offset: number, subject: string): void {
  const { at: field, size } = TAR.checksum;
  const stored = numeric(block, at + field, size, 'tar checksum', subject, offset + field);
  const sum = tarChecksum(block, at);
  if (sum === stored) return;
  let signed = sum;
  for (let i = 0; i < BLOCK; i++) if ((i < field || i >= field + size) && block[at + i]! > 127) signed -= 256;
  if (signed !== stored) {
    throw new FormatError('tar checksum', `stored ${stored}, computed ${sum}`, { subject, offset: offset + field });
  }
}

/** An exact number. Throws FormatError beyond 2^53. */
export function octalOrBinary(
  block: Buffer,
  at: number,
  length: number,
  field: string,
  subject: string,
  offset?: number,
): number {
  return exact(numeric(block, at, length, field, subject, offset), field, subject, offset);
}

function exact(value: number, field: string, subject: string, offset?: number): number {
  if (Number.isSafeInteger(value)) return value;
  throw new FormatError(field, 'the number exceeds 2^53', { subject, ...(offset === undefined ? {} : { offset }) });
}

/** Number of octal digits between spaces and NULs, or in base-256 (first byte 0x80: positive, 0xff: negative). */
function numeric(block: Buffer, at: number, length: number, field: string, subject: string, offset?: number): number {
  const value = block[at]! >= 0x80 ? base256(block, at, length) : parseOctal(block, at, length);
  if (value !== null) return value;
  throw new FormatError(field, 'not an octal number', { subject, ...(offset === undefined ? {} : { offset }) });
}

function base256(block: Buffer, at: number, length: number): number {
  // Two's complement below the marker bit; bit 6 of the first byte is the sign.
  const first = block[at]! & 0x7f;
  let value = first & 0x40 ? first - 0x80 : first;
  for (let i = at + 1; i < at + length; i++) value = value * 256 + block[i]!;
  return value;
}
