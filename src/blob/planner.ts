/**
 * What to ask for, and in which pieces: pure decisions, no clock and no I/O. Doing it is `fetcher.ts`.
 *
 * A start of a container is some two hundred scattered small reads, so without a profile it is paid in round trips.
 * The chunks that a reader waits for travel first; the rest of their window comes right behind them.
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
 * Unwanted bytes between two wanted spans up to which one request takes both. At 200 Mbit/s these are 0.7 ms of the
 * link, about what a registry needs to answer one more request; the requests would travel side by side, so no round
 * trip is saved.
 */
export const MAX_GAP = 16 * 1024;

/** A request is split at a span's border beyond this, so that more than one connection carries a large read. */
export const MAX_RUN = 2 * 1024 * 1024;

/** Spans in any order as the requests that fetch them. Spans that overlap never share one. */
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
 * belongs to the window it begins in, so each has one window, and a chunk larger than a window brings nobody else.
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

/** Milliseconds before attempt `attempt` (1 = the first repetition): doubling, `random` of [0, 1) spreads it. */
export function retryDelay(attempt: number, random: number): number {
  const ceiling = Math.min(FIRST_DELAY * 2 ** (attempt - 1), MAX_DELAY);
  return Math.round(ceiling / 2 + (ceiling / 2) * random);
}
