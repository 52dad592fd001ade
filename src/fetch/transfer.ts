/** One ranged request under way: what has come of it, and whether more comes. */
import type { Run, Span } from '../blob/planner.ts';
import { Slicer } from '../blob/slicer.ts';
import type { FetchSource } from './standing.ts';

/** Bytes that count as progress: a source that drips fewer of them is as good as silent. */
const PROGRESS = 4 * 1024;

export class Transfer<S extends Span> {
  readonly run: Run<S>;
  readonly source: FetchSource;
  readonly #request = new AbortController();
  /** Made with the first bytes: a silent source takes no memory. */
  #slicer: Slicer<S> | null = null;
  #received = 0;
  /** What had been received at the last progress, and when that was. */
  #mark = 0;
  #markedAt = performance.now();
  #isSilent = false;

  constructor(run: Run<S>, source: FetchSource) {
    this.run = run;
    this.source = source;
  }

  /** Spans that are not whole yet. */
  get rest(): readonly S[] {
    return this.#slicer?.rest ?? this.run.spans;
  }

  /** Milliseconds since the last progress; 0 when all has come. */
  stuckFor(now: number): number {
    return this.#received >= this.run.size ? 0 : now - this.#markedAt;
  }

  /** Whether it has got stuck for `limit` milliseconds; said once, until there is progress. */
  fallsSilent(now: number, limit: number): boolean {
    const hasFallen = !this.#isSilent && this.stuckFor(now) >= limit;
    this.#isSilent ||= hasFallen;
    return hasFallen;
  }

  /** Ends it, unless all has come: then the connection can be used again. */
  abort(): void {
    if (this.#received < this.run.size) this.#request.abort();
  }

  /** Each span as soon as it is whole. `onBytes` is told of what arrives. */
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
