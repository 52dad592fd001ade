/** Cuts the stream of one ranged request into the spans that were asked for, each given out as soon as it is whole. */
import type { Run, Span } from './planner.ts';

export class Slicer<S extends Span> {
  readonly #run: Run<S>;
  /** One buffer for the whole run: a start fetches thousands of small chunks, and a buffer each is work for the collector. */
  readonly #bytes: Buffer;
  #filled = 0;
  #next = 0;

  constructor(run: Run<S>) {
    this.#run = run;
    this.#bytes = Buffer.allocUnsafeSlow(run.size);
  }

  /** Spans that are not whole yet. */
  get rest(): readonly S[] {
    return this.#run.spans.slice(this.#next);
  }

  /** Takes the next bytes of the stream; yields what became whole. Bytes beyond the run are dropped. */
  *push(piece: Buffer): Generator<{ span: S; bytes: Buffer }> {
    this.#filled += piece.copy(this.#bytes, this.#filled);
    const { offset, spans } = this.#run;
    for (; this.#next < spans.length; this.#next++) {
      const span = spans[this.#next]!;
      const start = span.offset - offset;
      if (start + span.size > this.#filled) return;
      yield { span, bytes: this.#bytes.subarray(start, start + span.size) };
    }
  }
}
