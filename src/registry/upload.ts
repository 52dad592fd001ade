/**
 * Pushing a blob: POST, PATCH in chunks, PUT with the digest (distribution spec "Pushing blobs"). A chunk is sent while
 * the next one fills, and kept until the registry has acknowledged it, so that a broken transfer goes on where it broke.
 */
import { LacunaError } from '../errors.ts';
import type { Answer } from './answer.ts';
import { type Exchange, type RegistryHttp, resolveLocation } from './http.ts';
import { ResponseError } from './retry.ts';
import type { BlobUpload } from './store.ts';
import { abortError, discard } from './transport.ts';

/** Large enough that a round trip for each does not matter, small enough to hold two of them per upload. Bytes. */
export const UPLOAD_CHUNK_SIZE = 8 * 1024 * 1024;
/** The largest `OCI-Chunk-Min-Length` that is honoured. Bytes. */
const MAX_CHUNK_SIZE = 64 * 1024 * 1024;
/** Milliseconds for telling the registry that an upload is given up. */
const ABORT_TIMEOUT = 5_000;

const OP = 'push';
const BYTES = { 'content-type': 'application/octet-stream' };

export interface UploadOptions {
  readonly http: RegistryHttp;
  /** `https://HOST/v2/NAME/`. */
  readonly repository: URL;
  readonly scopes: readonly string[];
  readonly subject: string;
  readonly signal: AbortSignal | null;
  /** An upload that the registry has already begun. */
  readonly begun?: Answer;
}

export class RegistryUpload implements BlobUpload {
  readonly #options: UploadOptions;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  #location: URL | null = null;
  #chunkSize = UPLOAD_CHUNK_SIZE;
  /** The chunk that is being filled; `#filled` bytes of it are taken. */
  #chunk: Buffer = Buffer.alloc(0);
  #filled = 0;
  /** Where it begins in the blob. */
  #start = 0;
  /** A chunk's buffer that is free again. */
  #spare: Buffer | null = null;
  #sending: Promise<void> = Promise.resolve();
  #isOver = false;

  constructor(options: UploadOptions) {
    this.#options = options;
    this.#signal = options.signal === null ? this.#stop.signal : AbortSignal.any([options.signal, this.#stop.signal]);
    if (options.begun !== undefined) this.#begun(options.begun);
  }

  async write(data: Buffer): Promise<void> {
    this.#assertOpen();
    let at = 0;
    while (at < data.length) {
      this.#reserve(data.length - at);
      const taken = data.copy(this.#chunk, this.#filled, at, at + this.#chunkSize - this.#filled);
      this.#filled += taken;
      at += taken;
      if (this.#filled === this.#chunkSize) await this.#flush();
    }
  }

  async commit(digest: string, size: number): Promise<void> {
    this.#assertOpen();
    const written = this.#start + this.#filled;
    try {
      if (written !== size) {
        throw new LacunaError('SIZE_MISMATCH', `${OP} ${digest}: ${written} bytes were written and ${size} announced`, {
          op: OP,
          subject: digest,
        });
      }
      await this.#sending;
      if (this.#start === 0) await this.#putWhole(digest);
      else await this.#putRest(digest);
      this.#isOver = true;
    } catch (error) {
      await this.abort();
      throw error;
    }
  }

  async abort(): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#stop.abort();
    await this.#sending.catch(() => {});
    if (this.#location === null) return;
    try {
      const signal = AbortSignal.timeout(ABORT_TIMEOUT);
      await discard(await this.#once({ method: 'DELETE', url: this.#location, expect: [200, 202, 204, 404], signal }));
    } catch {
      // The registry forgets unfinished uploads by itself; not all of them take a DELETE.
    }
  }

  #assertOpen(): void {
    if (this.#isOver)
      throw new LacunaError('INTERNAL', 'the upload is over', { op: OP, subject: this.#options.subject });
    if (this.#signal.aborted) throw abortError(this.#signal, OP, this.#options.subject);
  }

  /** Room for more bytes in the chunk, growing up to its full size: most blobs are smaller than a chunk. */
  #reserve(more: number): void {
    if (this.#chunk.length === this.#chunkSize) return;
    const wanted = this.#filled + more;
    if (wanted <= this.#chunk.length) return;
    const grown = Buffer.allocUnsafeSlow(
      Math.min(this.#chunkSize, Math.max(wanted, this.#chunk.length * 2, 64 * 1024)),
    );
    this.#chunk.copy(grown, 0, 0, this.#filled);
    this.#chunk = grown;
  }

  /** Starts to send the full chunk, once the one before it has arrived. */
  async #flush(): Promise<void> {
    await this.#sending;
    if (this.#location === null) {
      await this.#begin();
      // The registry may want larger chunks than this one.
      if (this.#filled < this.#chunkSize) return;
    }
    const full = this.#chunk;
    this.#sending = this.#send(full, this.#start).then(() => {
      this.#spare = full;
    });
    // Whoever writes next learns of a failure; until then it is nobody's.
    this.#sending.catch(() => {});
    this.#start += full.length;
    this.#chunk = this.#spare ?? Buffer.alloc(0);
    this.#spare = null;
    this.#filled = 0;
  }

  async #begin(): Promise<void> {
    const { http, repository } = this.#options;
    const answer = await http.send(
      this.#exchange({ method: 'POST', url: new URL('blobs/uploads/', repository), expect: [202] }),
    );
    this.#begun(answer);
    await discard(answer);
  }

  #begun(answer: Answer): void {
    this.#location = this.#locationOf(answer);
    const minimum = Number(answer.header('oci-chunk-min-length') ?? 0);
    if (!(minimum > this.#chunkSize)) return;
    if (minimum > MAX_CHUNK_SIZE) throw this.#protocol(`wants chunks of ${minimum} bytes`);
    this.#chunkSize = minimum;
  }

  /** Sends a chunk that begins at byte `start` of the blob. */
  async #send(chunk: Buffer, start: number): Promise<void> {
    const { http, subject } = this.#options;
    const end = start + chunk.length;
    const retries = http.retries();
    let at = start;
    while (at < end) {
      const before = at;
      try {
        at = await this.#patch(chunk.subarray(at - start), at);
        if (at === before)
          throw new LacunaError('UNAVAILABLE', `${OP} ${subject}: the registry took no byte`, { op: OP, subject });
        retries.reset();
      } catch (error) {
        // 416: it has another position in mind than we, so it is asked for it.
        const isOutOfStep = error instanceof ResponseError && error.status === 416;
        const reason = isOutOfStep
          ? new LacunaError('UNAVAILABLE', error.message, { op: OP, subject, cause: error })
          : error;
        await retries.pause(reason, OP, subject, this.#signal);
        at = await this.#position(start, end);
        if (at > before) retries.reset();
      }
    }
  }

  /** Sends `data`, whose first byte is at `at` of the blob. Returns up to where the registry has it. */
  async #patch(data: Buffer, at: number): Promise<number> {
    const end = at + data.length;
    const answer = await this.#once({
      method: 'PATCH',
      url: this.#location!,
      headers: { ...BYTES, 'content-range': `${at}-${end - 1}` },
      body: data,
      expect: [202, 204],
    });
    await discard(answer);
    this.#location = this.#locationOf(answer);
    const reached = parseUploadRange(answer.header('range')) ?? end;
    if (reached < at || reached > end)
      throw this.#protocol(`has ${reached} bytes of an upload of which ${end} were sent`);
    return reached;
  }

  /** How far the registry got, which must lie within the chunk that is still here. */
  async #position(start: number, end: number): Promise<number> {
    const { http, subject } = this.#options;
    const exchange = this.#exchange({ method: 'GET', url: this.#location!, expect: [200, 204, 404] });
    const answer = await http.send(exchange);
    await discard(answer);
    if (answer.status === 404 && start === 0) {
      await this.#begin();
      return 0;
    }
    const text = answer.header('range');
    // `0-0` is what docker-registry says of an empty upload, too (handlers/blobupload.go).
    const reached = start === 0 && text === '0-0' ? 0 : (parseUploadRange(text) ?? 0);
    if (answer.status === 404 || reached < start || reached > end) {
      throw new LacunaError(
        'UNAVAILABLE',
        `${OP} ${subject}: the registry has lost an upload of which it had ${start} bytes`,
        {
          op: OP,
          subject,
          hint: 'push again',
        },
      );
    }
    if (answer.header('location') !== null) this.#location = this.#locationOf(answer);
    return reached;
  }

  /** A blob of one chunk: it is all here, so a failed try begins anew. */
  async #putWhole(digest: string): Promise<void> {
    const { http, subject } = this.#options;
    const body = this.#chunk.subarray(0, this.#filled);
    let isFirst = true;
    await http.retrying({ op: OP, subject, signal: this.#signal }, async () => {
      if (!isFirst && (await this.#isStored(digest))) return;
      if (!isFirst || this.#location === null) await this.#begin();
      isFirst = false;
      await this.#finish(digest, body);
    });
  }

  async #putRest(digest: string): Promise<void> {
    const { http, subject } = this.#options;
    await this.#send(this.#chunk.subarray(0, this.#filled), this.#start);
    let isFirst = true;
    await http.retrying({ op: OP, subject, signal: this.#signal }, async () => {
      // The answer may have been lost, and not the request.
      if (!isFirst && (await this.#isStored(digest))) return;
      isFirst = false;
      await this.#finish(digest, Buffer.alloc(0));
    });
  }

  async #finish(digest: string, body: Buffer): Promise<void> {
    // The query is the registry's state and stays as it is, to the byte.
    const url = new URL(this.#location!);
    url.search = `${url.search === '' ? '?' : `${url.search}&`}digest=${encodeURIComponent(digest)}`;
    const answer = await this.#once({ method: 'PUT', url, headers: BYTES, body, expect: [201, 204] });
    await discard(answer);
    const stored = answer.header('docker-content-digest');
    if (stored === null || stored === digest) return;
    throw new LacunaError('DIGEST_MISMATCH', `${OP} ${digest}: the registry stored ${stored.slice(0, 160)}`, {
      op: OP,
      subject: digest,
    });
  }

  async #isStored(digest: string): Promise<boolean> {
    const url = new URL(`blobs/${digest}`, this.#options.repository);
    const answer = await this.#once({ method: 'HEAD', url, expect: [200, 404] });
    await discard(answer);
    return answer.status === 200;
  }

  #locationOf(answer: Answer): URL {
    return resolveLocation(answer, { op: OP, subject: this.#options.subject });
  }

  #exchange(part: Pick<Exchange, 'method' | 'url' | 'expect'> & Partial<Exchange>): Exchange {
    const { scopes, subject } = this.#options;
    return { op: OP, subject, scopes, signal: this.#signal, ...part };
  }

  async #once(part: Pick<Exchange, 'method' | 'url' | 'expect'> & Partial<Exchange>): Promise<Answer> {
    return await this.#options.http.once(this.#exchange(part));
  }

  #protocol(problem: string): LacunaError {
    const { subject, repository } = this.#options;
    return new LacunaError('PROTOCOL', `${OP} ${subject}: ${repository.host} ${problem}`, { op: OP, subject });
  }
}

/** Bytes that the registry has, from the `Range: 0-LAST` of an upload; null when it does not say. */
function parseUploadRange(value: string | null): number | null {
  const match = /^(?:bytes=)?0-([0-9]{1,15})$/.exec(value ?? '');
  return match === null ? null : Number(match[1]) + 1;
}
