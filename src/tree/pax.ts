/** PAX extended header records (POSIX.1-2001): bytes → key and value. No tar here. */
import { FormatError } from '../errors.ts';
import type { ByteString, Mtime } from './node.ts';

/** Values are byte strings: paths, xattr values and numbers alike. */
export type PaxRecords = Map<ByteString, ByteString>;

/** Prefix of the records that carry extended attributes. */
export const XATTR_PREFIX = 'SCHILY.xattr.';

/**
 * Adds the records in `body` ("LENGTH KEY=VALUE\n" …) to `records`; the last of a key wins, an empty value stays as a
 * deletion mark.
 */
export function parsePax(body: Buffer, records: PaxRecords, subject: string): void {
  const bad = (problem: string, offset: number) => new FormatError('pax header', problem, { subject, offset });
  let at = 0;
  while (at < body.length) {
    const space = body.indexOf(32, at);
    const digits = space < 0 ? '' : body.toString('latin1', at, Math.min(space, at + 12));
    if (!/^[0-9]{1,10}$/.test(digits)) throw bad('record length is not a decimal number', at);
    const end = at + Number(digits);
    if (end > body.length || end <= space + 1) throw bad('record length runs out of the header', at);
    if (body[end - 1] !== 10) throw bad('record does not end with a newline', at);
    const equals = body.indexOf(61, space + 1);
    if (equals < 0 || equals >= end - 1) throw bad('record has no "="', at);
    const key = body.toString('latin1', space + 1, equals);
    if (key === '') throw bad('record has an empty key', at);
    records.set(key, body.toString('latin1', equals + 1, end - 1));
    at = end;
  }
}

/** A decimal number ≥ 0. */
export function paxNumber(value: ByteString, key: string, subject: string): number {
  const number = /^[0-9]{1,16}$/.test(value) ? Number(value) : Number.NaN;
  if (!Number.isSafeInteger(number)) {
    throw new FormatError(`pax ${key}`, 'not a decimal number below 2^53', { subject });
  }
  return number;
}

/** `-1234.5` → { sec: -1235, nsec: 500000000 }. Digits beyond the ninth are cut off, as everybody does. */
export function paxTime(value: ByteString, subject: string): Mtime {
  const match = /^(-?)([0-9]{1,16})(?:\.([0-9]*))?$/.exec(value);
  const sec = Number(match?.[2]);
  if (match === null || !Number.isSafeInteger(sec)) {
    throw new FormatError('pax mtime', 'not a decimal number of seconds', { subject });
  }
  const nsec = Number((match[3] ?? '').slice(0, 9).padEnd(9, '0'));
  if (match[1] === '') return { sec, nsec };
  return nsec === 0 ? { sec: sec === 0 ? 0 : -sec, nsec } : { sec: -sec - 1, nsec: 1_000_000_000 - nsec };
}
