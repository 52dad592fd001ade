/** Work that several callers wait for. It is aborted when the last caller has gone; later callers get a finished result. */
export class SharedWork<T> {
  /** Result of the work. */
  readonly result: Promise<T>;
  readonly #stop = new AbortController();
  #waiting = 0;
  #isSettled = false;

  constructor(work: (signal: AbortSignal) => Promise<T>) {
    this.result = work(this.#stop.signal);
    const settle = (): void => {
      this.#isSettled = true;
    };
    // Callers that wait get a failure. Without any it must not count as unhandled.
    this.result.then(settle, settle);
  }

  /** Whether all callers left before the work was done: the next caller starts it anew. */
  get isStopped(): boolean {
    return this.#stop.signal.aborted;
  }

  /** Waits for the result; rejects with the reason of `signal` when that is aborted. */
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
