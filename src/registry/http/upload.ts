/**
 * Pushes a blob. A small one takes one POST and one PUT; a larger one is streamed in one PATCH while it is
 * produced, as docker does and every registry accepts. Chunks resume a cut stream, and serve registries that refuse
 * streams.
 */
import { LacunaError } from '../../errors.ts';
import type { BlobUpload } from '../store.ts';
import { UploadLost, UploadWindow } from '../upload-window.ts';
import type { RegistryResponse } from './response.ts';
import { ResponseError } from './retry.ts';
import { abortError, type StreamedBody } from './transport.ts';
import { type UploadForms, uploadFormsOf } from './upload-form.ts';
import { type SessionOptions, UploadSession } from './upload-session.ts';

/** Maximum size of a blob that is sent in one request. Bytes. */
export const SMALL_BLOB = 4 * 1024 * 1024;
/** Bytes sent last of a stream that are kept to resume it: more than sockets and proxies buffer. */
const RETAINED = 8 * 1024 * 1024;
/** Maximum bytes in memory that wait to be sent or may be sent again. */
export const UPLOAD_WINDOW = 12 * 1024 * 1024;
/** Maximum `OCI-Chunk-Min-Length` that is accepted. Bytes. */
const MAX_CHUNK_SIZE = 64 * 1024 * 1024;
/** Maximum bytes of a write that are copied at once. */
const PIECE = 1024 * 1024;

/** Statuses with which registries, and proxies before them, refuse this form of body. */
const REFUSALS: readonly number[] = [400, 405, 411, 413, 415, 416, 501];

const OP = 'push';

export interface UploadOptions extends SessionOptions {
  readonly signal: AbortSignal | null;
  /** The response with which the registry has already begun an upload. */
  readonly begun?: RegistryResponse;
}

const statusOf = (error: unknown): number | null => (error instanceof ResponseError ? error.status : null);
const isRefusal = (error: unknown): boolean => REFUSALS.includes(statusOf(error) ?? 0);

export class RegistryUpload implements BlobUpload {
  readonly #options: UploadOptions;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  readonly #session: UploadSession;
  readonly #window: UploadWindow;
  readonly #forms: UploadForms;
  /** The transfer of a blob larger than {@link SMALL_BLOB}. */
  #sending: Promise<void> | null = null;
  #isOver = false;

  constructor(options: UploadOptions) {
    this.#options = options;
    this.#signal = options.signal === null ? this.#stop.signal : AbortSignal.any([options.signal, this.#stop.signal]);
    this.#session = new UploadSession(options, this.#signal);
    this.#window = new UploadWindow(options.subject, UPLOAD_WINDOW);
    this.#forms = uploadFormsOf(options.http.base);
    if (options.begun !== undefined) this.#session.begun(options.begun);
  }

  async write(data: Buffer): Promise<void> {
    for (let at = 0; at < data.length; at += PIECE) {
      this.#assertOpen();
      await this.#window.write(data.subarray(at, at + PIECE));
      if (this.#window.written > SMALL_BLOB) this.#start();
    }
    this.#assertOpen();
  }

  async commit(digest: string, size: number): Promise<void> {
    this.#assertOpen();
    const { written } = this.#window;
    try {
      if (written !== size) {
        throw new LacunaError('SIZE_MISMATCH', `${written} bytes were written and ${size} announced`, {
          op: OP,
          subject: digest,
        });
      }
      this.#window.end();
      if (this.#sending === null) await this.#putWhole(digest);
      else await this.#sending.then(() => this.#finish(digest));
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
    this.#window.fail(abortError(this.#stop.signal, OP, this.#options.subject));
    await this.#sending?.catch(() => {});
    await this.#session.end();
  }

  #assertOpen(): void {
    if (this.#isOver)
      throw new LacunaError('INTERNAL', 'the upload has ended', { op: OP, subject: this.#options.subject });
    if (this.#signal.aborted) throw abortError(this.#signal, OP, this.#options.subject);
  }

  #start(): void {
    if (this.#sending !== null) return;
    this.#sending = this.#send();
    // The next write throws a failure; until then it must not count as unhandled.
    this.#sending.catch((error: unknown) => this.#window.fail(error));
  }

  async #send(): Promise<void> {
    if (!this.#session.isOpen) await this.#session.begin();
    if (this.#forms.streams) await this.#stream();
    else await this.#sendChunks(0);
  }

  async #stream(): Promise<void> {
    const { http, subject } = this.#options;
    const retries = http.retries();
    for (;;) {
      this.#window.keep(0, RETAINED);
      try {
        await this.#session.stream(this.#body(0, null));
        if (this.#window.isSent) return;
        throw new LacunaError('UNAVAILABLE', 'the registry answered before the whole blob was sent', {
          op: OP,
          subject,
        });
      } catch (error) {
        this.#window.stopReuse();
        if (error instanceof UploadLost) throw this.#lost('lost', error);
        if (isRefusal(error)) return await this.#chunksInstead(error);
        await retries.pause(error, OP, subject, this.#signal);
        if (await this.#resume(error)) return;
      }
    }
  }

  /** Sends chunks, after the registry refused a stream. */
  async #chunksInstead(error: unknown): Promise<void> {
    const { http, subject } = this.#options;
    http.log.debug({ subject, status: statusOf(error) }, 'the registry refused a streamed upload: sending chunks');
    if (!this.#window.holds(0)) throw this.#lost('refused', error);
    this.#forms.failedStream('refused');
    await this.#session.begin();
    await this.#sendChunks(0);
  }

  /** Sends the rest of a cut stream in chunks; or prepares for another stream, and returns false. */
  async #resume(error: unknown): Promise<boolean> {
    const reached = (await this.#session.position()) ?? 0;
    if (reached > 0 && this.#window.holds(reached) && this.#forms.takesChunks) {
      await this.#sendChunks(reached);
      return true;
    }
    if (!this.#window.holds(0)) throw this.#lost('lost', error);
    await this.#session.begin();
    return false;
  }

  #lost(how: 'lost' | 'refused', cause: unknown): UploadLost {
    this.#forms.failedStream(how);
    return new UploadLost(this.#options.subject, cause);
  }

  /** Sends all bytes from `from` on in chunks, each when it is complete. */
  async #sendChunks(from: number): Promise<void> {
    const { http, subject } = this.#options;
    const retries = http.retries();
    for (let at = from; ; ) {
      this.#window.keep(at);
      const size = await this.#window.available(at, this.#chunkSize());
      if (size === 0) return;
      const before = at;
      try {
        at = await this.#session.chunk({ at, size, body: this.#body(at, at + size) });
        if (at === before)
          throw new LacunaError('UNAVAILABLE', 'the registry accepted no bytes of a chunk', { op: OP, subject });
      } catch (error) {
        this.#window.stopReuse();
        at = await this.#afterChunk(error, { at, size }, () => retries.pause(error, OP, subject, this.#signal));
      }
      if (at > before) retries.reset();
    }
  }

  /** The byte at which to continue after a failed chunk; throws when there is none. `pause` waits or rethrows. */
  async #afterChunk(
    error: unknown,
    { at, size }: { at: number; size: number },
    pause: () => Promise<void>,
  ): Promise<number> {
    const status = statusOf(error);
    // 416 means that the registry is at another byte, or that the chunk is too large (GitHub's registry).
    if (status !== 416 && status !== 413) {
      if (!isRefusal(error)) await pause();
      else if (this.#forms.refusedChunk()) throw new UploadLost(this.#options.subject, error);
      else throw error;
    }
    const reached = await this.#position(at, at + size);
    const isRefused = status !== null && isRefusal(error) && reached === at;
    if (isRefused && !this.#forms.refusedSize(size)) throw error;
    return reached;
  }

  /** How many bytes the registry has, which must end within the chunk that is still in memory. */
  async #position(start: number, end: number): Promise<number> {
    const reached = await this.#session.position();
    if (reached !== null && reached >= start && reached <= end) return reached;
    if (start !== 0) throw new UploadLost(this.#options.subject);
    await this.#session.begin();
    return 0;
  }

  #chunkSize(): number {
    const { chunkMinLength } = this.#session;
    const size = Math.max(this.#forms.chunkSize, chunkMinLength);
    if (size > MAX_CHUNK_SIZE) {
      const { repository, subject } = this.#options;
      throw new LacunaError(
        'PROTOCOL',
        `${repository.host} requires chunks of at least ${chunkMinLength} bytes; the limit is ${MAX_CHUNK_SIZE}`,
        {
          op: OP,
          subject,
        },
      );
    }
    this.#window.capacity = Math.max(UPLOAD_WINDOW, size + PIECE);
    return size;
  }

  /** Sends a small blob in one request. All of it is in memory, so a failed try is repeated from the start. */
  async #putWhole(digest: string): Promise<void> {
    const { written } = this.#window;
    try {
      await this.#retrying(digest, async (isFirst) => {
        if (!isFirst || !this.#session.isOpen) await this.#session.begin();
        await this.#session.finish(digest, written === 0 ? null : this.#body(0, written));
      });
    } catch (error) {
      if (statusOf(error) !== 413 || !this.#forms.refusedSize(written)) throw error;
      await this.#session.begin();
      await this.#sendChunks(0);
      await this.#finish(digest);
    }
  }

  async #finish(digest: string): Promise<void> {
    await this.#retrying(digest, () => this.#session.finish(digest, null));
  }

  async #retrying(digest: string, work: (isFirst: boolean) => Promise<void>): Promise<void> {
    const { http, subject } = this.#options;
    let isFirst = true;
    await http.retrying({ op: OP, subject, signal: this.#signal }, async () => {
      // The response may have been lost, not the request.
      if (!isFirst && (await this.#session.has(digest))) return;
      const first = isFirst;
      isFirst = false;
      await work(first);
    });
  }

  #body(from: number, to: number | null): StreamedBody {
    return { length: to === null ? null : to - from, open: () => this.#window.read(from, to) };
  }
}
