/**
 * Reads bootstraps in worker threads, so that no reader waits for a large or hostile one. Time and memory are bounded for
 * each bootstrap and for all together.
 */
import { stat } from 'node:fs/promises';
import type { Worker } from 'node:worker_threads';
import type { FetchMeta, StoredMeta } from '../cache/blob-metas.ts';
import { type ErrorCode, LacunaError, toLacunaError } from '../errors.ts';
import type { MetaPlace } from '../formats/rafs/metafile.ts';
import { Admission } from './admission.ts';
import { Deadline } from './deadline.ts';
import {
  LARGE_BOOTSTRAPS,
  LARGE_METAS,
  MAX_READ_HEAP,
  MAX_READ_SECONDS,
  MAX_WAIT_SECONDS,
  SMALL_BOOTSTRAPS,
  SMALL_METAS,
} from './limits.ts';
import type { EncodedTables, ReadTables, TableJob } from './read-tables.ts';
import { SpareWorker } from './spare-worker.ts';

/** Minimum bytes that a bootstrap is counted with: the memory of a thread. */
const THREAD_SIZE = 4 * 1024 * 1024;

/** A message from a worker. */
export type WorkerMessage =
  | { readonly kind: 'fetch'; readonly place: MetaPlace }
  /** Asks for permission to decode `size` bytes of chunk info. */
  | { readonly kind: 'admit'; readonly size: number }
  | { readonly kind: 'tables'; readonly tables: EncodedTables[] }
  | { readonly kind: 'error'; readonly error: Record<string, unknown> };

/** Answer to a worker's request. */
export interface MetaAnswer {
  readonly found: StoredMeta | null;
  readonly error: { readonly code: ErrorCode; readonly message: string } | null;
}

/** Relative to the folders of `dist`, since importers of this file are bundled into several of them. */
const PROGRAM = new URL('../daemon/table-worker.js', import.meta.url);

/** {@link readTables} in worker threads. */
export class WorkerTables implements Disposable {
  readonly #small = new Admission(SMALL_BOOTSTRAPS.together);
  readonly #large = new Admission(LARGE_BOOTSTRAPS.together);
  readonly #metas = { small: new Admission(SMALL_METAS.together), large: new Admission(LARGE_METAS.together) };
  readonly #workers = new SpareWorker(PROGRAM, { resourceLimits: { maxOldGenerationSizeMb: MAX_READ_HEAP / 2 ** 20 } });

  /** Starts the first thread. */
  prepare(): void {
    this.#workers.prepare();
  }

  readonly read: ReadTables = async (job, fetch, signal) => {
    // A bootstrap that cannot be read fails in the worker, which says why.
    const { size } = await stat(job.bootstrap).catch(() => ({ size: 0 }));
    const isSmall = size <= SMALL_BOOTSTRAPS.each;
    const leave = await enter(isSmall ? this.#small : this.#large, Math.max(size, THREAD_SIZE), job, signal);
    let worker: Worker | null = null;
    let isReusable = false;
    try {
      worker = this.#workers.take();
      const tables = await readIn(worker, job, { fetch, metas: this.#metas }, signal);
      isReusable = isSmall;
      return tables;
    } finally {
      leave();
      // A worker that has read a large bootstrap keeps its memory, and one that failed may still be busy: neither is reused.
      if (isReusable) this.#workers.give(worker!);
      else void worker?.terminate();
    }
  };

  [Symbol.dispose](): void {
    this.#workers[Symbol.dispose]();
  }
}

/** TIMEOUT when reading other bootstraps takes too long. */
async function enter(admission: Admission, size: number, job: TableJob, signal: AbortSignal): Promise<() => void> {
  using deadline = new Deadline(signal, MAX_WAIT_SECONDS * 1000);
  const until = deadline.signal;
  return await admission.enter(size, until).catch((error: unknown) => {
    signal.throwIfAborted();
    if (!until.aborted) throw error;
    throw tooMuch('TIMEOUT', `did not start within ${MAX_WAIT_SECONDS} s: the daemon is reading others`, job);
  });
}

interface Services {
  readonly fetch: FetchMeta;
  /** Admit decoding of chunk info, over all threads. */
  readonly metas: { readonly small: Admission; readonly large: Admission };
}

async function readIn(
  worker: Worker,
  job: TableJob,
  { fetch, metas }: Services,
  signal: AbortSignal,
): Promise<EncodedTables[]> {
  using deadline = new Deadline(signal, MAX_READ_SECONDS * 1000);
  const until = deadline.signal;
  const done = new AbortController();
  const admit = async (size: number): Promise<void> => {
    const admission = size <= SMALL_METAS.each ? metas.small : metas.large;
    const leave = await admission.enter(size, AbortSignal.any([until, done.signal]));
    if (done.signal.aborted) return leave();
    done.signal.addEventListener('abort', leave);
    worker.postMessage({ found: null, error: null } satisfies MetaAnswer);
  };
  try {
    until.throwIfAborted();
    return await new Promise((resolve, reject) => {
      const listen = <T>(event: string, take: (value: T) => void): void => {
        worker.on(event, take);
        done.signal.addEventListener('abort', () => worker.off(event, take));
      };
      listen('message', (message: WorkerMessage) => {
        if (message.kind === 'tables') resolve(message.tables);
        else if (message.kind === 'error') reject(errorOf(message.error));
        else if (message.kind === 'fetch') void answer(worker, fetch, message.place);
        else admit(message.size).catch(() => {}); // the reader that gave up has the reason already
      });
      listen('error', (error: Error & { code?: string }) => {
        const isMemory = error.code === 'ERR_WORKER_OUT_OF_MEMORY';
        reject(isMemory ? tooMuch('UNSUPPORTED', `takes more than ${MAX_READ_HEAP} bytes of heap`, job) : error);
      });
      listen('exit', () =>
        reject(new LacunaError('INTERNAL', 'the thread that reads the bootstrap ended unexpectedly')),
      );
      const stop = (): void => reject(tooMuch('TIMEOUT', `takes more than ${MAX_READ_SECONDS} s`, job));
      until.addEventListener('abort', stop, { once: true });
      worker.postMessage(job);
    });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    done.abort();
  }
}

async function answer(worker: Worker, fetch: FetchMeta, place: MetaPlace): Promise<void> {
  const response = await fetch(place).then(
    (found): MetaAnswer => ({ found, error: null }),
    (thrown: unknown): MetaAnswer => {
      const { code, message } = toLacunaError(thrown);
      return { found: null, error: { code, message } };
    },
  );
  worker.postMessage(response);
}

function errorOf({ code, message, op, subject, hint }: Record<string, unknown>): LacunaError {
  const text = (key: string, value: unknown) => (typeof value === 'string' ? { [key]: value } : {});
  const options = { ...text('op', op), ...text('subject', subject), ...text('hint', hint) };
  return new LacunaError(code as ErrorCode, String(message), options);
}

const tooMuch = (code: 'TIMEOUT' | 'UNSUPPORTED', problem: string, { bootstrap }: TableJob): LacunaError =>
  new LacunaError(code, `reading the bootstrap ${problem}`, { op: 'attach', subject: bootstrap });
