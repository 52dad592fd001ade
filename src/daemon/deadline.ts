/** A signal that aborts with another one, or after a time. */
import { LacunaError } from '../errors.ts';

/**
 * `AbortSignal.any` with `AbortSignal.timeout` is not reliable: in Node 20 nothing references the timeout, and garbage
 * collection removes it with its timer.
 */
export class Deadline implements Disposable {
  readonly #abort = new AbortController();
  readonly #parent: AbortSignal;
  readonly #follow = (): void => this.#abort.abort(this.#parent.reason);
  readonly #timer: NodeJS.Timeout;

  constructor(parent: AbortSignal, milliseconds: number) {
    this.#parent = parent;
    const expire = (): void =>
      this.#abort.abort(new LacunaError('TIMEOUT', `not done within ${milliseconds / 1000} s`));
    this.#timer = setTimeout(expire, milliseconds);
    if (parent.aborted) this.#follow();
    else parent.addEventListener('abort', this.#follow, { once: true });
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#parent.removeEventListener('abort', this.#follow);
  }
}
