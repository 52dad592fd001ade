/**
 * Pushing a blob. A small one is one POST and one PUT; a larger one is streamed in one PATCH while it comes into being, as
 * docker does, which every registry takes. Chunks resume what was cut, and are for registries that take no stream.
 */
import { LacunaError } from '../../errors.ts';
import type { BlobUpload } from '../store.ts';
import { UploadLost, UploadWindow } from '../upload-window.ts';
import type { RegistryResponse } from './response.ts';
import { ResponseError } from './retry.ts';
import { abortError, type StreamedBody } from './transport.ts';
import { type UploadForms, uploadFormsOf } from './upload-form.ts';
import { type SessionOptions, UploadSession } from './upload-session.ts';

/** The largest blob that is one request. Bytes. */
export const SMALL_BLOB = 4 * 1024 * 1024;
/** Of a stream, the bytes sent last that are kept to resume it: more than sockets and proxies hold on their way. */
const RETAINED = 8 * 1024 * 1024;
/** Bytes that are held while they wait for being sent or are kept to be sent again. */
export const UPLOAD_WINDOW = 12 * 1024 * 1024;
/** The largest `OCI-Chunk-Min-Length` that is honoured. Bytes. */
const MAX_CHUNK_SIZE = 64 * 1024 * 1024;
/** What is taken of a large write at a time. Bytes. */
const PIECE = 1024 * 1024;

/** How registries and what is before them say that they do not take the body in this form. */
const REFUSALS: readonly number[] = [400, 405, 411, 413, 415, 416, 501];

const OP = 'push';

export interface UploadOptions extends SessionOptions {
  readonly signal: AbortSignal | null;
  /** An upload that the registry has already begun. */
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
  /** The transfer of a blob that is not small. */
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
      throw new LacunaError('INTERNAL', 'the upload is over', { op: OP, subject: this.#options.subject });
    if (this.#signal.aborted) throw abortError(this.#signal, OP, this.#options.subject);
  }

  #start(): void {
    if (this.#sending !== null) return;
    this.#sending = this.#send();
    // Whoever writes next learns of a failure; until then it is nobody's.
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
        throw new LacunaError('UNAVAILABLE', 'the registry answered before the blob had been sent', {
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

  /** The registry refuses to be sent a stream. */
  async #chunksInstead(error: unknown): Promise<void> {
    const { http, subject } = this.#options;
    http.log.debug({ subject, status: statusOf(error) }, 'the registry takes no streamed upload: sending chunks');
    if (!this.#window.holds(0)) throw this.#lost('refused', error);
    this.#forms.failedStream('refused');
    await this.#session.begin();
    await this.#sendChunks(0);
  }

  /** After a stream was cut: sends the rest in chunks; or makes ready for another one, and returns false. */
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

  /** Sends everything from byte `from` on, each chunk when it is complete. */
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
        if (at === before) throw new LacunaError('UNAVAILABLE', 'the registry took no byte', { op: OP, subject });
      } catch (error) {
        this.#window.stopReuse();
        at = await this.#afterChunk(error, { at, size }, () => retries.pause(error, OP, subject, this.#signal));
      }
      if (at > before) retries.reset();
    }
  }

  /** Where to go on after a chunk failed; throws when that is nowhere. `pause` waits, or throws what is not worth it. */
  async #afterChunk(
    error: unknown,
    { at, size }: { at: number; size: number },
    pause: () => Promise<void>,
  ): Promise<number> {
    const status = statusOf(error);
    // 416 means another position than ours, or too large a chunk (GitHub's registry).
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

  /** How far the registry got, which must lie within the chunk that is still here. */
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
      throw new LacunaError('PROTOCOL', `${repository.host} asks for chunks of at least ${chunkMinLength} bytes`, {
        op: OP,
        subject,
      });
    }
    this.#window.capacity = Math.max(UPLOAD_WINDOW, size + PIECE);
    return size;
  }

  /** A small blob: it is all here, so a failed try begins anew. */
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
      // The answer may have been lost, and not the request.
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
