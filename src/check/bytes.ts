/** Bytes under examination: problems of a field are recorded, and reading continues. */

import type { FieldPlace, IntField } from '../binary/fields.ts';
import { Reader } from '../binary/reader.ts';
import type { Fields, Struct } from '../binary/struct.ts';
import type { Findings, ProblemDetails } from './findings.ts';

/**
 * A {@link Reader} that accepts every number. Numbers beyond 2^53 are inexact, but exceed every bound that they are
 * compared with. Call `has` before reading a structure, since reads beyond the end throw.
 */
export class Bytes extends Reader {
  readonly findings: Findings;

  constructor(bytes: Buffer, findings: Findings) {
    super(bytes, findings.subject);
    this.findings = findings;
  }

  /** Whether `length` bytes lie at `offset`. */
  has(offset: number, length: number): boolean {
    return Number.isSafeInteger(offset) && offset >= 0 && length >= 0 && offset + length <= this.length;
  }

  override u64(offset: number, field: string): number {
    this.check(offset, 8, field);
    return this.bytes.readUInt32LE(offset + 4) * 2 ** 32 + this.bytes.readUInt32LE(offset);
  }

  override i64(offset: number, field: string): number {
    this.check(offset, 8, field);
    return this.bytes.readInt32LE(offset + 4) * 2 ** 32 + this.bytes.readUInt32LE(offset);
  }

  /** Warns of reserved bytes that are not zero: readers ignore them today, but a later format version may not. */
  zeros(offset: number, length: number, field: string, path: string | null = null): void {
    const at = firstNonZero(this.bytes, offset, offset + length);
    if (at === null) return;
    this.findings.warning(field, at, `0x${this.bytes[at]!.toString(16)} in reserved bytes, which must be zero`, {
      path,
    });
  }

  /** Records a problem of a field of the structure at `at`. */
  error(field: FieldPlace, at: number, message: string, options?: ProblemDetails): void {
    this.findings.error(field.name, at + field.at, message, options);
  }

  /** Warns of reserved bytes that are not zero in the structure at `at`. */
  reserved(structure: Struct<Fields>, at: number, field: string, path: string | null = null): void {
    for (const { at: offset, size } of structure.reserved) this.zeros(at + offset, size, field, path);
  }

  /** Records a problem when a field does not have its only legal value. */
  expectOnly(field: IntField, at: number): void {
    this.expectField(field, at, field.only!);
  }

  /** Records a problem when a field is not `expected`. */
  expectField(field: IntField, at: number, expected: number): void {
    this.expect(at + field.at, field.read(this, at), expected, field.name);
  }

  /** Records a problem when a number is not `expected`. */
  expect(offset: number, value: number, expected: number, field: string): boolean {
    if (value !== expected) this.findings.error(field, offset, `${shown(value)}, not ${shown(expected)}`);
    return value === expected;
  }
}

const shown = (value: number): string => (value > 0xffff ? `0x${value.toString(16)}` : String(value));

const ZEROS = Buffer.alloc(4096);

/** Offset of the first byte in `start` … `end` that is not zero; null when all are zero. */
export function firstNonZero(bytes: Buffer, start: number, end: number): number | null {
  for (let at = start; at < end; ) {
    const next = Math.min(end, at + ZEROS.length);
    if (ZEROS.compare(bytes, at, next, 0, next - at) !== 0) {
      while (bytes[at] === 0) at++;
      return at;
    }
    at = next;
  }
  return null;
}
