/**
 * Planning of ranged requests: which chunks are fetched, and in which requests. Pure: no clock, no I/O. `fetcher.ts` carries
 * the plans out.
 *
 * A container's start makes some two hundred scattered small reads, so that without read-ahead round trips dominate it.
 * Demanded chunks are fetched first; the rest of their window follows as read-ahead.
 */
import type { ChunkTable } from './table.ts';

/** Bytes of the remote blob. */
export interface Span {
  readonly offset: number;
  readonly size: number;
}

/** One ranged request: everything from the first span to the end of the last one. */
export interface Run<S extends Span> extends Span {
  /** By offset, not overlapping. */
  readonly spans: readonly S[];
}

/**
 * Maximum unneeded bytes between two spans that one request fetches together. At 200 Mbit/s they take 0.7 ms of the link,
 * about the time that a registry needs for one more request. Requests run concurrently, so merging saves no round trip.
 */
export const MAX_GAP = 16 * 1024;

/** Maximum bytes of a request with several spans: larger reads are split, so that several connections carry them. */
export const MAX_RUN = 2 * 1024 * 1024;

/** Groups spans, in any order, into requests. Spans that overlap never share a request. */
export function planRuns<S extends Span>(spans: readonly S[], maxGap = MAX_GAP, maxRun = MAX_RUN): Run<S>[] {
  const runs: Run<S>[] = [];
  let current: S[] = [];
  let end = 0;
  const close = () => {
    const offset = current[0]!.offset;
    runs.push({ offset, size: end - offset, spans: current });
    current = [];
  };
  for (const span of spans.toSorted((a, b) => a.offset - b.offset || a.size - b.size)) {
    const gap = span.offset - end;
    const fits = gap >= 0 && gap <= maxGap && span.offset + span.size - (current[0]?.offset ?? 0) <= maxRun;
    if (current.length > 0 && !fits) close();
    current.push(span);
    end = span.offset + span.size;
  }
  if (current.length > 0) close();
  return runs;
}

/** Chunks `first` to `first + count - 1` of a table. */
export interface IndexRange {
  readonly first: number;
  readonly count: number;
}

/**
 * The chunks that lie in the same aligned windows of the device as `chunks` (ascending), these included. A chunk
 * belongs to the window that it begins in; a chunk larger than a window has no others in its range.
 */
export function windowsOf(table: ChunkTable, chunks: readonly number[], window: number): IndexRange[] {
  const ranges: IndexRange[] = [];
  let done = -1;
  for (const chunk of chunks) {
    const index = Math.floor(table.uncompressedOffset(chunk) / window);
    if (index === done) continue;
    done = index;
    const first = table.firstFrom(index * window);
    ranges.push({ first, count: table.firstFrom((index + 1) * window) - first });
  }
  return ranges;
}

const FIRST_DELAY = 100;
const MAX_DELAY = 5_000;

/** Milliseconds before repetition `attempt` (from 1): doubled each time, with jitter from `random` in [0, 1). */
export function retryDelay(attempt: number, random: number): number {
  const ceiling = Math.min(FIRST_DELAY * 2 ** (attempt - 1), MAX_DELAY);
  return Math.round(ceiling / 2 + (ceiling / 2) * random);
}
