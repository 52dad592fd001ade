/** A fixed set of reused buffers: it bounds the memory of a conversion, whatever the layer's size. */
import type { LayerFile } from '../tree/file.ts';

export interface Slot {
  /** Tar bytes. */
  readonly input: Buffer;
  /** Compressed chunks; as long as the input, because a chunk that does not shrink is kept raw. */
  readonly output: Buffer;
}

/** A piece of file content in a batch's input buffer: one chunk. */
export interface Piece {
  readonly node: LayerFile;
  readonly offset: number;
  readonly length: number;
  /** Number of consecutive occurrences in the file. */
  readonly count: number;
}

/** Hands out slots and waits when all are in use. */
export class Ring {
  readonly #free: Slot[];
  readonly #waiting: { resolve: (slot: Slot) => void; reject: (error: unknown) => void }[] = [];
  #failure: { error: unknown } | null = null;
  #reject!: (error: unknown) => void;
  /** Rejects when the ring has failed; for code that waits for something else as well. */
  readonly broken: Promise<never>;

  constructor(slots: number, bytes: number) {
    this.#free = Array.from({ length: slots }, () => ({
      input: Buffer.allocUnsafeSlow(bytes),
      output: Buffer.allocUnsafeSlow(bytes),
    }));
    this.broken = new Promise((_, reject) => {
      this.#reject = reject;
    });
    this.broken.catch(() => {}); // taking a slot throws it as well
  }

  take(): Promise<Slot> {
    if (this.#failure !== null) return Promise.reject(this.#failure.error);
    const slot = this.#free.pop();
    if (slot !== undefined) return Promise.resolve(slot);
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  give(slot: Slot): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free.push(slot);
    else next.resolve(slot);
  }

  /** Present and future waits throw `error`. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#reject(error);
    for (const waiter of this.#waiting.splice(0)) waiter.reject(error);
  }
}
