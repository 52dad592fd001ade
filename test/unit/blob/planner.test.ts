/** The decisions of the fetch planner and the chunk table they are made from: pure, so every case is a row. */
import { describe, expect, it } from 'vitest';
import { MAX_GAP, planRuns, retryDelay, type Span, windowsOf } from '../../../src/blob/planner.ts';
import {
  type Chunk,
  ChunkTable,
  encodeTable,
  MAX_CHUNK_SIZE,
  MAX_UNIT_SIZE,
  RECORD_SIZE,
} from '../../../src/blob/table.ts';

const KIB = 1024;

/** `[offset, size]` pairs as spans. */
const spans = (...pairs: [number, number][]): Span[] => pairs.map(([offset, size]) => ({ offset, size }));

describe('requests', () => {
  const rows: { name: string; given: Span[]; gap: number; run: number; wanted: [number, number, number][] }[] = [
    { name: 'nothing', given: [], gap: 10, run: 100, wanted: [] },
    { name: 'one span', given: spans([7, 3]), gap: 10, run: 100, wanted: [[7, 3, 1]] },
    {
      name: 'neighbours, in any order',
      given: spans([20, 5], [10, 10], [0, 10]),
      gap: 0,
      run: 100,
      wanted: [[0, 25, 3]],
    },
    {
      name: 'a gap of the limit is read over',
      given: spans([0, 10], [20, 5]),
      gap: 10,
      run: 100,
      wanted: [[0, 25, 2]],
    },
    {
      name: 'a gap beyond it is not',
      given: spans([0, 10], [21, 5]),
      gap: 10,
      run: 100,
      wanted: [
        [0, 10, 1],
        [21, 5, 1],
      ],
    },
    {
      name: 'the gap counts as part of the request',
      given: spans([0, 45], [50, 50]),
      gap: 10,
      run: 100,
      wanted: [[0, 100, 2]],
    },
    {
      name: 'split at the border of a span',
      given: spans([0, 60], [60, 60], [120, 40]),
      gap: 0,
      run: 100,
      wanted: [
        [0, 60, 1],
        [60, 100, 2],
      ],
    },
    { name: 'a span that is larger stays whole', given: spans([0, 150]), gap: 0, run: 100, wanted: [[0, 150, 1]] },
    {
      name: 'spans that overlap never share a request',
      given: spans([0, 10], [5, 10], [5, 10]),
      gap: 10,
      run: 100,
      wanted: [
        [0, 10, 1],
        [5, 10, 1],
        [5, 10, 1],
      ],
    },
  ];
  it.each(rows)('$name', ({ given, gap, run, wanted }) => {
    expect(planRuns(given, gap, run).map(({ offset, size, spans: parts }) => [offset, size, parts.length])).toEqual(
      wanted,
    );
  });

  it('carry each span once, inside the request', () => {
    let seed = 1;
    const random = (limit: number) => {
      seed = (seed * 48271) % 2147483647;
      return seed % limit;
    };
    for (let round = 0; round < 200; round++) {
      const given = Array.from({ length: random(40) }, () => ({ offset: random(1 << 22), size: 1 + random(1 << 17) }));
      const runs = planRuns(given);
      const all = runs.flatMap((run) => [...run.spans]);
      expect(new Set(all)).toEqual(new Set(given));
      expect(all.length).toBe(given.length);
      for (const { offset, size, spans: parts } of runs) {
        expect(parts[0]!.offset).toBe(offset);
        expect(parts.at(-1)!.offset + parts.at(-1)!.size).toBe(offset + size);
        for (const [index, part] of parts.entries()) {
          const before = parts[index - 1];
          if (before === undefined) continue;
          const gap = part.offset - before.offset - before.size;
          expect(gap).toBeGreaterThanOrEqual(0);
          expect(gap).toBeLessThanOrEqual(MAX_GAP);
        }
      }
    }
  });
});

/** A table of chunks of these sizes, each at the next block of the device, stored back to back at half their size. */
function tableOf(...sizes: number[]): ChunkTable {
  return new ChunkTable(encodeTable(chunksOf(sizes)), 'test');
}

function chunksOf(sizes: readonly number[]): Chunk[] {
  let uncompressedOffset = 0;
  let compressedOffset = 0;
  return sizes.map((uncompressedSize) => {
    const compressedSize = Math.ceil(uncompressedSize / 2);
    const chunk: Chunk = {
      uncompressedOffset,
      uncompressedSize,
      compressedOffset,
      compressedSize,
      compressor: 3,
      digester: 0,
      digest: Buffer.alloc(32, 7),
      within: null,
    };
    uncompressedOffset += Math.ceil(uncompressedSize / 4096) * 4096;
    compressedOffset += compressedSize;
    return chunk;
  });
}

describe('windows', () => {
  const window = 256 * KIB;
  const even = tableOf(...Array.from({ length: 8 }, () => 128 * KIB));
  const rows: { name: string; table: ChunkTable; chunks: number[]; wanted: [number, number][] }[] = [
    { name: 'the pair of a chunk', table: even, chunks: [3], wanted: [[2, 2]] },
    { name: 'two chunks of one window', table: even, chunks: [2, 3], wanted: [[2, 2]] },
    {
      name: 'chunks of two windows',
      table: even,
      chunks: [1, 2],
      wanted: [
        [0, 2],
        [2, 2],
      ],
    },
    { name: 'the end of the table', table: tableOf(128 * KIB, 128 * KIB, 4096), chunks: [2], wanted: [[2, 1]] },
    {
      name: 'a chunk larger than a window brings nobody',
      table: tableOf(1024 * KIB, 1024 * KIB),
      chunks: [1],
      wanted: [[1, 1]],
    },
    {
      name: 'a chunk belongs where it begins',
      table: tableOf(200 * KIB, 100 * KIB, 100 * KIB),
      chunks: [1],
      wanted: [[0, 2]],
    },
    {
      name: 'many small ones',
      table: tableOf(...Array.from({ length: 200 }, () => 4096)),
      chunks: [70],
      wanted: [[64, 64]],
    },
  ];
  it.each(rows)('$name', ({ table, chunks, wanted }) => {
    expect(windowsOf(table, chunks, window).map(({ first, count }) => [first, count])).toEqual(wanted);
  });
});

it('the pause between attempts doubles, is spread over its upper half, and has a limit', () => {
  expect([1, 2, 3, 7, 50].map((attempt) => retryDelay(attempt, 0))).toEqual([50, 100, 200, 2500, 2500]);
  expect([1, 2, 3, 7, 50].map((attempt) => retryDelay(attempt, 0.999999))).toEqual([100, 200, 400, 5000, 5000]);
});

describe('a chunk table', () => {
  it('gives back what was written', () => {
    const chunks = chunksOf([5000, 4096, 1]).map((chunk) => ({
      ...chunk,
      uncompressedOffset: chunk.uncompressedOffset + 2 ** 40,
      compressedOffset: chunk.compressedOffset + 2 ** 45,
    }));
    const table = new ChunkTable(encodeTable(chunks), 'test');
    expect(table.length).toBe(3);
    for (const [index, chunk] of chunks.entries()) {
      expect(table.uncompressedOffset(index)).toBe(chunk.uncompressedOffset);
      expect(table.uncompressedSize(index)).toBe(chunk.uncompressedSize);
      expect(table.compressedOffset(index)).toBe(chunk.compressedOffset);
      expect(table.compressedSize(index)).toBe(chunk.compressedSize);
    }
    expect([0, 1, 2 ** 40, 2 ** 40 + 1, 2 ** 41].map((offset) => table.firstFrom(offset))).toEqual([0, 0, 0, 1, 3]);
  });

  const good = encodeTable(chunksOf([5000, 4096]));
  const spoiled = (at: number, write: (bytes: Buffer, at: number) => void): Buffer => {
    const bytes = Buffer.from(good);
    write(bytes, at);
    return bytes;
  };
  const second = RECORD_SIZE;
  it.each([
    ['half a record', good.subarray(0, RECORD_SIZE + 10), 'chunk table', null],
    ['an overlap', spoiled(second, (bytes, at) => bytes.writeUInt32LE(4096, at)), 'chunk 1', second],
    ['no content', spoiled(second + 20, (bytes, at) => bytes.writeUInt32LE(0, at)), 'chunk 1', second],
    ['no stored bytes', spoiled(second + 16, (bytes, at) => bytes.writeUInt32LE(0, at)), 'chunk 1', second],
    [
      'too much content',
      spoiled(second + 20, (bytes, at) => bytes.writeUInt32LE(MAX_CHUNK_SIZE + 1, at)),
      'chunk 1',
      second,
    ],
    ['too many stored bytes', spoiled(16, (bytes, at) => bytes.writeUInt32LE(MAX_UNIT_SIZE + 1, at)), 'chunk 0', 0],
    ['a place beyond 2^53', spoiled(second + 8, (bytes, at) => bytes.fill(0xff, at, at + 8)), 'chunk 1', second],
    ['a device beyond 2^53', spoiled(second, (bytes, at) => bytes.fill(0xff, at, at + 8)), 'chunk 1', second],
  ])('refuses %s', (_name, bytes, field, offset) => {
    expect(() => new ChunkTable(bytes, 'blob x')).toThrow(
      expect.objectContaining({ code: 'FORMAT', field, offset, subject: 'blob x' }),
    );
  });
});
