/** Trying again: exponential back-off with full jitter, and the registry's own wish (`Retry-After`), capped. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isLacunaError, LacunaError } from '../errors.ts';
import type { Log } from '../observe/log.ts';
import type { RetryOptions } from './store.ts';
import { abortError, isAborted } from './transport.ts';

/** Six tries within about 6 s: a registry that restarts is waited for, one that is gone is soon reported. */
export const DEFAULT_RETRY: Required<RetryOptions> = {
  attempts: 6,
  minDelay: 200,
  maxDelay: 10_000,
  maxRetryAfter: 60_000,
};

/** An error answer of a registry, with what retrying needs to know of it. */
export class ResponseError extends LacunaError {
  readonly status: number;
  /** Milliseconds the registry asks to wait, null when it does not say. */
  readonly retryAfter: number | null;

  constructor(...[code, message, options]: ResponseErrorArguments) {
    super(code, message, options);
    this.status = options.status;
    this.retryAfter = options.retryAfter;
  }
}

type Base = ConstructorParameters<typeof LacunaError>;
type ResponseErrorArguments = [
  code: Base[0],
  message: string,
  options: NonNullable<Base[2]> & { readonly status: number; readonly retryAfter: number | null },
];

/** Milliseconds from a `Retry-After` of seconds or an HTTP date (RFC 9110 10.2.3); null when absent or neither. */
export function parseRetryAfter(value: string | null, now = Date.now()): number | null {
  if (value === null) return null;
  const text = value.trim();
  if (/^[0-9]{1,9}$/.test(text)) return Number(text) * 1000;
  // Date.parse takes many things for a date; HTTP dates begin with the day's name.
  if (!/^[A-Z][a-z]{2,8},? /.test(text)) return null;
  const at = Date.parse(text);
  return Number.isNaN(at) ? null : Math.max(0, at - now);
}

/** Counts the tries of one piece of work and decides about the next. */
export class Retries {
  readonly #options: Required<RetryOptions>;
  readonly #log: Log;
  #failures = 0;

  constructor(options: Required<RetryOptions>, log: Log) {
    this.#options = options;
    this.#log = log;
  }

  /** Something was achieved: the count begins again. */
  reset(): void {
    this.#failures = 0;
  }

  /** Milliseconds to wait before trying again after `error`; throws it when that is not worth it. */
  next(error: unknown): number {
    if (!isLacunaError(error) || !error.retryable) throw error;
    this.#failures++;
    if (this.#failures >= this.#options.attempts) throw error;
    const asked = error instanceof ResponseError ? error.retryAfter : null;
    if (asked !== null && asked > this.#options.maxRetryAfter) throw error;
    const ceiling = Math.min(this.#options.maxDelay, this.#options.minDelay * 2 ** (this.#failures - 1));
    return (asked ?? 0) + Math.random() * ceiling;
  }

  /** Returns after a pause when `error` is worth another try, else throws it. */
  async pause(error: unknown, op: string, subject: string, signal: AbortSignal | null): Promise<void> {
    if (isAborted(signal)) throw abortError(signal, op, subject);
    const delay = this.next(error);
    const reason = error instanceof Error ? error.message : String(error);
    this.#log.warn({ op, subject, attempt: this.#failures, delay: Math.round(delay), error: reason }, 'trying again');
    try {
      await sleep(delay, undefined, signal === null ? undefined : { signal });
    } catch (cause) {
      if (isAborted(signal)) throw abortError(signal, op, subject);
      throw cause;
    }
  }
}
