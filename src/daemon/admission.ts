/**
 * Starts work in the order of its arrival while the sizes of all running work stay within a limit. Work larger than the
 * limit runs alone.
 */
export class Admission {
  readonly #limit: number;
  #used = 0;
  #waiting: Array<{ readonly size: number; readonly begin: () => void }> = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Resolves with the function that ends the work. No later work overtakes work that waits, however small. */
  async enter(size: number, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.#waiting.length === 0 && this.#fits(size)) return this.#begin(size);
    return await new Promise((resolve, reject) => {
      const giveUp = (): void => {
        this.#waiting = this.#waiting.filter((other) => other !== waiter);
        reject(signal.reason);
        // The work behind it may fit now.
        this.#admit();
      };
      const begin = (): void => {
        signal.removeEventListener('abort', giveUp);
        resolve(this.#begin(size));
      };
      const waiter = { size, begin };
      this.#waiting.push(waiter);
      signal.addEventListener('abort', giveUp, { once: true });
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
    while (this.#waiting.length > 0 && this.#fits(this.#waiting[0]!.size)) this.#waiting.shift()!.begin();
  }
}
