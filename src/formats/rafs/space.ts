/** Allocator of the metadata area: a bump allocator that fills the gaps it leaves. Offsets are in bytes. */
import { alignUp, BLOCK, SLOT } from './layout.ts';

const SLOTS = BLOCK / SLOT;

export class Space {
  #end: number;
  /** Gaps inside blocks by their size in 32-byte slots. */
  readonly #gaps: number[][] = Array.from({ length: SLOTS }, () => []);

  constructor(start: number) {
    this.#end = start;
  }

  /** End of all allocations. */
  get end(): number {
    return this.#end;
  }

  /** Allocates `size` bytes at a multiple of 32, which may cross blocks. */
  take(size: number): number {
    return this.#fromGap(size) ?? this.#bump(size);
  }

  /** Allocates `size` ≤ 4096 bytes within one block. */
  takeWithinBlock(size: number): number {
    const gap = this.#fromGap(size);
    if (gap !== null) return gap;
    if (BLOCK - (this.#end % BLOCK) < size) this.#closeBlock();
    return this.#bump(size);
  }

  /** Allocates `count` whole blocks. */
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

  /** Allocates from the smallest gap that is large enough; null when there is none. */
  #fromGap(size: number): number | null {
    const needed = Math.ceil(size / SLOT);
    for (let slots = needed; slots < SLOTS; slots++) {
      const at = this.#gaps[slots]!.pop();
      if (at === undefined) continue;
      this.#addGap(at + needed * SLOT, slots - needed);
      return at;
    }
    return null;
  }
}
