/** One 512-byte tar header block: ustar, GNU, star and v7, bytes → fields. Extended headers are applied by `tar.ts`. */
import { FormatError } from '../errors.ts';
import type { ByteString } from './node.ts';

export const BLOCK = 512;

/** The fields of a header block that we need, as stored. */
export interface RawHeader {
  name: ByteString;
  mode: number;
  uid: number;
  gid: number;
  size: number;
  /** Seconds, may be negative (GNU base-256). */
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
    numeric(block, at + start, length, `tar ${field}`, offset + start, subject);
  const typeflag = String.fromCharCode(block[at + 156]!);
  const isDevice = typeflag === '3' || typeflag === '4';
  return {
    name: fullName(block, at),
    mode: number('mode', 100, 8),
    uid: number('uid', 108, 8),
    gid: number('gid', 116, 8),
    size: number('size', 124, 12),
    mtime: number('mtime', 136, 12),
    typeflag,
    linkName: text(block, at + 157, 100),
    rdevMajor: isDevice ? number('devmajor', 329, 8) : 0,
    rdevMinor: isDevice ? number('devminor', 337, 8) : 0,
  };
}

/** The prefix field is one only in POSIX headers; star keeps access times in its last 24 bytes and says so at 508. */
function fullName(block: Buffer, at: number): ByteString {
  const name = text(block, at, 100);
  if (block[at + 345] === 0 || block.toString('latin1', at + 257, at + 263) !== 'ustar\0') return name;
  const isStar = block.toString('latin1', at + 508, at + 512) === 'tar\0';
  return `${text(block, at + 345, isStar ? 131 : 155)}/${name}`;
}

function text(block: Buffer, at: number, length: number): ByteString {
  let end = at;
  while (end < at + length && block[end] !== 0) end++;
  return block.toString('latin1', at, end);
}

/** The sum takes the checksum field as eight spaces. Some old writers summed signed bytes. */
function verifyChecksum(block: Buffer, at: number, offset: number, subject: string): void {
  const stored = numeric(block, at + 148, 8, 'tar checksum', offset + 148, subject);
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

/** Octal digits between spaces and NULs, or base-256 (first byte 0x80: positive, 0xff: negative). */
function numeric(block: Buffer, at: number, length: number, field: string, offset: number, subject: string): number {
  const bad = (problem: string) => new FormatError(field, problem, { subject, offset });
  const first = block[at]!;
  if (first >= 0x80) return base256(block, at, length, bad);
  let i = at;
  const end = at + length;
  while (i < end && (block[i] === 32 || block[i] === 0)) i++;
  let value = 0;
  for (; i < end; i++) {
    const digit = block[i]! - 48;
    if (digit < 0 || digit > 7) break;
    value = value * 8 + digit;
  }
  for (; i < end; i++) if (block[i] !== 32 && block[i] !== 0) throw bad('not an octal number');
  return value;
}

function base256(block: Buffer, at: number, length: number, bad: (problem: string) => FormatError): number {
  // Two's complement below the marker bit; bit 6 of the first byte is the sign.
  const first = block[at]! & 0x7f;
  let value = first & 0x40 ? first - 0x80 : first;
  for (let i = at + 1; i < at + length; i++) value = value * 256 + block[i]!;
  if (!Number.isSafeInteger(value)) throw bad('beyond 2^53');
  return value;
}
