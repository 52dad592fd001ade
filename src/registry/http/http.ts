/** HTTP client of one registry: authentication, redirects without credentials, and retries of temporary errors. */
import type { Log } from '../../observe/log.ts';
import type { RetryOptions } from '../store.ts';
import type { Authorizer } from './auth.ts';
import { followRedirects } from './redirect.ts';
import { plainUrl, type RegistryResponse, type RequestContext, responseError } from './response.ts';
import { noteResponse, Retries } from './retry.ts';
import { abortError, isAborted, type Method, type StreamedBody, type Transport, transportError } from './transport.ts';

export interface RegistryRequest extends RequestContext {
  readonly method: Method;
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer | StreamedBody;
  /** Scopes that a token must have, `repository:NAME:pull`. */
  readonly scopes: readonly string[];
  readonly signal: AbortSignal | null;
  /** Statuses that are returned; every other one is thrown as an error. */
  readonly expect: readonly number[];
}

export interface RegistryHttpOptions {
  /** URL of the registry's API, `https://HOST/v2/`. */
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

  /** A new counter of tries. */
  retries(): Retries {
    return new Retries(this.#options.retry, this.log, this.base.host);
  }

  /** {@link once}, with retries and back-off while the error is retryable. The request must be idempotent. */
  async send(request: RegistryRequest): Promise<RegistryResponse> {
    return await this.retrying(request, () => this.once(request));
  }

  /** Runs `work` until it succeeds, its error is not retryable, or there are no tries left. */
  async retrying<T>(
    request: RequestContext & { readonly signal: AbortSignal | null },
    work: () => Promise<T>,
  ): Promise<T> {
    const retries = this.retries();
    for (;;) {
      try {
        return await work();
      } catch (error) {
        await retries.pause(error, request.op, request.subject, request.signal);
      }
    }
  }

  /** One try. After a 401 of the registry itself it is repeated once, with credentials or a new token. */
  async once(request: RegistryRequest): Promise<RegistryResponse> {
    const { authorizer } = this.#options;
    const { scopes, signal } = request;
    // Only the registry gets credentials: the location of an upload may be at another host.
    const isOurs = request.url.origin === this.base.origin;
    let authorization = isOurs ? await authorizer.header(scopes, signal) : null;
    let response = await this.follow(request, authorization);
    if (response.status === 401 && response.url.origin === this.base.origin && isOurs) {
      authorization = await authorizer.refused(response, scopes, authorization, signal);
      response = await this.follow(request, authorization);
    }
    if (request.expect.includes(response.status)) return response;
    throw await responseError(response, request);
  }

  /** Sends the request and follows redirects; any status is returned. `authorization` is sent to its origin only. */
  async follow(request: RegistryRequest, authorization: string | null): Promise<RegistryResponse> {
    return await followRedirects(request, authorization, (url, secret) => this.#request(request, url, secret));
  }

  async #request(request: RegistryRequest, url: URL, authorization: string | null): Promise<RegistryResponse> {
    const { method, op, subject, signal } = request;
    if (isAborted(signal)) throw abortError(signal, op, subject);
    const headers: Record<string, string> = {
      'user-agent': 'lacuna',
      // A digest covers the bytes as they are stored.
      'accept-encoding': 'identity',
      ...request.headers,
      ...(authorization === null ? {} : { authorization }),
    };
    try {
      const response = await this.#options.transport.request({
        method,
        url,
        headers,
        body: request.body ?? null,
        signal,
      });
      noteResponse(url.host);
      this.log.debug({ method, url: plainUrl(url), status: response.status }, 'request');
      return { status: response.status, header: (name) => response.header(name), body: response.body, url };
    } catch (error) {
      if (isAborted(signal)) throw abortError(signal, op, subject);
      throw transportError(error, url, op, subject);
    }
  }
}
