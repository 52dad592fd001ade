/**
 * Descriptions of on-disk structures. One table of fields gives the decoder, the encoder, offsets and names for messages,
 * the reserved bytes for `check`, and the documentation (docs/structures.md).
 */
import { type Field, IntField, Reserved } from './fields.ts';
import type { Reader } from './reader.ts';

export type Fields = Readonly<Record<string, Field<unknown>>>;

/** Values of the fields, without the reserved ones. */
export type ValuesOf<F extends Fields> = {
  -readonly [K in keyof F as F[K] extends Reserved ? never : K]: F[K] extends Field<infer V> ? V : never;
};

/** The values of a structure. */
export type Decoded<S> = S extends Struct<infer F> ? Readonly<ValuesOf<F>> : never;

export class Struct<F extends Fields> {
  /** Name of the structure in its source. */
  readonly name: string;
  /** Header or source file that defines the structure. */
  readonly source: string;
  /** Length in bytes. */
  readonly size: number;
  readonly fields: F;

  constructor(name: string, source: string, size: number, fields: F) {
    this.name = name;
    this.source = source;
    this.size = size;
    this.fields = fields;
  }

  /** Decodes the structure at `at`. Values are not checked; bytes are views. Throws FormatError beyond the end. */
  decode(reader: Reader, at: number): ValuesOf<F> {
    const values: Record<string, unknown> = {};
    for (const [key, field] of Object.entries(this.fields)) {
      if (!(field instanceof Reserved)) values[key] = field.read(reader, at);
    }
    return values as ValuesOf<F>;
  }

  /** Writes `values` into a zeroed buffer, and the fields that have only one legal value. */
  encode(out: Buffer, at: number, values: Partial<ValuesOf<F>>): void {
    for (const [key, field] of Object.entries(this.fields)) {
      const value = (values as Readonly<Record<string, unknown>>)[key] ?? onlyValue(field);
      if (value !== undefined) field.write(out, at, value);
    }
  }

  /** Returns the encoded structure. */
  encoded(values: Partial<ValuesOf<F>>): Buffer {
    const out = Buffer.alloc(this.size);
    this.encode(out, 0, values);
    return out;
  }

  /** The reserved fields. */
  get reserved(): Reserved[] {
    return Object.values(this.fields).filter((field) => field instanceof Reserved);
  }
}

const onlyValue = (field: Field<unknown>): number | undefined =>
  field instanceof IntField ? (field.only ?? undefined) : undefined;

/** Describes a structure. `source`: the header or source file that defines it; `size`: its length in bytes. */
export const struct = <const F extends Fields>(name: string, source: string, size: number, fields: F): Struct<F> =>
  new Struct(name, source, size, fields);
