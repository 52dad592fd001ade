/** Reads integers from untrusted bytes: every access is checked against the length, and errors name the field. */
import { FormatError, LacunaError } from '../errors.ts';

export class Reader {
  readonly bytes: Buffer;
  /** Subject of error messages: the file or structure that is read. */
  readonly subject: string;

  readonly #op: string;

  constructor(bytes: Buffer, subject: string, op = 'read bootstrap') {
    this.bytes = bytes;
    this.subject = subject;
    this.#op = op;
  }

  get length(): number {
    return this.bytes.length;
  }

  /** Throws FormatError unless `length` bytes lie at `offset`. */
  check(offset: number, length: number, field: string): void {
    // The comparison is negated so that NaN fails it.
    if (!(offset >= 0 && length >= 0 && length <= this.bytes.length && offset <= this.bytes.length - length)) {
      throw this.bad(field, `${length} bytes exceed the input's ${this.bytes.length} bytes`, offset);
    }
  }

  u8(offset: number, field: string): number {
    this.check(offset, 1, field);
    return this.bytes[offset]!;
  }

  u16(offset: number, field: string): number {
    this.check(offset, 2, field);
    return this.bytes.readUInt16LE(offset);
  }

  u32(offset: number, field: string): number {
    this.check(offset, 4, field);
    return this.bytes.readUInt32LE(offset);
  }

  u24(offset: number, field: string): number {
    this.check(offset, 3, field);
    return this.bytes.readUIntLE(offset, 3);
  }

  u40(offset: number, field: string): number {
    this.check(offset, 5, field);
    return this.bytes[offset + 4]! * 2 ** 32 + this.bytes.readUInt32LE(offset);
  }

  /** An unsigned number. Throws FormatError beyond 2^53 − 1, which no valid offset or size exceeds. */
  u64(offset: number, field: string): number {
    this.check(offset, 8, field);
    const value = this.bytes.readUInt32LE(offset + 4) * 2 ** 32 + this.bytes.readUInt32LE(offset);
    if (!Number.isSafeInteger(value)) throw this.bad(field, 'the number exceeds 2^53', offset);
    return value;
  }

  /** A signed number. Throws FormatError outside ±2^53. */
  i64(offset: number, field: string): number {
    this.check(offset, 8, field);
    const value = this.bytes.readInt32LE(offset + 4) * 2 ** 32 + this.bytes.readUInt32LE(offset);
    if (!Number.isSafeInteger(value)) throw this.bad(field, 'the number exceeds 2^53', offset);
    return value;
  }

  /** Bytes as a view, not a copy. */
  slice(offset: number, length: number, field: string): Buffer {
    this.check(offset, length, field);
    return this.bytes.subarray(offset, offset + length);
  }

  /** The bytes as characters 0…255. */
  text(offset: number, length: number, field: string): string {
    this.check(offset, length, field);
    return this.bytes.toString('latin1', offset, offset + length);
  }

  /** The error for a feature of the format that this version cannot read. `why`: the hint. */
  unsupported(what: string, why?: string): LacunaError {
    const options = { op: this.#op, subject: this.subject, ...(why === undefined ? {} : { hint: why }) };
    return new LacunaError('UNSUPPORTED', `${what} is not supported`, options);
  }

  bad(field: string, problem: string, offset: number): FormatError {
    return new FormatError(field, problem, { op: this.#op, subject: this.subject, offset });
  }
}

/** Writes a non-negative integer below 2^53 as u64. */
export function putU64(out: Buffer, value: number, at: number): void {
  out.writeUInt32LE(value % 2 ** 32, at);
  out.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}

/** Writes an integer of ±2^53 as i64. */
export function putI64(out: Buffer, value: number, at: number): void {
  const high = Math.floor(value / 2 ** 32);
  out.writeUInt32LE(value - high * 2 ** 32, at);
  out.writeInt32LE(high, at + 4);
}
