/** Bytes under examination: what is wrong with a field is noted, and reading goes on. */

import type { FieldPlace, IntField } from '../binary/fields.ts';
import { Reader } from '../binary/reader.ts';
import type { Fields, Struct } from '../binary/struct.ts';
import type { Findings, ProblemDetails } from './findings.ts';

/**
 * A {@link Reader} that takes every number as it is: beyond 2^53 it is inexact, and out of every bound that it is held
 * against. Ask `has` before reading a structure; behind the end there is nothing to go on with.
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

  /** Notes reserved bytes that are not zero: harmless today, and somebody's secret or tomorrow's meaning. */
  zeros(offset: number, length: number, field: string, path: string | null = null): void {
    const at = firstNonZero(this.bytes, offset, offset + length);
    if (at === null) return;
    this.findings.warning(field, at, `0x${this.bytes[at]!.toString(16)} in bytes that are to be zero`, { path });
  }

  /** Notes what is wrong with a field of the structure at `at`. */
  error(field: FieldPlace, at: number, message: string, options?: ProblemDetails): void {
    this.findings.error(field.name, at + field.at, message, options);
  }

  /** Notes bytes that are to be zero and are not, in the structure at `at`. */
  reserved(structure: Struct<Fields>, at: number, field: string, path: string | null = null): void {
    for (const { at: offset, size } of structure.reserved) this.zeros(at + offset, size, field, path);
  }

  /** Notes a field that has not the only value it can have. */
  expectOnly(field: IntField, at: number): void {
    this.expectField(field, at, field.only!);
  }

  /** Notes a field that is not `wanted`. */
  expectField(field: IntField, at: number, wanted: number): void {
    this.expect(at + field.at, field.read(this, at), wanted, field.name);
  }

  /** Notes a number that is not `wanted`. */
  expect(offset: number, value: number, wanted: number, field: string): boolean {
    if (value !== wanted) this.findings.error(field, offset, `${shown(value)}, not ${shown(wanted)}`);
    return value === wanted;
  }
}

const shown = (value: number): string => (value > 0xffff ? `0x${value.toString(16)}` : String(value));

const ZEROS = Buffer.alloc(4096);

/** The place of the first byte of `start` … `end` that is not zero; null when all are. */
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
