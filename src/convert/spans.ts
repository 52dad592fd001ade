/**
 * Spans of a gzip layer: which parts of it are fetched and decoded in one piece so that each chunk lies wholly in one.
 * A span begins at a checkpoint that the native stream left and reaches as far as its chunks do, so spans may overlap.
 */
import { MAX_UNIT_SIZE } from '../blob/table.ts';
import { LacunaError } from '../errors.ts';
import { MAX_META_SIZE } from '../formats/rafs/limits.ts';
import type { Checkpoints } from '../native/addon.ts';

/** One span, named as in Nydus's zran context. Offsets and sizes in bytes, of the layer (`in`) and of its tar (`out`). */
export interface Span {
  readonly inOffset: number;
  readonly outOffset: number;
  readonly inSize: number;
  readonly outSize: number;
  /** Number of high bits of `byte`, the byte before `inOffset`, that belong to the span. */
  readonly bits: number;
  readonly byte: number;
  /** The plain text before it, up to 32 KiB. */
  readonly window: Buffer;
}

interface Place {
  readonly inOffset: number;
  readonly outOffset: number;
  readonly bits: number;
  readonly byte: number;
  readonly window: Buffer;
  /** Its span's number, once a chunk lies in it. */
  span: number | null;
}

/** Gathers the spans of one layer while it is read. */
export class SpanIndex {
  readonly #subject: string;
  /** Checkpoints from the one that holds the last chunk on. */
  #places: Place[] = [];
  readonly #used: { readonly place: Place; outEnd: number }[] = [];
  /** Of the windows of all of them. */
  #windowBytes = 0;
  readonly #inEnds: number[] = [];
  readonly #outEnds: number[] = [];

  /** `subject` names the layer. */
  constructor(subject: string) {
    this.#subject = subject;
  }

  /** Adds the result of `LayerStream.checkpoints()`, after each read and at the end. */
  add({ places, windows, marks }: Checkpoints): void {
    for (let at = 0, end = 0; at < places.length; at += 5) {
      const [inOffset, outOffset, bits, byte, size] = places.subarray(at, at + 5) as unknown as Five;
      const window = windows.subarray(end, end + size);
      this.#keep(size);
      end += size;
      this.#places.push({ inOffset, outOffset, bits, byte, window, span: null });
    }
    for (let at = 0; at < marks.length; at += 2) {
      this.#inEnds.push(marks[at]!);
      this.#outEnds.push(marks[at + 1]!);
    }
  }

  /**
   * The number of the span that holds `size` bytes of the tar from `offset`, and their place in it. Chunks come in the
   * order of the tar, each after its first byte was read and its checkpoints were added.
   */
  place(offset: number, size: number): { span: number; offset: number } {
    this.pass(offset);
    const place = this.#places[0];
    if (place === undefined || place.outOffset > offset) {
      throw new LacunaError('INTERNAL', `no checkpoint at or before byte ${offset}`, { subject: this.#subject });
    }
    if (place.span === null) {
      // A copy: the source buffer also holds windows that no span needs.
      this.#keep(place.window.length);
      this.#used.push({ place: { ...place, window: Buffer.from(place.window) }, outEnd: 0 });
      place.span = this.#used.length - 1;
    }
    const used = this.#used[place.span]!;
    used.outEnd = Math.max(used.outEnd, offset + size);
    return { span: place.span, offset: offset - place.outOffset };
  }

  /** Drops the checkpoints before the one that `offset` of the tar needs: later chunks do not lie before it. */
  pass(offset: number): void {
    let at = 0;
    while (at + 1 < this.#places.length && this.#places[at + 1]!.outOffset <= offset) at++;
    if (at === 0) return;
    for (const { window } of this.#places.splice(0, at)) this.#windowBytes -= window.length;
  }

  /** Counts a window. UNSUPPORTED when there are more than the chunk info of an image has room for. */
  #keep(size: number): void {
    this.#windowBytes += size;
    if (this.#windowBytes <= MAX_META_SIZE) return;
    throw new LacunaError('UNSUPPORTED', `the index exceeds ${MAX_META_SIZE} bytes`, {
      op: 'index gzip layer',
      subject: this.#subject,
      hint: 'convert the layer instead of referring to it',
    });
  }

  /** All spans, after the stream's end was read. UNSUPPORTED when one is too large to be fetched at once. */
  spans(): Span[] {
    return this.#used.map(({ place, outEnd }) => {
      const { inOffset, outOffset, bits, byte, window } = place;
      const inSize = this.#inEnd(outEnd) - inOffset;
      const outSize = outEnd - outOffset;
      if (inSize > MAX_UNIT_SIZE || outSize > MAX_UNIT_SIZE) {
        throw new LacunaError('UNSUPPORTED', `its deflate blocks are too far apart: ${inSize} → ${outSize} bytes`, {
          op: 'index gzip layer',
          subject: this.#subject,
          hint: 'convert the layer instead of referring to it',
        });
      }
      return { inOffset, outOffset, inSize, outSize, bits, byte, window };
    });
  }

  /**
   * How far the layer must be read to have the tar up to `outEnd`. One mark too far where there is one: Nydus's decoder
   * fails at the very end of a gzip member unless the header of the next one is there too.
   */
  #inEnd(outEnd: number): number {
    let [low, high] = [0, this.#outEnds.length - 1];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#outEnds[middle]! <= outEnd) low = middle + 1;
      else high = middle;
    }
    return this.#inEnds[low]!;
  }
}

type Five = [number, number, number, number, number];
