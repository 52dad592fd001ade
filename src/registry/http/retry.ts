/** Retries: exponential back-off with full jitter, and the registry's `Retry-After` up to a limit. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isLacunaError, LacunaError } from '../../errors.ts';
import type { Log } from '../../observe/log.ts';
import type { RetryOptions } from '../store.ts';
import { abortError, ConnectError, isAborted } from './transport.ts';

/** Six tries within about 6 s, enough for a registry that restarts; fewer when tries themselves take long. */
export const DEFAULT_RETRY: Required<RetryOptions> = {
  attempts: 6,
  minDelay: 200,
  maxDelay: 10_000,
  maxRetryAfter: 60_000,
  total: 120_000,
};

/** An error response of a registry, with the fields that retries use. */
export class ResponseError extends LacunaError {
  readonly status: number;
  /** Milliseconds that the registry asks to wait; null when it does not say. */
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
  // Date.parse accepts many forms; HTTP dates begin with the day's name.
  if (!/^[A-Z][a-z]{2,8},? /.test(text)) return null;
  const at = Date.parse(text);
  return Number.isNaN(at) ? null : Math.max(0, at - now);
}

/** Maximum tries for a host that has never answered; one that has answered may be restarting and gets all tries. */
const FIRST_CONTACT_ATTEMPTS = 3;
/** Milliseconds during which a host that was given up gets one try from each caller. */
const GIVEN_UP = 5_000;
/** Minimum milliseconds between two warnings about one host. */
const WARNING_INTERVAL = 10_000;
const MAX_HOSTS = 1024;

/** State of a host in this process. Times in milliseconds on the clock of `performance.now()`. */
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

/** Records that `host` (`HOST[:PORT]`) answered. */
export function noteResponse(host: string): void {
  const seen = hostOf(host);
  seen.hasAnswered = true;
  seen.givenUpUntil = 0;
}

/** Errors after which retries ended: outer retries do not repeat them, so that retries do not nest. */
const givenUp = new WeakSet<Error>();

/** Counts the tries of one operation and decides whether there is another one. */
export class Retries {
  readonly #options: Required<RetryOptions>;
  readonly #log: Log;
  /** The host that failed, where the error does not name it. */
  readonly #host: string;
  #failures = 0;
  /** Time of the first failure. Milliseconds on the clock of `performance.now()`. */
  #firstFailure = 0;

  constructor(options: Required<RetryOptions>, log: Log, host = '') {
    this.#options = options;
    this.#log = log;
    this.#host = host;
  }

  /** Starts the count again after progress. */
  reset(): void {
    this.#failures = 0;
  }

  /** Milliseconds to wait before the next try after `error`; throws `error` when there is none. */
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

  /** Waits before the next try after `error`; throws `error` when there is none. */
  async pause(error: unknown, op: string, subject: string, signal: AbortSignal | null): Promise<void> {
    if (isAborted(signal)) throw abortError(signal, op, subject);
    const delay = this.next(error);
    const reason = error instanceof Error ? error.message : String(error);
    const fields = { op, subject, attempt: this.#failures, delay: Math.round(delay), error: reason };
    this.#log[this.#isNews(error) ? 'warn' : 'debug'](fields, 'request failed, retrying');
    try {
      await sleep(delay, undefined, signal === null ? undefined : { signal });
    } catch (cause) {
      if (isAborted(signal)) throw abortError(signal, op, subject);
      throw cause;
    }
  }

  /** Whether to warn: once per host and interval. A host that has never answered is reported by the error itself. */
  #isNews(error: unknown): boolean {
    const host = hostOf(error instanceof ConnectError ? error.host : this.#host);
    if ((error instanceof ConnectError && !host.hasAnswered) || performance.now() < host.quietUntil) return false;
    host.quietUntil = performance.now() + WARNING_INTERVAL;
    return true;
  }
}
