/** A fixed set of buffers that go round: what bounds the memory of a conversion, whatever the layer's size. */
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
  /** How often it stands in the file, one behind the other. */
  readonly count: number;
}

/** Hands out slots and waits when all are in use. */
export class Ring {
  readonly #free: Slot[];
  readonly #waiting: { resolve: (slot: Slot) => void; reject: (error: unknown) => void }[] = [];
  #failure: { error: unknown } | null = null;
  #reject!: (error: unknown) => void;
  /** Rejects when the ring has failed; also for who waits for something else. */
  readonly broken: Promise<never>;

  constructor(slots: number, bytes: number) {
    this.#free = Array.from({ length: slots }, () => ({
      input: Buffer.allocUnsafeSlow(bytes),
      output: Buffer.allocUnsafeSlow(bytes),
    }));
    this.broken = new Promise((_, reject) => {
      this.#reject = reject;
    });
    this.broken.catch(() => {}); // whoever takes a slot is told as well
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

  /** Whoever waits now or later gets `error`. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#reject(error);
    for (const waiter of this.#waiting.splice(0)) waiter.reject(error);
  }
}
