/**
 * Keyed hashes of numbers from an image, for hash tables. V8 hashes numbers of a Map without a key, so an image could choose
 * numbers that all collide, and each lookup would be linear. These hashes depend on a random key of the process.
 */
import { randomFillSync } from 'node:crypto';

const HALF = 2 ** 16;
/** Three random functions of 16 bits. Three rounds make a Feistel cipher a pseudo-random permutation (Luby, Rackoff). */
let rounds: Uint16Array | null = null;

/** A keyed permutation of 32-bit numbers. The result is signed; different numbers give different results. */
export function permute(number: number): number {
  rounds ??= randomFillSync(new Uint16Array(3 * HALF));
  let left = number >>> 16;
  let right = number & 0xffff;
  left ^= rounds[right]!;
  right ^= rounds[HALF + left]!;
  left ^= rounds[2 * HALF + right]!;
  return (left << 16) | right;
}

/** The hash of two numbers of 32 bits. */
const hashPair = (a: number, b: number): number => permute(permute(a) ^ b);

/** The hash of `length` bytes at `at`; a multiple of four. */
export function hashBytes(bytes: Buffer, at: number, length: number): number {
  let hash = 0;
  for (let end = at + length; at < end; at += 4) hash = permute(hash ^ bytes.readInt32LE(at));
  return hash;
}

/**
 * Rows of a table, found by two numbers that each of them has. Open addressing, half full at most: eight to sixteen bytes
 * a row.
 */
export class PairIndex {
  readonly #slots: Uint32Array;
  readonly #isAt: (row: number, a: number, b: number) => boolean;

  /** `rows`: maximum number of rows. `isAt`: whether a row has this pair. */
  constructor(rows: number, isAt: (row: number, a: number, b: number) => boolean) {
    let size = 16;
    while (size < 2 * rows) size *= 2;
    this.#slots = new Uint32Array(size);
    this.#isAt = isAt;
  }

  /** The row with this pair; null when there is none. */
  find(a: number, b: number): number | null {
    const row = this.#slots[this.#slotOf(a, b)]! - 1;
    return row < 0 ? null : row;
  }

  /** Adds a row; false when the table already has a row with this pair. */
  add(row: number, a: number, b: number): boolean {
    const slot = this.#slotOf(a, b);
    if (this.#slots[slot] !== 0) return false;
    this.#slots[slot] = row + 1;
    return true;
  }

  /** Slot of the pair, or the free slot where it belongs. */
  #slotOf(a: number, b: number): number {
    const mask = this.#slots.length - 1;
    for (let slot = hashPair(a, b) & mask; ; slot = (slot + 1) & mask) {
      const row = this.#slots[slot]! - 1;
      if (row < 0 || this.#isAt(row, a, b)) return slot;
    }
  }
}
