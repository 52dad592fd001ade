/** Lets work begin while the sizes of all that runs stay within a bound. What is larger than that runs alone. */
export class Admission {
  readonly #limit: number;
  #used = 0;
  #waiting: Array<{ readonly size: number; readonly begin: () => void }> = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Resolves with the function that ends the work. Small work may pass large work that waits. */
  async enter(size: number, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.#fits(size)) return this.#begin(size);
    return await new Promise((resolve, reject) => {
      const waiter = { size, begin: () => resolve(this.#begin(size)) };
      this.#waiting.push(waiter);
      const give = (): void => {
        this.#waiting = this.#waiting.filter((other) => other !== waiter);
        reject(signal.reason);
      };
      signal.addEventListener('abort', give, { once: true });
    });
  }

  #fits(size: number): boolean {
    return this.#used === 0 || this.#used + size <= this.#limit;
  }

  #begin(size: number): () => void {
    this.#used += size;
    return () => {
      this.#used -= size;
      this.#admit();
    };
  }

  #admit(): void {
    for (const waiter of [...this.#waiting]) {
      if (!this.#fits(waiter.size)) continue;
      this.#waiting = this.#waiting.filter((other) => other !== waiter);
      waiter.begin();
    }
  }
}
