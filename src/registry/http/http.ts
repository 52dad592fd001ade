/** HTTP to one registry: authenticated, redirects followed without our credentials, tried again where that can help. */
import type { Log } from '../../observe/log.ts';
import type { RetryOptions } from '../store.ts';
import type { Authorizer } from './auth.ts';
import { followRedirects } from './redirect.ts';
import { type Answer, type Purpose, plainUrl, responseError } from './response.ts';
import { noteAnswer, Retries } from './retry.ts';
import { abortError, isAborted, type Method, type StreamedBody, type Transport, transportError } from './transport.ts';

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
    return await followRedirects(exchange, authorization, (url, secret) => this.#request(exchange, url, secret));
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
