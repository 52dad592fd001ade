/** The fields of on-disk structures, by type: where a field lies, how it is read and written. Integers are little-endian. */
import type { FormatError } from '../errors.ts';
import { putI64, putU64, type Reader } from './reader.ts';

/** What messages say of a field: its name, and its offset in the structure. */
export type FieldPlace = Pick<Field<unknown>, 'name' | 'at'>;

/** A field of a structure. `at` of its methods is where the structure begins. */
export abstract class Field<V> {
  /** As its own specification or source calls it. */
  readonly name: string;
  /** Offset in the structure, and length, in bytes. */
  readonly at: number;
  readonly size: number;
  /** What it holds, its unit and its bounds, for the documentation. */
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

  /** The error for what is wrong with this field. */
  bad(reader: Reader, at: number, problem: string): FormatError {
    return reader.bad(this.name, problem, at + this.at);
  }
}

/** A number. */
export abstract class IntField extends Field<number> {
  /** The one value that it can have; null for others. */
  readonly only: number | null;

  constructor(at: number, size: number, name: string, meaning = '', only: number | null = null) {
    super(at, size, name, meaning);
    this.only = only;
  }
}

// A class for each type: calls of `read` in loops over millions of inodes and chunks are inlined only where they are
// always the same function.
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

/** Bytes as they are. What is read is a view; what is written may be shorter. */
class Bytes extends Field<Buffer> {
  readonly type = 'bytes';
  read(reader: Reader, at: number): Buffer {
    return reader.slice(at + this.at, this.size, this.name);
  }
  write(out: Buffer, at: number, value: Buffer): void {
    value.copy(out, at + this.at, 0, this.size);
  }
}

/** Characters 0…255. What is read has the padding too; what is written is cut to the field. */
class Text extends Field<string> {
  readonly type = 'text';
  read(reader: Reader, at: number): string {
    return reader.text(at + this.at, this.size, this.name);
  }
  write(out: Buffer, at: number, value: string): void {
    out.write(value, at + this.at, this.size, 'latin1');
  }
}

/** Octal digits, then a NUL (tar). Null for what is no number; nothing is written for it. */
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

/** Octal digits between spaces and NULs; null when they are none. What follows a NUL means nothing. */
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

/** Bytes that are to be zero. */
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
