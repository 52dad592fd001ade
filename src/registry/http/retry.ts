/** Trying again: exponential back-off with full jitter, and the registry's own wish (`Retry-After`), capped. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isLacunaError, LacunaError } from '../../errors.ts';
import type { Log } from '../../observe/log.ts';
import type { RetryOptions } from '../store.ts';
import { abortError, ConnectError, isAborted } from './transport.ts';

/** Six tries within about 6 s: a registry that restarts is waited for. One that lets each of them wait gets fewer. */
export const DEFAULT_RETRY: Required<RetryOptions> = {
  attempts: 6,
  minDelay: 200,
  maxDelay: 10_000,
  maxRetryAfter: 60_000,
  total: 120_000,
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

/** Tries to reach a host that has never answered; one that has is waited for, as it may be restarting. */
const FIRST_CONTACT_ATTEMPTS = 3;
/** Milliseconds for which a host that was given up is not tried twice by anybody. */
const GIVEN_UP = 5_000;
/** Milliseconds between two warnings about one host. */
const WARNING_INTERVAL = 10_000;
const MAX_HOSTS = 1024;

/** What this process has seen of a host. Times in milliseconds on the clock of `performance.now()`. */
interface Host {
  hasAnswered: boolean;
  givenUpUntil: number;
  quietUntil: number;
}

const hosts = new Map<string, Host>();

function hostOf(name: string): Host {
  let host = hosts.get(name);
  if (host === undefined) {
    if (hosts.size >= MAX_HOSTS) hosts.clear();
    host = { hasAnswered: false, givenUpUntil: 0, quietUntil: 0 };
    hosts.set(name, host);
  }
  return host;
}

/** Something arrived from `host` (`HOST[:PORT]`). */
export function noteResponse(host: string): void {
  const seen = hostOf(host);
  seen.hasAnswered = true;
  seen.givenUpUntil = 0;
}

/** Errors that ended somebody's tries: work around that work does not begin again, so retries do not nest. */
const givenUp = new WeakSet<Error>();

/** Counts the tries of one piece of work and decides about the next. */
export class Retries {
  readonly #options: Required<RetryOptions>;
  readonly #log: Log;
  /** Whose failures these are, where the error does not say it. */
  readonly #host: string;
  #failures = 0;
  /** When the first one came. Milliseconds of the monotonic clock. */
  #firstFailure = 0;

  constructor(options: Required<RetryOptions>, log: Log, host = '') {
    this.#options = options;
    this.#log = log;
    this.#host = host;
  }

  /** Something was achieved: the count begins again. */
  reset(): void {
    this.#failures = 0;
  }

  /** Milliseconds to wait before trying again after `error`; throws it when that is not worth it. */
  next(error: unknown): number {
    if (!isLacunaError(error) || !error.retryable || givenUp.has(error)) throw error;
    const now = performance.now();
    if (this.#failures++ === 0) this.#firstFailure = now;
    const retryAfter = error instanceof ResponseError ? error.retryAfter : null;
    const ceiling = Math.min(this.#options.maxDelay, this.#options.minDelay * 2 ** (this.#failures - 1));
    const delay = (retryAfter ?? 0) + Math.random() * ceiling;
    const isTooLong = retryAfter !== null && retryAfter > this.#options.maxRetryAfter;
    const isTooLate = now + delay - this.#firstFailure > this.#options.total;
    if (this.#failures >= this.#attempts(error) || isTooLong || isTooLate) {
      givenUp.add(error);
      if (error instanceof ConnectError) hostOf(error.host).givenUpUntil = performance.now() + GIVEN_UP;
      throw error;
    }
    return delay;
  }

  #attempts(error: LacunaError): number {
    const { attempts } = this.#options;
    if (!(error instanceof ConnectError)) return attempts;
    const { hasAnswered, givenUpUntil } = hostOf(error.host);
    if (performance.now() < givenUpUntil) return 1;
    if (hasAnswered) return attempts;
    return error.isDecided ? 1 : Math.min(attempts, FIRST_CONTACT_ATTEMPTS);
  }

  /** Returns after a pause when `error` is worth another try, else throws it. */
  async pause(error: unknown, op: string, subject: string, signal: AbortSignal | null): Promise<void> {
    if (isAborted(signal)) throw abortError(signal, op, subject);
    const delay = this.next(error);
    const reason = error instanceof Error ? error.message : String(error);
    const fields = { op, subject, attempt: this.#failures, delay: Math.round(delay), error: reason };
    this.#log[this.#isNews(error) ? 'warn' : 'debug'](fields, 'trying again');
    try {
      await sleep(delay, undefined, signal === null ? undefined : { signal });
    } catch (cause) {
      if (isAborted(signal)) throw abortError(signal, op, subject);
      throw cause;
    }
  }

  /** One warning for a host and a while, whoever waits for it; of a host that has never answered the error itself tells. */
  #isNews(error: unknown): boolean {
    const host = hostOf(error instanceof ConnectError ? error.host : this.#host);
    if ((error instanceof ConnectError && !host.hasAnswered) || performance.now() < host.quietUntil) return false;
    host.quietUntil = performance.now() + WARNING_INTERVAL;
    return true;
  }
}
