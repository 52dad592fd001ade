/** Field types of on-disk structures: offset, decoder and encoder of each. Integers are little-endian. */
import type { FormatError } from '../errors.ts';
import { putI64, putU64, type Reader } from './reader.ts';

/** Name of a field, and its offset in the structure, for messages. */
export type FieldPlace = Pick<Field<unknown>, 'name' | 'at'>;

/** A field of a structure. The argument `at` of its methods is the offset of the structure. */
export abstract class Field<V> {
  /** Name of the field in its specification or source. */
  readonly name: string;
  /** Offset in the structure, and length, in bytes. */
  readonly at: number;
  readonly size: number;
  /** Meaning, unit and bounds of the value, for the documentation. */
  readonly meaning: string;
  abstract readonly type: string;

  constructor(at: number, size: number, name: string, meaning: string) {
    this.at = at;
    this.size = size;
    this.name = name;
    this.meaning = meaning;
  }

  abstract read(reader: Reader, at: number): V;
  abstract write(out: Buffer, at: number, value: V): void;

  /** The error for a problem of this field. */
  bad(reader: Reader, at: number, problem: string): FormatError {
    return reader.bad(this.name, problem, at + this.at);
  }
}

/** An integer field. */
export abstract class IntField extends Field<number> {
  /** The only legal value; null when there are several. */
  readonly only: number | null;

  constructor(at: number, size: number, name: string, meaning = '', only: number | null = null) {
    super(at, size, name, meaning);
    this.only = only;
  }
}

// Each type has its own class: V8 inlines calls of `read` in loops over millions of inodes and chunks only where they
// always call the same function.
class U8 extends IntField {
  readonly type = 'u8';
  read(reader: Reader, at: number): number {
    return reader.u8(at + this.at, this.name);
  }
  write(out: Buffer, at: number, value: number): void {
    out[at + this.at] = value;
  }
}

class U16 extends IntField {
  readonly type = 'u16';
  read(reader: Reader, at: number): number {
    return reader.u16(at + this.at, this.name);
  }
  write(out: Buffer, at: number, value: number): void {
    out.writeUInt16LE(value, at + this.at);
  }
}

class U24 extends IntField {
  readonly type = 'u24';
  read(reader: Reader, at: number): number {
    return reader.u24(at + this.at, this.name);
  }
  write(out: Buffer, at: number, value: number): void {
    out.writeUIntLE(value, at + this.at, 3);
  }
}

class U32 extends IntField {
  readonly type = 'u32';
  read(reader: Reader, at: number): number {
    return reader.u32(at + this.at, this.name);
  }
  write(out: Buffer, at: number, value: number): void {
    out.writeUInt32LE(value, at + this.at);
  }
}

class U40 extends IntField {
  readonly type = 'u40';
  read(reader: Reader, at: number): number {
    return reader.u40(at + this.at, this.name);
  }
  write(out: Buffer, at: number, value: number): void {
    out.writeUIntLE(value, at + this.at, 5);
  }
}

class U64 extends IntField {
  readonly type = 'u64';
  read(reader: Reader, at: number): number {
    return reader.u64(at + this.at, this.name);
  }
  write(out: Buffer, at: number, value: number): void {
    putU64(out, value, at + this.at);
  }
}

class I64 extends IntField {
  readonly type = 'i64';
  read(reader: Reader, at: number): number {
    return reader.i64(at + this.at, this.name);
  }
  write(out: Buffer, at: number, value: number): void {
    putI64(out, value, at + this.at);
  }
}

/** Raw bytes. `read` returns a view; `write` accepts fewer bytes than the field has. */
class Bytes extends Field<Buffer> {
  readonly type = 'bytes';
  read(reader: Reader, at: number): Buffer {
    return reader.slice(at + this.at, this.size, this.name);
  }
  write(out: Buffer, at: number, value: Buffer): void {
    value.copy(out, at + this.at, 0, this.size);
  }
}

/** Characters 0…255. `read` returns the padding too; `write` truncates to the size of the field. */
class Text extends Field<string> {
  readonly type = 'text';
  read(reader: Reader, at: number): string {
    return reader.text(at + this.at, this.size, this.name);
  }
  write(out: Buffer, at: number, value: string): void {
    out.write(value, at + this.at, this.size, 'latin1');
  }
}

/** Octal digits, then a NUL (tar). `read` returns null when the field is not a number; `write` of null writes nothing. */
class Octal extends Field<number | null> {
  readonly type = 'octal';
  read(reader: Reader, at: number): number | null {
    return parseOctal(reader.bytes, at + this.at, this.size);
  }
  write(out: Buffer, at: number, value: number | null): void {
    if (value === null) return;
    out.write(`${value.toString(8).padStart(this.size - 1, '0')}\0`, at + this.at, this.size, 'latin1');
  }
}

/** Number of octal digits between spaces and NULs; null when they are not a number. Bytes after a NUL are ignored. */
export function parseOctal(block: Buffer, at: number, length: number): number | null {
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

/** Reserved bytes, which must be zero. */
export class Reserved extends Field<null> {
  readonly type = 'zeros';
  read(): null {
    return null;
  }
  write(): void {}
}

type MakeInt = (at: number, name: string, meaning?: string, only?: number) => IntField;
export const u8: MakeInt = (at, name, meaning, only) => new U8(at, 1, name, meaning, only);
export const u16: MakeInt = (at, name, meaning, only) => new U16(at, 2, name, meaning, only);
export const u24: MakeInt = (at, name, meaning, only) => new U24(at, 3, name, meaning, only);
export const u32: MakeInt = (at, name, meaning, only) => new U32(at, 4, name, meaning, only);
export const u40: MakeInt = (at, name, meaning, only) => new U40(at, 5, name, meaning, only);
export const u64: MakeInt = (at, name, meaning, only) => new U64(at, 8, name, meaning, only);
export const i64: MakeInt = (at, name, meaning, only) => new I64(at, 8, name, meaning, only);
export const bytes = (at: number, size: number, name: string, meaning = ''): Bytes =>
  new Bytes(at, size, name, meaning);
export const text = (at: number, size: number, name: string, meaning = ''): Text => new Text(at, size, name, meaning);
export const octal = (at: number, size: number, name: string, meaning = ''): Octal =>
  new Octal(at, size, name, meaning);
export const zeros = (at: number, size: number, name = 'reserved', meaning = ''): Reserved =>
  new Reserved(at, size, name, meaning);
