/** Cuts the stream of one ranged request into its spans, and yields each span as soon as it is complete. */
import type { Run, Span } from './planner.ts';

export class Slicer<S extends Span> {
  readonly #run: Run<S>;
  /** One buffer for the whole run: a buffer for each of thousands of small chunks would burden the garbage collector. */
  readonly #bytes: Buffer;
  #filled = 0;
  #next = 0;

  constructor(run: Run<S>) {
    this.#run = run;
    this.#bytes = Buffer.allocUnsafeSlow(run.size);
  }

  /** Spans that are not complete yet. */
  get rest(): readonly S[] {
    return this.#run.spans.slice(this.#next);
  }

  /** Takes the next bytes of the stream; yields spans that become complete. Bytes beyond the run are dropped. */
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
