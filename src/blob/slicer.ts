/** Cuts the stream of one ranged request into the spans that were asked for, each given out as soon as it is whole. */
import type { Run, Span } from './planner.ts';

export class Slicer<S extends Span> {
  readonly #spans: readonly S[];
  /** Bytes of the blob: where the next piece begins. */
  #at: number;
  #next = 0;
  #filling: Buffer | null = null;
  #filled = 0;

  constructor(run: Run<S>) {
    this.#spans = run.spans;
    this.#at = run.offset;
  }

  /** Spans that are not whole yet. */
  get rest(): readonly S[] {
    return this.#spans.slice(this.#next);
  }

  /** Takes the next bytes of the stream; yields what became whole. Bytes of gaps are dropped. */
  *push(piece: Buffer): Generator<{ span: S; bytes: Buffer }> {
    let from = 0;
    while (from < piece.length && this.#next < this.#spans.length) {
      const span = this.#spans[this.#next]!;
      const gap = Math.min(Math.max(span.offset - this.#at, 0), piece.length - from);
      from += gap;
      this.#at += gap;
      if (from === piece.length) return;
      this.#filling ??= Buffer.allocUnsafe(span.size);
      const taken = piece.copy(this.#filling, this.#filled, from, from + span.size - this.#filled);
      from += taken;
      this.#at += taken;
      this.#filled += taken;
      if (this.#filled < span.size) return;
      const bytes = this.#filling;
      this.#filling = null;
      this.#filled = 0;
      this.#next += 1;
      yield { span, bytes };
    }
  }
}
