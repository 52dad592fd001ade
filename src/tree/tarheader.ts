/** One 512-byte tar header block: ustar, GNU, star and v7, bytes → fields. Extended headers are applied by `tar.ts`. */
import { FormatError } from '../errors.ts';
import type { ByteString } from './node.ts';

export const BLOCK = 512;

/** The fields of a header block that we need, as stored. */
export interface RawHeader {
  name: ByteString;
  mode: number;
  /** The low 32 bits, which are all that an engine hands to the kernel. */
  uid: number;
  gid: number;
  size: number;
  /** Seconds, may be negative (GNU base-256), and beyond 2^53, where they are not exact. */
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

/** Decodes the block at `at`; `offset` is its place in the tar, for error messages. Throws FormatError. */
export function decodeHeader(block: Buffer, at: number, offset: number, subject: string): RawHeader {
  verifyChecksum(block, at, offset, subject);
  const number = (field: string, start: number, length: number) =>
    numeric(block, at + start, length, `tar ${field}`, subject, offset + start);
  const low32 = (field: string, start: number) => {
    const isBinary = block[at + start]! >= 0x80;
    return isBinary ? block.readUInt32BE(at + start + 4) : number(field, start, 8);
  };
  const typeflag = String.fromCharCode(block[at + 156]!);
  const isDevice = typeflag === '3' || typeflag === '4';
  return {
    name: fullName(block, at),
    mode: low32('mode', 100),
    uid: low32('uid', 108),
    gid: low32('gid', 116),
    size: octalOrBinary(block, at + 124, 12, 'tar size', subject, offset + 124),
    mtime: number('mtime', 136, 12),
    typeflag,
    linkName: text(block, at + 157, 100),
    rdevMajor: isDevice ? low32('devmajor', 329) : 0,
    rdevMinor: isDevice ? low32('devminor', 337) : 0,
  };
}

/** GNU headers have their own magic and version. */
export const isGnuHeader = (block: Buffer, at: number): boolean =>
  block.toString('latin1', at + 257, at + 265) === 'ustar  \0';

/**
 * The prefix field is one only in POSIX headers; star keeps access times in its last 24 bytes and says so at 508. GNU
 * keeps times there, but Go before 1.8, and so old Dockers, wrote GNU headers with a prefix.
 */
function fullName(block: Buffer, at: number): ByteString {
  const name = text(block, at, 100);
  if (block[at + 345] === 0) return name;
  if (isGnuHeader(block, at)) return hasGnuTimes(block, at) ? name : `${text(block, at + 345, 155)}/${name}`;
  if (block.toString('latin1', at + 257, at + 263) !== 'ustar\0') return name;
  const isStar = block.toString('latin1', at + 508, at + 512) === 'tar\0';
  return `${text(block, at + 345, isStar ? 131 : 155)}/${name}`;
}

/** Whether numbers stand where GNU has times, or what is no text either. */
function hasGnuTimes(block: Buffer, at: number): boolean {
  const isNumber = (start: number) => block[start] === 0 || block[start]! >= 0x80 || octal(block, start, 12) !== null;
  return (isNumber(at + 345) && isNumber(at + 357)) || /[\u0080-\u00ff]/.test(text(block, at + 345, 155));
}

function text(block: Buffer, at: number, length: number): ByteString {
  let end = at;
  while (end < at + length && block[end] !== 0) end++;
  return block.toString('latin1', at, end);
}

/** The sum takes the checksum field as eight spaces. Some old writers summed signed bytes. */
function verifyChecksum(block: Buffer, at: number, offset: number, subject: string): void {
  const stored = numeric(block, at + 148, 8, 'tar checksum', subject, offset + 148);
  let sum = 8 * 32;
  for (let i = at; i < at + 148; i++) sum += block[i]!;
  for (let i = at + 156; i < at + BLOCK; i++) sum += block[i]!;
  if (sum === stored) return;
  let signed = sum;
  for (let i = 0; i < BLOCK; i++) if ((i < 148 || i >= 156) && block[at + i]! > 127) signed -= 256;
  if (signed !== stored) {
    throw new FormatError('tar checksum', `stored ${stored}, computed ${sum}`, { subject, offset: offset + 148 });
  }
}

/** A number that has to be exact: FORMAT beyond 2^53. */
export function octalOrBinary(
  block: Buffer,
  at: number,
  length: number,
  field: string,
  subject: string,
  offset?: number,
): number {
  const value = numeric(block, at, length, field, subject, offset);
  if (Number.isSafeInteger(value)) return value;
  throw new FormatError(field, 'beyond 2^53', { subject, ...(offset === undefined ? {} : { offset }) });
}

/** Octal digits between spaces and NULs, or base-256 (first byte 0x80: positive, 0xff: negative). */
function numeric(block: Buffer, at: number, length: number, field: string, subject: string, offset?: number): number {
  const value = block[at]! >= 0x80 ? base256(block, at, length) : octal(block, at, length);
  if (value !== null) return value;
  throw new FormatError(field, 'not an octal number', { subject, ...(offset === undefined ? {} : { offset }) });
}

/** Null when it is none. What follows a NUL means nothing. */
function octal(block: Buffer, at: number, length: number): number | null {
  let i = at;
  const end = at + length;
  while (i < end && (block[i] === 32 || block[i] === 0)) i++;
  let value = 0;
  for (; i < end; i++) {
    const digit = block[i]! - 48;
    if (digit < 0 || digit > 7) break;
    value = value * 8 + digit;
  }
  while (i < end && block[i] === 32) i++;
  return i === end || block[i] === 0 ? value : null;
}

function base256(block: Buffer, at: number, length: number): number {
  // Two's complement below the marker bit; bit 6 of the first byte is the sign.
  const first = block[at]! & 0x7f;
  let value = first & 0x40 ? first - 0x80 : first;
  for (let i = at + 1; i < at + length; i++) value = value * 256 + block[i]!;
  return value;
}
