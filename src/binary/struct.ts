/**
 * On-disk structures, each described once: a table of fields gives the decoder, the encoder, the offsets and names in
 * messages, what `check` walks over, and the documentation (docs/structures.md).
 */
import { type Field, IntField, Reserved } from './fields.ts';
import type { Reader } from './reader.ts';

export type Fields = Readonly<Record<string, Field<unknown>>>;

/** What the fields hold, without those that are reserved. */
export type ValuesOf<F extends Fields> = {
  -readonly [K in keyof F as F[K] extends Reserved ? never : K]: F[K] extends Field<infer V> ? V : never;
};

/** The values of a structure. */
export type Decoded<S> = S extends Struct<infer F> ? Readonly<ValuesOf<F>> : never;

export class Struct<F extends Fields> {
  /** As upstream calls it. */
  readonly name: string;
  /** The header or source file that defines it. */
  readonly source: string;
  /** Bytes. */
  readonly size: number;
  readonly fields: F;

  constructor(name: string, source: string, size: number, fields: F) {
    this.name = name;
    this.source = source;
    this.size = size;
    this.fields = fields;
  }

  /** The values of the structure at `at`; nothing is checked but that they are there. Bytes are views. */
  decode(reader: Reader, at: number): ValuesOf<F> {
    const values: Record<string, unknown> = {};
    for (const [key, field] of Object.entries(this.fields)) {
      if (!(field instanceof Reserved)) values[key] = field.read(reader, at);
    }
    return values as ValuesOf<F>;
  }

  /** Writes `values` into a zeroed buffer, and of the others those that can have one value only. */
  encode(out: Buffer, at: number, values: Partial<ValuesOf<F>>): void {
    for (const [key, field] of Object.entries(this.fields)) {
      const value = (values as Readonly<Record<string, unknown>>)[key] ?? onlyValue(field);
      if (value !== undefined) field.write(out, at, value);
    }
  }

  /** The structure's bytes. */
  encoded(values: Partial<ValuesOf<F>>): Buffer {
    const out = Buffer.alloc(this.size);
    this.encode(out, 0, values);
    return out;
  }

  /** The fields that are to be zero. */
  get reserved(): Reserved[] {
    return Object.values(this.fields).filter((field) => field instanceof Reserved);
  }
}

const onlyValue = (field: Field<unknown>): number | undefined =>
  field instanceof IntField ? (field.only ?? undefined) : undefined;

/** `source`: the header or source file that defines it; `size`: bytes. */
export const struct = <const F extends Fields>(name: string, source: string, size: number, fields: F): Struct<F> =>
  new Struct(name, source, size, fields);
