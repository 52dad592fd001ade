/** Work that several callers wait for. It ends when the last of them has gone; a result stays for who comes later. */
export class SharedWork<T> {
  /** What the work gives, whoever waits. */
  readonly result: Promise<T>;
  readonly #stop = new AbortController();
  #waiting = 0;
  #isSettled = false;

  constructor(work: (signal: AbortSignal) => Promise<T>) {
    this.result = work(this.#stop.signal);
    const settle = (): void => {
      this.#isSettled = true;
    };
    // A failure is reported to those who wait; there may be nobody.
    this.result.then(settle, settle);
  }

  /** Whether everybody went before it was done: who comes now begins anew. */
  get isStopped(): boolean {
    return this.#stop.signal.aborted;
  }

  /** Waits for the result until `signal` is aborted; rejects with its reason then. */
  async join(signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    this.#waiting++;
    let leave = (): void => {};
    try {
      const gone = new Promise<never>((_, reject) => {
        leave = () => reject(signal.reason);
        signal.addEventListener('abort', leave, { once: true });
      });
      return await Promise.race([this.result, gone]);
    } finally {
      signal.removeEventListener('abort', leave);
      if (--this.#waiting === 0 && !this.#isSettled) this.#stop.abort();
    }
  }
}
