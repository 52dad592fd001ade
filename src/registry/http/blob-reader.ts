/**
 * Reads blobs of a registry, whole or in ranges: one GET for each, without a HEAD. Where a registry redirects to
 * its storage, that URL is used directly for a while, so that a later range costs one round trip instead of two.
 */
import { LacunaError } from '../../errors.ts';
import type { Descriptor } from '../../image/manifest.ts';
import { parseContentRange, type Range, rangeOf, sizeMismatch, Verifier, window } from '../range.ts';
import type { ReadOptions } from '../store.ts';
import type { RegistryHttp, RegistryRequest } from './http.ts';
import { bodyOf, contentLength, plainUrl, type RegistryResponse } from './response.ts';
import { abortError, discard, isAborted } from './transport.ts';

/**
 * Milliseconds that a storage URL is reused. Signed URLs are valid for at least 5 minutes; a refused one is dropped.
 */
const LOCATION_LIFETIME = 60_000;
const MAX_LOCATIONS = 256;

/** Minimum bytes of a cut body that reset the count of tries: a server that sends a few bytes a try must not loop. */
const PROGRESS = 64 * 1024;

const OP = 'read';

export interface BlobReaderOptions {
  readonly http: RegistryHttp;
  /** `https://HOST/v2/NAME/`. */
  readonly repository: URL;
  /** The URL of a blob that is not in the repository. */
  readonly urlOf?: (descriptor: Descriptor) => URL;
  readonly scopes: readonly string[];
  readonly subject: string;
}

export class BlobReader {
  readonly #options: BlobReaderOptions;
  /** Digest → the storage URL that the registry redirected to. */
  readonly #locations = new Map<string, { readonly url: URL; readonly usableUntil: number }>();
  #hasWarned = false;

  constructor(options: BlobReaderOptions) {
    this.#options = options;
  }

  async *read(descriptor: Descriptor, options: ReadOptions): AsyncGenerator<Buffer> {
    const { http, subject } = this.#options;
    const { start, end } = rangeOf(descriptor, options);
    const { partial = false } = options;
    const isWhole = start === 0 && end === descriptor.size && !partial;
    const verifier = isWhole && options.verify !== false ? new Verifier(descriptor) : null;
    const signal = options.signal ?? null;
    const retries = http.retries();
    let at = start;
    while (at < end) {
      const began = at;
      try {
        const response = await this.#get(descriptor, { start: at, end }, partial, signal);
        for await (const piece of this.#pieces(response, descriptor, { start: at, end }, partial)) {
          at += piece.length;
          verifier?.update(piece);
          if (at === end) verifier?.finish(subject);
          yield piece;
        }
        if (at < end) throw this.#cut(descriptor, at);
      } catch (error) {
        if (at - began >= PROGRESS) retries.reset();
        if (isAborted(signal)) throw abortError(signal, OP, subject);
        await retries.pause(error, OP, subject, signal);
      }
    }
    if (descriptor.size === 0) verifier?.finish(subject);
  }

  /** A response whose body contains the range: 206 with exactly the range, or 200 with the whole blob. */
  async #get(
    descriptor: Descriptor,
    range: Range,
    partial: boolean,
    signal: AbortSignal | null,
  ): Promise<RegistryResponse> {
    const { http, scopes, subject, repository, urlOf } = this.#options;
    const isWhole = range.start === 0 && range.end === descriptor.size && !partial;
    const request: RegistryRequest = {
      op: OP,
      subject,
      method: 'GET',
      url: urlOf?.(descriptor) ?? new URL(`blobs/${descriptor.digest}`, repository),
      headers: isWhole ? {} : { range: `bytes=${range.start}-${range.end - 1}` },
      scopes,
      signal,
      expect: [200, 206, 416],
    };
    const response = (await this.#getDirectly(descriptor, request)) ?? (await http.once(request));
    if (response.url.origin !== http.base.origin) this.#remember(descriptor.digest, response.url);
    try {
      this.#check(response, descriptor, range, { isWhole, partial });
    } catch (error) {
      await discard(response);
      throw error;
    }
    return response;
  }

  /** The response of the registry's storage; null when its URL is not cached or no longer works. */
  async #getDirectly(descriptor: Descriptor, request: RegistryRequest): Promise<RegistryResponse | null> {
    const location = this.#locations.get(descriptor.digest);
    if (location === undefined) return null;
    const forget = (): void => {
      if (this.#locations.get(descriptor.digest) === location) this.#locations.delete(descriptor.digest);
    };
    if (performance.now() >= location.usableUntil) {
      forget();
      return null;
    }
    let response: RegistryResponse;
    try {
      response = await this.#options.http.follow({ ...request, url: location.url }, null);
    } catch (error) {
      // The reader tries again, and then starts at the registry.
      forget();
      throw error;
    }
    if (response.status === 200 || response.status === 206) return response;
    forget();
    await discard(response);
    return null;
  }

  #remember(digest: string, url: URL): void {
    if (this.#locations.has(digest)) return;
    if (this.#locations.size >= MAX_LOCATIONS) this.#locations.delete(this.#locations.keys().next().value ?? '');
    this.#locations.set(digest, { url, usableUntil: performance.now() + LOCATION_LIFETIME });
  }

  #check(
    response: RegistryResponse,
    descriptor: Descriptor,
    range: Range,
    { isWhole, partial }: { isWhole: boolean; partial: boolean },
  ): void {
    const { subject } = this.#options;
    const fits = (size: number): boolean => (partial ? size >= descriptor.size : size === descriptor.size);
    const context = { op: OP, subject };
    const encoding = response.header('content-encoding');
    if (encoding !== null && encoding !== 'identity')
      throw this.#protocol(response, `sent the blob with Content-Encoding ${encoding.slice(0, 32)}`);
    if (response.status === 416) throw sizeMismatch(descriptor, subject, 'less');
    const length = contentLength(response, context);
    if (response.status === 200) {
      if (length !== null && !fits(length)) throw sizeMismatch(descriptor, subject, String(length));
      if (!isWhole) this.#warn(response);
      return;
    }
    const content = parseContentRange(response.header('content-range'));
    if (isWhole || content === null) throw this.#protocol(response, 'answered 206 without a usable Content-Range');
    if (content.range.start !== range.start || content.range.end !== range.end) {
      throw this.#protocol(
        response,
        `sent bytes ${content.range.start} to ${content.range.end} where ${range.start} to ${range.end} were requested`,
      );
    }
    if (content.total !== null && !fits(content.total)) throw sizeMismatch(descriptor, subject, String(content.total));
    if (length !== null && length !== range.end - range.start)
      throw this.#protocol(response, 'sent a Content-Length that differs from its Content-Range');
  }

  /** Exactly the bytes of the range, or fewer when the body is cut. */
  async *#pieces(
    response: RegistryResponse,
    descriptor: Descriptor,
    range: Range,
    partial: boolean,
  ): AsyncGenerator<Buffer> {
    const length = range.end - range.start;
    const body = bodyOf(response, { op: OP, subject: this.#options.subject });
    if (response.status === 200 && (partial || length < descriptor.size)) {
      yield* window(body, range.start, length);
      return;
    }
    // The body is read to its end, not only to the end of the range: only then the connection can be reused.
    let left = length;
    for await (const piece of body) {
      left -= piece.length;
      if (left < 0) throw sizeMismatch(descriptor, this.#options.subject, 'more');
      if (piece.length > 0) yield piece;
    }
  }

  #cut(descriptor: Descriptor, at: number): LacunaError {
    const { subject } = this.#options;
    return new LacunaError('UNAVAILABLE', `the body of ${descriptor.digest} ended at byte ${at}`, {
      op: OP,
      subject,
    });
  }

  #protocol(response: RegistryResponse, problem: string): LacunaError {
    const { subject } = this.#options;
    return new LacunaError('PROTOCOL', `${plainUrl(response.url)} ${problem}`, { op: OP, subject });
  }

  #warn(response: RegistryResponse): void {
    if (this.#hasWarned) return;
    this.#hasWarned = true;
    this.#options.http.log.warn(
      { host: response.url.host },
      'the registry ignores the Range header: every read transfers a whole blob',
    );
  }
}
