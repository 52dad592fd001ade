/** A timer that runs while there is something to check. It does not keep the process alive. */
export class Ticker {
  readonly #interval: number;
  readonly #look: (now: number, isReliable: boolean) => boolean;
  #timer: NodeJS.Timeout | null = null;
  #last = 0;

  /**
   * `look` is called every `interval` milliseconds with the monotonic time, until it returns false.
   * `isReliable`: the process was not blocked in between, so that it has seen what arrived.
   */
  constructor(interval: number, look: (now: number, isReliable: boolean) => boolean) {
    this.#interval = interval;
    this.#look = look;
  }

  start(): void {
    if (this.#timer !== null) return;
    this.#last = performance.now();
    this.#timer = setInterval(() => this.#tick(), this.#interval).unref();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  #tick(): void {
    const now = performance.now();
    const isReliable = now - this.#last < 2 * this.#interval;
    this.#last = now;
    if (!this.#look(now, isReliable)) this.stop();
  }
}
