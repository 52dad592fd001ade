/** PAX extended header records (POSIX.1-2001): bytes → key and value. No tar here. */
import { FormatError } from '../errors.ts';
import type { ByteString, Mtime } from './node.ts';

/** Values are byte strings: paths, xattr values and numbers alike. */
export type PaxRecords = Map<ByteString, ByteString>;

/** Prefix of the records that carry extended attributes. */
export const XATTR_PREFIX = 'SCHILY.xattr.';

/** The records in `body` ("LENGTH KEY=VALUE\n" …); the last of a key wins, an empty value stays as a deletion mark. */
export function parsePax(body: Buffer, subject: string): PaxRecords {
  const records: PaxRecords = new Map();
  const sparse: ByteString[] = [];
  const bad = (problem: string, offset: number) => new FormatError('pax header', problem, { subject, offset });
  let at = 0;
  while (at < body.length) {
    const space = body.indexOf(32, at);
    const digits = space < 0 ? '' : body.toString('latin1', at, Math.min(space, at + 12));
    if (!/^[0-9]{1,10}$/.test(digits)) throw bad('record length is not a decimal number', at);
    const end = at + Number(digits);
    if (end > body.length || end <= space + 1) throw bad('record length exceeds the header', at);
    if (body[end - 1] !== 10) throw bad('record does not end with a newline', at);
    const equals = body.indexOf(61, space + 1);
    if (equals < 0 || equals >= end - 1) throw bad('record has no "="', at);
    const key = body.toString('latin1', space + 1, equals);
    if (key === '') throw bad('record has an empty key', at);
    const value = body.toString('latin1', equals + 1, end - 1);
    // Version 0.0 repeats two keys in turn; version 0.1 is the same in one record.
    const turn = SPARSE_00.indexOf(key);
    if (turn < 0) records.set(key, value);
    else if (turn !== sparse.length % 2 || value.includes(',')) throw bad(`${key} out of turn`, at);
    else sparse.push(value);
    at = end;
  }
  if (sparse.length > 0) records.set('GNU.sparse.map', sparse.join(','));
  return records;
}

const SPARSE_00 = ['GNU.sparse.offset', 'GNU.sparse.numbytes'];

/** A decimal number ≥ 0. */
export function paxNumber(value: ByteString, key: string, subject: string): number {
  const number = /^[0-9]{1,16}$/.test(value) ? Number(value) : Number.NaN;
  if (!Number.isSafeInteger(number)) {
    throw new FormatError(`pax ${key}`, 'not a decimal number below 2^53', { subject });
  }
  return number;
}

/** The low 32 bits of a decimal number, which are all that an engine hands to the kernel. */
export function paxId(value: ByteString, key: string, subject: string): number {
  if (!/^[-+]?[0-9]{1,19}$/.test(value)) {
    throw new FormatError(`pax ${key}`, 'not a decimal number', { subject });
  }
  return Number(BigInt.asUintN(32, BigInt(value.replace('+', ''))));
}

/** `-1234.5` → { sec: -1235, nsec: 500000000 }. Digits beyond the ninth are cut off, as everybody does. */
export function paxTime(value: ByteString, subject: string): Mtime {
  const match = /^([-+]?)([0-9]+)(?:\.([0-9]*))?$/.exec(value);
  if (match === null) throw new FormatError('pax mtime', 'not a decimal number of seconds', { subject });
  const sec = Number(match[2]);
  const nsec = Number((match[3] ?? '').slice(0, 9).padEnd(9, '0'));
  if (match[1] !== '-') return boundTime(sec, nsec);
  return nsec === 0 ? boundTime(sec === 0 ? 0 : -sec, nsec) : boundTime(-sec - 1, 1_000_000_000 - nsec);
}

/** Seconds whose nanoseconds have 63 bits: until the year 2262. */
const MAX_SECONDS = Math.floor(2 ** 63 / 1e9);

/** A time that does not fit into 64 bits of nanoseconds is the epoch, as to Docker and containerd. */
export const boundTime = (sec: number, nsec: number): Mtime =>
  Math.abs(sec) < MAX_SECONDS ? { sec, nsec } : { sec: 0, nsec: 0 };
