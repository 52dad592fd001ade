/** One ranged request under way, and its progress. */
import type { Run, Span } from '../blob/planner.ts';
import { Slicer } from '../blob/slicer.ts';
import type { FetchSource } from './standing.ts';

/** Minimum bytes that count as progress: a source that sends fewer counts as silent. */
const PROGRESS = 4 * 1024;

export class Transfer<S extends Span> {
  readonly run: Run<S>;
  readonly source: FetchSource;
  readonly #request = new AbortController();
  /** Allocated with the first bytes: a silent source takes no memory. */
  #slicer: Slicer<S> | null = null;
  #received = 0;
  /** Bytes received at the last progress, and its time. */
  #mark = 0;
  #markedAt = performance.now();
  #isSilent = false;

  constructor(run: Run<S>, source: FetchSource) {
    this.run = run;
    this.source = source;
  }

  /** Spans that are not complete yet. */
  get rest(): readonly S[] {
    return this.#slicer?.rest ?? this.run.spans;
  }

  /** Milliseconds since the last progress; 0 when all bytes have arrived. */
  stuckFor(now: number): number {
    return this.#received >= this.run.size ? 0 : now - this.#markedAt;
  }

  /** Whether it has made no progress for `limit` milliseconds; true once, until there is progress again. */
  fallsSilent(now: number, limit: number): boolean {
    const hasFallen = !this.#isSilent && this.stuckFor(now) >= limit;
    this.#isSilent ||= hasFallen;
    return hasFallen;
  }

  /** Aborts the request, unless all bytes have arrived: then the connection can be reused. */
  abort(): void {
    if (this.#received < this.run.size) this.#request.abort();
  }

  /** Yields each span as soon as it is complete. `onBytes` gets the length of each piece that arrives. */
  async *spans(onBytes: (length: number) => void): AsyncGenerator<{ span: S; bytes: Buffer }> {
    const { offset, size } = this.run;
    for await (const piece of this.source.read(offset, size, this.#request.signal)) {
      onBytes(piece.length);
      this.#progress(piece.length);
      this.#slicer ??= new Slicer(this.run);
      yield* this.#slicer.push(piece);
    }
  }

  #progress(length: number): void {
    this.#received += length;
    if (this.#received - this.#mark < PROGRESS && this.#received < this.run.size) return;
    this.#mark = this.#received;
    this.#markedAt = performance.now();
    this.#isSilent = false;
  }
}
