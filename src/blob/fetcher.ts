/**
 * Fetches what readers wait for, and what they are likely to want next. What to ask for is decided in `planner.ts`;
 * here is when: demand first, single flight, retries up to a deadline.
 *
 * A chunk is one {@link Job} from the moment it is wanted until it is in the cache or given up. Jobs are known by the
 * blob and the whole record, so two images whose tables agree on a chunk share its download, and one whose table lies
 * does not.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { toLacunaError } from '../errors.ts';
import type { BlobFs, Miss } from '../native/addon.ts';
import { type Log, silentLog } from '../observe/log.ts';
import { planRuns, type Run, retryDelay, windowsOf } from './planner.ts';
import { Slicer } from './slicer.ts';
import type { BlobSource } from './source.ts';
import { type ChunkTable, RECORD_SIZE } from './table.ts';

/** errno of a read that is given up. */
const EIO = 5;

export interface FetchOptions {
  /** Bytes of the device: the aligned part around a wanted chunk that is fetched behind it. 0 = nothing. */
  readonly window: number;
  /** Compressed bytes that nobody waits for and that are under way at once, at most. */
  readonly inFlight: number;
  /** Requests under way at once, at most. */
  readonly connections: number;
  /** Milliseconds after which a read whose data cannot be had fails. */
  readonly deadline: number;
  readonly log?: Log;
}

/** A device whose chunks are fetched. */
export interface FetchedDevice {
  /** Hex digest of the blob. */
  readonly blob: string;
  readonly table: ChunkTable;
  /** Tried in turn. */
  readonly sources: readonly BlobSource[];
}

/** Counters since the start. */
export interface FetchCounters {
  /** Ranged requests, repetitions included, and the bytes they brought. */
  requests: number;
  fetchedBytes: number;
  /** Chunks asked for once more after an error or wrong bytes. */
  retries: number;
  /** Chunks given up. */
  failures: number;
  /** Chunks fetched because a neighbour was wanted, and their compressed bytes. */
  neighbourChunks: number;
  neighbourBytes: number;
  /** Chunks that a reader wanted while they were under way already. */
  joined: number;
}

interface Job {
  readonly key: string;
  readonly device: number;
  readonly chunk: number;
  /** Place in the remote blob: a {@link Run}'s span. */
  readonly offset: number;
  readonly size: number;
  state: 'queued' | 'running';
  /** When somebody waits for it: time (milliseconds since the epoch) at which that ends. */
  deadline: number | null;
  attempts: number;
  /** Aborts the request that carries it. */
  request: AbortController | null;
}

/** A request that waits for its turn. */
interface Queued {
  readonly device: number;
  readonly run: Run<Job>;
}

type Cache = Pick<BlobFs, 'missing' | 'deliver' | 'fail'>;

export class Fetcher {
  readonly #cache: Cache;
  readonly #options: FetchOptions;
  readonly #log: Log;
  readonly #devices = new Map<number, FetchedDevice>();
  readonly #jobs = new Map<string, Job>();
  readonly #demand: Queued[] = [];
  /** Newest last: what was wanted last is most likely to be read on. */
  readonly #neighbours: Job[] = [];
  #running = 0;
  #neighbourBytesInFlight = 0;
  #closed = false;
  readonly #counters: FetchCounters = {
    requests: 0,
    fetchedBytes: 0,
    retries: 0,
    failures: 0,
    neighbourChunks: 0,
    neighbourBytes: 0,
    joined: 0,
  };

  constructor(cache: Cache, options: FetchOptions) {
    this.#cache = cache;
    this.#options = options;
    this.#log = options.log ?? silentLog;
  }

  addDevice(handle: number, device: FetchedDevice): void {
    this.#devices.set(handle, device);
  }

  /** Gives up what is under way for the device. */
  removeDevice(handle: number): void {
    this.#devices.delete(handle);
    for (const job of this.#jobs.values()) {
      if (job.device !== handle) continue;
      this.#jobs.delete(job.key);
      job.request?.abort();
    }
  }

  counters(): FetchCounters {
    return { ...this.#counters };
  }

  /** Aborts everything under way; what readers wait for stays unanswered, for the next process. */
  close(): void {
    this.#closed = true;
    for (const job of this.#jobs.values()) job.request?.abort();
  }

  /** Readers wait for these chunks. */
  miss(miss: Miss): void {
    const device = this.#devices.get(miss.device);
    if (device === undefined || this.#closed) return;
    const deadline = Date.now() + this.#options.deadline;
    const wanted: Job[] = [];
    for (const chunk of miss.chunks) {
      const job = this.#jobs.get(keyOf(device, chunk));
      if (job === undefined) wanted.push(this.#job(miss.device, device, chunk, deadline));
      else if (job.state === 'queued' && job.deadline === null) wanted.push(this.#promote(job, deadline));
      else this.#join(job, deadline);
    }
    for (const run of planRuns(wanted)) this.#demand.push({ device: miss.device, run });
    if (this.#options.window > 0) this.#queueNeighbours(miss, device);
    this.#pump();
  }

  #job(handle: number, device: FetchedDevice, chunk: number, deadline: number | null): Job {
    const job: Job = {
      key: keyOf(device, chunk),
      device: handle,
      chunk,
      offset: device.table.compressedOffset(chunk),
      size: device.table.compressedSize(chunk),
      state: 'queued',
      deadline,
      attempts: 0,
      request: null,
    };
    this.#jobs.set(job.key, job);
    return job;
  }

  /** A queued neighbour that somebody waits for now. */
  #promote(job: Job, deadline: number): Job {
    this.#neighbours.splice(this.#neighbours.indexOf(job), 1);
    job.deadline = deadline;
    return job;
  }

  #join(job: Job, deadline: number): void {
    this.#counters.joined += 1;
    job.deadline ??= deadline;
  }

  #queueNeighbours(miss: Miss, device: FetchedDevice): void {
    for (const { first, count } of windowsOf(device.table, miss.chunks, this.#options.window)) {
      // Backwards, because the newest is taken first.
      for (const chunk of this.#cache.missing(miss.device, first, count).reverse()) {
        if (this.#jobs.has(keyOf(device, chunk))) continue;
        this.#neighbours.push(this.#job(miss.device, device, chunk, null));
      }
    }
  }

  #pump(): void {
    while (this.#running < this.#options.connections && this.#demand.length > 0) this.#start(this.#demand.shift()!);
    while (
      this.#running < this.#options.connections &&
      this.#neighbourBytesInFlight < this.#options.inFlight &&
      this.#neighbours.length > 0
    ) {
      const run = this.#takeNeighbours();
      if (run === null) continue;
      this.#neighbourBytesInFlight += run.run.size;
      this.#counters.neighbourChunks += run.run.spans.length;
      this.#counters.neighbourBytes += run.run.size;
      this.#start(run, () => {
        this.#neighbourBytesInFlight -= run.run.size;
      });
    }
  }

  /** The newest neighbours that lie together, as one request. */
  #takeNeighbours(): Queued | null {
    const { device } = this.#neighbours.at(-1)!;
    let from = this.#neighbours.length;
    while (from > 0 && this.#neighbours[from - 1]!.device === device) from -= 1;
    const together = this.#neighbours.splice(from).filter((job) => this.#jobs.get(job.key) === job);
    const newest = together.at(-1);
    if (newest === undefined) return null;
    const room = this.#options.inFlight - this.#neighbourBytesInFlight;
    const runs = planRuns(together, undefined, room);
    const run = runs.find((candidate) => candidate.spans.includes(newest))!;
    const taken = new Set(run.spans);
    this.#neighbours.push(...together.filter((job) => !taken.has(job)));
    return { device, run };
  }

  #start({ device, run }: Queued, whenDone: () => void = () => {}): void {
    this.#running += 1;
    this.#fetch(device, run)
      .catch((error: unknown) => this.#log.error({ error: toLacunaError(error).toJSON() }, 'fetching failed'))
      .finally(() => {
        this.#running -= 1;
        whenDone();
        if (!this.#closed) this.#pump();
      });
  }

  /** One request: delivers what arrives whole, then sees to what did not. */
  async #fetch(handle: number, run: Run<Job>): Promise<void> {
    const device = this.#devices.get(handle);
    const alive = run.spans.filter((job) => this.#jobs.get(job.key) === job);
    if (device === undefined || alive.length === 0) return;
    const request = new AbortController();
    for (const job of alive) {
      job.state = 'running';
      job.request = request;
    }
    const watch = setInterval(() => abortWhenLate(alive, request), 1000);
    const slicer = new Slicer(run);
    const deliveries: Promise<void>[] = [];
    let problem: unknown = null;
    try {
      const source = device.sources[alive[0]!.attempts % device.sources.length]!;
      this.#counters.requests += 1;
      for await (const piece of source.read(run.offset, run.size, request.signal)) {
        this.#counters.fetchedBytes += piece.length;
        for (const { span, bytes } of slicer.push(piece)) deliveries.push(this.#deliver(span, bytes));
      }
    } catch (error) {
      problem = error;
    } finally {
      clearInterval(watch);
    }
    await Promise.all(deliveries);
    const missed = slicer.rest.filter((job) => this.#jobs.get(job.key) === job);
    if (missed.length === 0 || this.#closed) return;
    const error = toLacunaError(problem ?? new Error('the source sent less than it was asked for'));
    this.#log.warn({ blob: device.blob, chunks: missed.length, error: error.toJSON() }, 'a range could not be fetched');
    this.#again(missed);
  }

  async #deliver(job: Job, bytes: Buffer): Promise<void> {
    try {
      await this.#cache.deliver(job.device, job.chunk, bytes);
      if (this.#jobs.get(job.key) === job) this.#jobs.delete(job.key);
    } catch (error) {
      if (this.#closed || this.#jobs.get(job.key) !== job) return;
      const problem = toLacunaError(error);
      this.#log.warn({ device: job.device, chunk: job.chunk, error: problem.toJSON() }, 'a chunk arrived wrong');
      this.#again([job]);
    }
  }

  /** Tries chunks once more after a pause, from the next source, when somebody waits and there is time left. */
  #again(jobs: readonly Job[]): void {
    const now = Date.now();
    const late: Job[] = [];
    const retried: Job[] = [];
    for (const job of jobs) {
      job.attempts += 1;
      job.request = null;
      if (job.deadline === null) this.#jobs.delete(job.key);
      else if (job.deadline <= now) late.push(job);
      else retried.push(job);
    }
    for (const job of late) this.#giveUp(job);
    if (retried.length === 0) return;
    this.#counters.retries += retried.length;
    const pause = Math.min(retryDelay(retried[0]!.attempts, Math.random()), retried[0]!.deadline! - now);
    sleep(pause).then(() => {
      const alive = retried.filter((job) => this.#jobs.get(job.key) === job);
      for (const job of alive) job.state = 'queued';
      for (const run of planRuns(alive)) this.#demand.push({ device: run.spans[0]!.device, run });
      if (!this.#closed) this.#pump();
    });
  }

  #giveUp(job: Job): void {
    this.#jobs.delete(job.key);
    this.#counters.failures += 1;
    this.#log.error({ device: job.device, chunk: job.chunk }, 'a chunk could not be had in time: reads of it fail');
    if (this.#devices.has(job.device)) this.#cache.fail(job.device, [job.chunk], EIO);
  }
}

/** Ends a request when the patience of somebody who waits for a part of it is over. */
function abortWhenLate(jobs: readonly Job[], request: AbortController): void {
  const now = Date.now();
  if (jobs.some((job) => job.request === request && job.deadline !== null && job.deadline <= now)) request.abort();
}

/** Blob and record: all that makes a chunk the same chunk. */
function keyOf(device: FetchedDevice, chunk: number): string {
  const at = chunk * RECORD_SIZE;
  return device.blob + device.table.bytes.toString('latin1', at, at + RECORD_SIZE);
}
