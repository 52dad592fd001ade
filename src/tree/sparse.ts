/**
 * Maps of sparse members: the parts of a file that a tar holds; all other bytes are zero. GNU's old type `S` and its pax forms
 * 0.0, 0.1 and 1.0 (GNU tar manual, "Storing Sparse Files"), read as Go's archive/tar does.
 */
import { FormatError } from '../errors.ts';
import type { ByteString } from './node.ts';
import { type PaxRecords, paxNumber } from './pax.ts';
import { BLOCK, octalOrBinary } from './tarheader.ts';

/** Maximum number of parts of a sparse file, as in Go's archive/tar. */
export const MAX_SPARSE_PARTS = 2 ** 20;

/** Maximum size of a sparse file in bytes: 16 TiB, as in ext4. */
export const MAX_SPARSE_SIZE = 2 ** 44;
/** Maximum decimal digits of a number in a map, which 2^63 has. */
const MAX_DIGITS = 19;

/** A map that is read step by step: first the part in the header, then the blocks that follow it. */
export interface SparseMap {
  /** Bytes of the whole file. */
  readonly size: number;
  /** Offset and length of each part, in bytes, in order. */
  readonly parts: readonly number[];
  /** False while the map continues in the next block. */
  readonly isWhole: boolean;
  /** Whether the blocks of the map count as content of the member. */
  readonly isContent: boolean;
  /** Reads the next block of the map. */
  add(block: Buffer, at: number): void;
}

class Parts {
  readonly size: number;
  readonly parts: number[] = [];
  readonly #subject: string;

  constructor(size: number, subject: string) {
    this.size = size;
    this.#subject = subject;
    if (size < 0 || size > MAX_SPARSE_SIZE) throw this.bad(`${size} bytes, not 0 to ${MAX_SPARSE_SIZE} bytes`);
  }

  /** Adds a part. Throws FormatError unless parts are in order, lie in the file and do not overlap. */
  put(offset: number, length: number): void {
    const end = this.parts.length === 0 ? 0 : this.parts.at(-2)! + this.parts.at(-1)!;
    if (offset < end) throw this.bad(`part at ${offset} begins before the end of the one before it, ${end}`);
    if (length < 0 || offset + length > this.size) {
      throw this.bad(`part of ${length} bytes at ${offset} exceeds the file's ${this.size} bytes`);
    }
    if (this.parts.length === 2 * MAX_SPARSE_PARTS) throw this.bad(`more than ${MAX_SPARSE_PARTS} parts`);
    this.parts.push(offset, length);
  }

  bad(problem: string): FormatError {
    return new FormatError('sparse map', problem, { subject: this.#subject });
  }
}

/** Map of type `S`: four parts and the size in the header, and 21 parts in each block that follows. */
class OldMap extends Parts implements SparseMap {
  readonly isContent = false;
  isWhole = false;
  #fields = { first: 386, count: 4, more: 482 };
  readonly #number: (block: Buffer, at: number) => number;

  constructor(header: Buffer, at: number, subject: string) {
    const number = (block: Buffer, from: number) => octalOrBinary(block, from, 12, 'sparse map', subject);
    super(number(header, at + 483), subject);
    this.#number = number;
    this.add(header, at);
    this.#fields = { first: 0, count: 21, more: 504 };
  }

  add(block: Buffer, at: number): void {
    const { first, count, more } = this.#fields;
    for (let i = 0; i < count; i++) {
      const field = at + first + i * 24;
      if (block[field] === 0) break;
      this.put(this.#number(block, field), this.#number(block, field + 12));
    }
    this.isWhole = block[at + more] === 0;
  }
}

/** Map of pax 0.1, which is one record; 0.0 is converted to it. */
class RecordMap extends Parts implements SparseMap {
  readonly isContent = false;
  readonly isWhole = true;

  constructor(size: number, map: ByteString, count: ByteString | undefined, subject: string) {
    super(size, subject);
    const numbers = map === '' ? [] : map.split(',');
    if (count === undefined || 2 * paxNumber(count, 'GNU.sparse.numblocks', subject) !== numbers.length) {
      throw this.bad(`${numbers.length} numbers for ${count ?? 'an unknown number of'} parts`);
    }
    const number = (i: number) => paxNumber(numbers[i]!, 'GNU.sparse.map', subject);
    for (let i = 0; i < numbers.length; i += 2) this.put(number(i), number(i + 1));
  }

  add(): void {}
}

/** Map of pax 1.0: decimal numbers, one a line, in the first blocks of the content. The first is the number of parts. */
class ContentMap extends Parts implements SparseMap {
  readonly isContent = true;
  isWhole = false;
  #count: number | null = null;
  #offset: number | null = null;
  #value = 0;
  #digits = 0;

  add(block: Buffer, at: number): void {
    for (let i = at; i < at + BLOCK && !this.isWhole; i++) {
      const byte = block[i]!;
      if (byte >= 48 && byte <= 57 && this.#digits < MAX_DIGITS) {
        this.#value = this.#value * 10 + byte - 48;
        this.#digits++;
      } else if (byte === 10 && this.#digits > 0) {
        this.#line(this.#value);
        this.#value = this.#digits = 0;
      } else {
        throw this.bad('not a decimal number');
      }
    }
  }

  #line(value: number): void {
    if (!Number.isSafeInteger(value)) throw this.bad('not a decimal number below 2^53');
    if (this.#count === null) {
      if (value > MAX_SPARSE_PARTS) throw this.bad(`${value} parts, more than ${MAX_SPARSE_PARTS}`);
      this.#count = value;
    } else if (this.#offset === null) {
      this.#offset = value;
    } else {
      this.put(this.#offset, value);
      this.#offset = null;
    }
    this.isWhole = this.parts.length === 2 * this.#count;
  }
}

/** The map of a member of type `S`, whose header is at `at`. */
export const oldSparseMap = (header: Buffer, at: number, subject: string): SparseMap => new OldMap(header, at, subject);

/** The map that pax records describe; null when there is none. `stored`: bytes of the member's content. */
export function paxSparseMap(records: PaxRecords, stored: number, subject: string): SparseMap | null {
  const get = (key: string) => records.get(`GNU.sparse.${key}`) || undefined;
  const [major, minor] = [get('major'), get('minor')];
  // Go ignores any other version.
  const version = major === undefined && minor === undefined ? null : `${major}.${minor}`;
  if (version === null ? get('map') === undefined : !['0.0', '0.1', '1.0'].includes(version)) return null;
  const fullSize = get('size') ?? get('realsize');
  const size = fullSize === undefined ? stored : paxNumber(fullSize, 'GNU.sparse.size', subject);
  if (version === '1.0') return new ContentMap(size, subject);
  return new RecordMap(size, get('map') ?? '', get('numblocks'), subject);
}
