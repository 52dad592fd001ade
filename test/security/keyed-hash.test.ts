/** Numbers that an image chooses do not decide how long it takes to find them. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { hashBytes, PairIndex, permute } from '../../src/formats/rafs/keyed-hash.ts';

const COUNT = 20_000;
/** Inverse of Knuth's multiplier: what makes his hash give the same high or low bits for all of these. */
const INVERSE = 0x144cbc89;

const choices: ReadonlyArray<readonly [string, (i: number) => readonly [number, number]]> = [
  ['multiples of a power of two', (i) => [0, (i * 2 ** 17) >>> 0]],
  ['multiples of an inverse', (i) => [0, Math.imul(i << 16, INVERSE) >>> 0]],
  ['one number in many blobs', (i) => [i % 254, Math.floor(i / 254) << 24]],
  ['all in order', (i) => [7, i]],
];

describe('an index of numbers', () => {
  it.each(choices)('finds %s in a few steps each', (_, choose) => {
    const pairs = new Map(Array.from({ length: COUNT }, (_, i) => [choose(i).join(), choose(i)]));
    const rows = [...pairs.values()];
    let steps = 0;
    const index = new PairIndex(rows.length, (row, a, b) => {
      steps++;
      return rows[row]![0] === a && rows[row]![1] === b;
    });
    for (const [row, [a, b]] of rows.entries()) expect(index.add(row, a, b)).toBe(true);
    for (const [row, [a, b]] of rows.entries()) expect(index.find(a, b)).toBe(row);
    expect(index.find(253, 0xffff_fff0)).toBeNull();
    expect(index.add(rows.length, ...rows[3]!)).toBe(false);
    expect(steps).toBeLessThan(rows.length * 10);
  });
});

describe('the hash', () => {
  afterEach(() => vi.resetModules());

  it('gives different numbers for different ones', () => {
    const numbers = Array.from({ length: 200_000 }, (_, i) => (i * 21_474) >>> 0);
    expect(new Set(numbers.map(permute)).size).toBe(numbers.length);
  });

  it('spreads digests that begin alike', () => {
    const low = new Set<number>();
    for (let i = 0; i < 4096; i++) {
      const digest = Buffer.alloc(32, 0xaa);
      digest.writeUInt32LE(i, 28);
      low.add(hashBytes(digest, 0, 32) & 4095);
    }
    // Balls in bins: 63 of 100 bins are hit.
    expect(low.size).toBeGreaterThan(2200);
  });

  it('is another one in another process', async () => {
    vi.resetModules();
    const other = await import('../../src/formats/rafs/keyed-hash.ts');
    const same = Array.from({ length: 1000 }, (_, i) => i).filter((i) => other.permute(i) === permute(i));
    expect(same.length).toBeLessThan(10);
  });
});
