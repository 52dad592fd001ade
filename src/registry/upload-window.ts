/**
 * The window of a blob that is being uploaded: bytes that wait to be sent, and sent bytes that may be sent again.
 * Memory is bounded: a write waits until older bytes may be dropped.
 */
import { LacunaError } from '../errors.ts';

const SLAB = 256 * 1024;

/** The registry has lost an upload whose first bytes are no longer in memory: only its source can repeat it. */
export class UploadLost extends LacunaError {
  constructor(subject: string, cause?: unknown) {
    super('UNAVAILABLE', 'the registry has lost an upload, and its first bytes are no longer in memory', {
      op: 'push',
      subject,
      hint: 'push again',
      cause,
    });
  }
}

export class UploadWindow {
  readonly #subject: string;
  /** Consecutive slabs from {@link start} on, all but the last of them full. */
  readonly #slabs: Buffer[] = [];
  readonly #free: Buffer[] = [];
  #waiting: (() => void)[] = [];
  #start = 0;
  #written = 0;
  #sent = 0;
  #acknowledged = 0;
  #retained = Number.POSITIVE_INFINITY;
  #reuses = true;
  #hasEnded = false;
  #failure: { readonly error: unknown } | null = null;
  /** Maximum bytes in memory. */
  capacity: number;

  constructor(subject: string, capacity: number) {
    this.#subject = subject;
    this.capacity = capacity;
  }

  /** Bytes of the blob that have been written. */
  get written(): number {
    return this.#written;
  }

  /** Whether the whole blob has been handed to a request. */
  get isSent(): boolean {
    return this.#hasEnded && this.#sent === this.#written;
  }

  /** Whether a request can start at this byte. */
  holds(at: number): boolean {
    return at >= this.#start && at <= this.#written;
  }

  /**
   * Sets that sending continues at byte `acknowledged`, and that the last `retained` bytes sent are kept; default all.
   */
  keep(acknowledged: number, retained = Number.POSITIVE_INFINITY): void {
    this.#acknowledged = acknowledged;
    this.#sent = acknowledged;
    this.#retained = retained;
    this.#changed();
  }

  /** Stops the reuse of slabs after a failed request: its connection may still read their memory. */
  stopReuse(): void {
    this.#reuses = false;
    this.#free.length = 0;
  }

  /** Copies `data`; waits while the window is full. */
  async write(data: Buffer): Promise<void> {
    for (let at = 0; at < data.length; ) {
      this.#throwFailure();
      const slab = this.#slabWithRoom();
      if (slab === null) {
        await this.#change();
        continue;
      }
      const taken = data.copy(slab, this.#written % SLAB, at);
      this.#written += taken;
      at += taken;
      this.#changed();
    }
  }

  end(): void {
    this.#hasEnded = true;
    this.#changed();
  }

  /** Makes all later writes and reads fail with this error. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#changed();
  }

  /** Waits for `size` bytes from `at` on, or for the end of the blob. Returns how many there are. */
  async available(at: number, size: number): Promise<number> {
    while (!this.#hasEnded && this.#written - at < size) {
      this.#throwFailure();
      await this.#change();
    }
    return Math.min(size, this.#written - at);
  }

  /** Bytes `from` to `to − 1` as they are written; up to the end of the blob for null. */
  read(from: number, to: number | null): AsyncIterator<Buffer> {
    let at = from;
    let isOver = false;
    const done = { done: true, value: undefined } as const;
    return {
      next: async () => {
        for (;;) {
          if (isOver || at === (to ?? (this.#hasEnded ? this.#written : null))) return done;
          this.#throwFailure();
          if (at < this.#start) throw new UploadLost(this.#subject);
          const piece = this.#piece(at, to);
          if (piece !== null) {
            at += piece.length;
            this.#sent = Math.max(this.#sent, at);
            this.#changed();
            return { done: false, value: piece };
          }
          await this.#change();
        }
      },
      return: async () => {
        isOver = true;
        this.#changed();
        return done;
      },
    };
  }

  #piece(at: number, to: number | null): Buffer | null {
    const end = Math.min(this.#written, to ?? this.#written);
    if (at >= end) return null;
    const first = at - (at % SLAB);
    const slab = this.#slabs[(first - this.#start) / SLAB]!;
    return slab.subarray(at - first, Math.min(SLAB, end - first));
  }

  #slabWithRoom(): Buffer | null {
    if (this.#written % SLAB !== 0) return this.#slabs.at(-1)!;
    const keepFrom = Math.max(this.#acknowledged, this.#sent - this.#retained);
    while (this.#slabs.length > 0 && this.#start + SLAB <= keepFrom) {
      const old = this.#slabs.shift()!;
      this.#start += SLAB;
      if (this.#reuses) this.#free.push(old);
    }
    if ((this.#slabs.length + 1) * SLAB > this.capacity) return null;
    const slab = this.#free.pop() ?? Buffer.allocUnsafeSlow(SLAB);
    this.#slabs.push(slab);
    return slab;
  }

  #throwFailure(): void {
    if (this.#failure !== null) throw this.#failure.error;
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #changed(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }
}
