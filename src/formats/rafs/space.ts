/** Where things go inside the metadata area: a bump allocator that fills the gaps it leaves. Offsets in bytes. */
import { alignUp, BLOCK, SLOT } from './layout.ts';

const SLOTS = BLOCK / SLOT;

export class Space {
  #end: number;
  /** Gaps inside blocks by their size in 32-byte slots. */
  readonly #gaps: number[][] = Array.from({ length: SLOTS }, () => []);

  constructor(start: number) {
    this.#end = start;
  }

  /** First offset behind everything. */
  get end(): number {
    return this.#end;
  }

  /** Room for `size` bytes at a multiple of 32; it may cross blocks when it is at the end. */
  take(size: number): number {
    return this.#fromGap(size) ?? this.#bump(size);
  }

  /** Room for `size` ≤ 4096 bytes that does not cross a block. */
  takeWithinBlock(size: number): number {
    const gap = this.#fromGap(size);
    if (gap !== null) return gap;
    if (BLOCK - (this.#end % BLOCK) < size) this.#closeBlock();
    return this.#bump(size);
  }

  /** `count` whole blocks. */
  takeBlocks(count: number): number {
    this.#closeBlock();
    return this.#bump(count * BLOCK);
  }

  #bump(size: number): number {
    const at = this.#end;
    this.#end = alignUp(at + size, SLOT);
    return at;
  }

  #closeBlock(): void {
    const end = alignUp(this.#end, BLOCK);
    this.#addGap(this.#end, (end - this.#end) / SLOT);
    this.#end = end;
  }

  #addGap(at: number, slots: number): void {
    if (slots > 0) this.#gaps[slots]!.push(at);
  }

  /** From the smallest gap that is large enough. */
  #fromGap(size: number): number | null {
    const wanted = Math.ceil(size / SLOT);
    for (let slots = wanted; slots < SLOTS; slots++) {
      const at = this.#gaps[slots]!.pop();
      if (at === undefined) continue;
      this.#addGap(at + wanted * SLOT, slots - wanted);
      return at;
    }
    return null;
  }
}
