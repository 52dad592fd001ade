/** HTTP to one registry: authenticated, redirects followed without our credentials, tried again where that can help. */
import { LacunaError } from '../errors.ts';
import type { Log } from '../observe/log.ts';
import { type Answer, type Purpose, plainUrl, responseError } from './answer.ts';
import type { Authorizer } from './auth.ts';
import { noteAnswer, Retries } from './retry.ts';
import type { RetryOptions } from './store.ts';
import {
  abortError,
  discard,
  isAborted,
  type Method,
  type StreamedBody,
  type Transport,
  transportError,
} from './transport.ts';

export interface Exchange extends Purpose {
  readonly method: Method;
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer | StreamedBody;
  /** What a token must allow, `repository:NAME:pull`. */
  readonly scopes: readonly string[];
  readonly signal: AbortSignal | null;
  /** Statuses that are an answer; every other one is thrown. */
  readonly expect: readonly number[];
}

const MAX_REDIRECTS = 5;
const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308];
/** Those that keep the method and the body. */
const STRICT_REDIRECTS: readonly number[] = [307, 308];

export interface RegistryHttpOptions {
  /** The registry's API, `https://HOST/v2/`. */
  readonly base: URL;
  readonly transport: Transport;
  readonly authorizer: Authorizer;
  readonly retry: Required<RetryOptions>;
  readonly log: Log;
}

export class RegistryHttp {
  readonly base: URL;
  readonly log: Log;
  readonly #options: RegistryHttpOptions;

  constructor(options: RegistryHttpOptions) {
    this.base = options.base;
    this.log = options.log;
    this.#options = options;
  }

  /** A fresh count of tries. */
  retries(): Retries {
    return new Retries(this.#options.retry, this.log, this.base.host);
  }

  /** {@link once}, tried again with back-off while the error is retryable. The request must be idempotent. */
  async send(exchange: Exchange): Promise<Answer> {
    return await this.retrying(exchange, () => this.once(exchange));
  }

  /** Runs `work` until it succeeds or its error is not worth another try. */
  async retrying<T>(exchange: Purpose & { readonly signal: AbortSignal | null }, work: () => Promise<T>): Promise<T> {
    const retries = this.retries();
    for (;;) {
      try {
        return await work();
      } catch (error) {
        await retries.pause(error, exchange.op, exchange.subject, exchange.signal);
      }
    }
  }

  /** One try. A 401 of the registry itself is answered with credentials or a new token, once. */
  async once(exchange: Exchange): Promise<Answer> {
    const { authorizer } = this.#options;
    const { scopes, signal } = exchange;
    // Credentials are the registry's: an upload may be at another host, which gets none.
    const isOurs = exchange.url.origin === this.base.origin;
    let authorization = isOurs ? await authorizer.header(scopes, signal) : null;
    let answer = await this.follow(exchange, authorization);
    if (answer.status === 401 && answer.url.origin === this.base.origin && isOurs) {
      authorization = await authorizer.refused(answer, scopes, authorization, signal);
      answer = await this.follow(exchange, authorization);
    }
    if (exchange.expect.includes(answer.status)) return answer;
    throw await responseError(answer, exchange);
  }

  /** The request and the redirects it meets, whatever the final status. `authorization` never leaves its origin. */
  async follow(exchange: Exchange, authorization: string | null): Promise<Answer> {
    const { method, op, subject } = exchange;
    let url = exchange.url;
    let secret = authorization;
    for (let hop = 0; ; hop++) {
      const answer = await this.#request(exchange, url, secret);
      if (!REDIRECTS.includes(answer.status)) return answer;
      await discard(answer);
      const next = resolveLocation(answer, exchange);
      const isRead = method === 'GET' || method === 'HEAD';
      if (hop === MAX_REDIRECTS || (!isRead && !STRICT_REDIRECTS.includes(answer.status))) {
        const problem =
          hop === MAX_REDIRECTS ? `more than ${MAX_REDIRECTS} redirects` : `a ${answer.status} redirect of a ${method}`;
        throw new LacunaError('PROTOCOL', `${plainUrl(exchange.url)}: ${problem}`, { op, subject });
      }
      if (next.origin !== url.origin) secret = null;
      url = next;
    }
  }

  async #request(exchange: Exchange, url: URL, authorization: string | null): Promise<Answer> {
    const { method, op, subject, signal } = exchange;
    if (isAborted(signal)) throw abortError(signal, op, subject);
    const headers: Record<string, string> = {
      'user-agent': 'lacuna',
      // A digest is of the bytes as they are stored.
      'accept-encoding': 'identity',
      ...exchange.headers,
      ...(authorization === null ? {} : { authorization }),
    };
    try {
      const response = await this.#options.transport.request({
        method,
        url,
        headers,
        body: exchange.body ?? null,
        signal,
      });
      noteAnswer(url.host);
      this.log.debug({ method, url: plainUrl(url), status: response.status }, 'request');
      return { status: response.status, header: (name) => response.header(name), body: response.body, url };
    } catch (error) {
      if (isAborted(signal)) throw abortError(signal, op, subject);
      throw transportError(error, url, op, subject);
    }
  }
}

/** Where `Location` points. Throws PROTOCOL when it is missing, not HTTP, or leads from HTTPS to HTTP. */
export function resolveLocation(answer: Answer, { op, subject }: Purpose): URL {
  const location = answer.header('location');
  const fail = (problem: string): LacunaError =>
    new LacunaError('PROTOCOL', `${plainUrl(answer.url)} ${problem}`, { op, subject });
  if (location === null || !URL.canParse(location, answer.url.href)) throw fail('answered without a usable Location');
  const url = new URL(location, answer.url);
  if (url.protocol !== 'https:' && url.protocol !== 'http:') throw fail('leads to something that is not HTTP');
  if (url.protocol === 'http:' && answer.url.protocol === 'https:')
    throw fail('leads from HTTPS to plain HTTP, which is refused');
  url.username = '';
  url.password = '';
  url.hash = '';
  return url;
}
