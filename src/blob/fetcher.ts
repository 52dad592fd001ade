/**
 * Fetches what readers wait for, and what they are likely to want next. What to ask for is decided in `planner.ts`;
 * here is when: demand first, single flight, retries up to a deadline.
 *
 * A chunk is one {@link Job} from the moment it is wanted until it is in the cache or given up. Jobs are known by the
 * blob and the whole record, so two images whose tables agree on a chunk share its download, and one whose table lies
 * does not. Chunks within one unit are one job, known by the unit; each device is given its bytes.
 */
import { toLacunaError } from '../errors.ts';
import type { BlobFs, Miss } from '../native/addon.ts';
import { type Log, silentLog } from '../observe/log.ts';
import { ResponseError } from '../registry/retry.ts';
import { MAX_GAP, MAX_RUN, planRuns, type Run, retryDelay, windowsOf } from './planner.ts';
import { Slicer } from './slicer.ts';
import type { BlobSource } from './source.ts';
import { type ChunkTable, RECORD_SIZE } from './table.ts';
import type { UnitTable } from './units.ts';

/** errno of a read that is given up. */
const EIO = 5;

export interface FetchOptions {
  /** Bytes of the device: the aligned part around a wanted chunk that is fetched behind it. 0 = nothing. */
  readonly window: number;
  /**
   * Compressed bytes that nobody waits for and that are under way at once in requests of their own, at most; also the most
   * that comes in the wake of one wanted run.
   */
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
  /** Null when every chunk is stored alone. */
  readonly units: UnitTable | null;
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
  /** One of those in the unit, where there is one. */
  readonly chunk: number;
  readonly isUnit: boolean;
  /** Place in the remote blob: a {@link Run}'s span. */
  readonly offset: number;
  readonly size: number;
  state: 'queued' | 'running';
  /** When somebody waits for it: time (milliseconds since the epoch) at which that ends. */
  deadline: number | null;
  /** The devices whose readers wait for it, each with its own numbers of the chunks. */
  readonly wanted: Map<number, Set<number>>;
  /** How often somebody asked for it. */
  misses: number;
  attempts: number;
  /** Aborts the request that carries it. */
  request: AbortController | null;
}

type Cache = Pick<BlobFs, 'missing' | 'deliver' | 'fail'>;

export class Fetcher {
  readonly #cache: Cache;
  readonly #options: FetchOptions;
  readonly #log: Log;
  readonly #devices = new Map<number, FetchedDevice>();
  readonly #jobs = new Map<string, Job>();
  /** Requests that wait for their turn. */
  readonly #demand: Run<Job>[] = [];
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

  /** Gives up what is under way for the device; what another one's readers wait for as well is asked for in its name. */
  removeDevice(handle: number): void {
    this.#devices.delete(handle);
    for (const job of [...this.#jobs.values()]) {
      job.wanted.delete(handle);
      if (job.device !== handle) continue;
      this.#jobs.delete(job.key);
      job.request?.abort();
      for (const [device, chunks] of job.wanted) this.miss({ device, chunks: [...chunks] });
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
      const known = this.#jobs.get(keyOf(device, chunk));
      // It may have come, wanted by nobody, while the miss was on its way here; whoever waits has been answered then.
      if (known === undefined && this.#cache.missing(miss.device, chunk, 1).length === 0) continue;
      const isNeighbour = known?.state === 'queued' && known.deadline === null;
      if (isNeighbour) this.#neighbours.splice(this.#neighbours.indexOf(known), 1);
      else if (known !== undefined) this.#counters.joined += 1;
      const job = known ?? this.#job(miss.device, device, chunk);
      if (isNeighbour || known === undefined) wanted.push(job);
      job.deadline ??= deadline;
      job.wanted.set(miss.device, (job.wanted.get(miss.device) ?? new Set()).add(chunk));
      job.misses += 1;
    }
    if (this.#options.window > 0) this.#queueNeighbours(miss, device);
    for (const run of planRuns(wanted)) this.#demand.push(this.#followed(run, device));
    this.#pump();
  }

  /**
   * The run with the queued neighbours that lie right behind it, as far as there is room: they arrive in its wake
   * without a request of their own, and what is waited for is delivered before they are there.
   */
  #followed(run: Run<Job>, device: FetchedDevice): Run<Job> {
    const spans = [...run.spans];
    const most = Math.min(MAX_RUN, run.size + this.#options.inFlight - this.#neighbourBytesInFlight);
    let { size } = run;
    for (let chunk = spans.at(-1)!.chunk + 1; chunk < device.table.length; chunk++) {
      const next = this.#jobs.get(keyOf(device, chunk));
      if (next === spans.at(-1)) continue; // another chunk of the same unit
      const at = next === undefined ? -1 : this.#neighbours.lastIndexOf(next);
      if (next === undefined || at < 0) break;
      const gap = next.offset - (run.offset + size);
      if (gap < 0 || gap > MAX_GAP || size + gap + next.size > most) break;
      this.#neighbours.splice(at, 1);
      this.#counters.neighbourChunks += 1;
      this.#counters.neighbourBytes += next.size;
      spans.push(next);
      size += gap + next.size;
    }
    return { offset: run.offset, size, spans };
  }

  #job(handle: number, device: FetchedDevice, chunk: number): Job {
    const job: Job = {
      key: keyOf(device, chunk),
      device: handle,
      chunk,
      isUnit: unitOf(device, chunk) !== null,
      offset: device.table.compressedOffset(chunk),
      size: device.table.compressedSize(chunk),
      state: 'queued',
      deadline: null,
      wanted: new Map(),
      misses: 0,
      attempts: 0,
      request: null,
    };
    this.#jobs.set(job.key, job);
    return job;
  }

  #queueNeighbours(miss: Miss, device: FetchedDevice): void {
    for (const { first, count } of windowsOf(device.table, miss.chunks, this.#options.window)) {
      // Backwards, because the newest is taken first.
      for (const chunk of this.#cache.missing(miss.device, first, count).reverse()) {
        if (this.#jobs.has(keyOf(device, chunk))) continue;
        this.#neighbours.push(this.#job(miss.device, device, chunk));
      }
    }
  }

  #pump(): void {
    while (this.#running < this.#options.connections && this.#demand.length > 0) this.#start(this.#demand.shift()!);
    while (this.#running < this.#options.connections) {
      const next = this.#takeNeighbours();
      if (next === null) return;
      const { size, spans } = next;
      this.#neighbourBytesInFlight += size;
      this.#counters.neighbourChunks += spans.length;
      this.#counters.neighbourBytes += size;
      this.#start(next, () => {
        this.#neighbourBytesInFlight -= size;
      });
    }
  }

  /** The newest neighbours that lie together, as one request; null when there are none or there is no room. */
  #takeNeighbours(): Run<Job> | null {
    while (this.#neighbours.length > 0 && !this.#isAlive(this.#neighbours.at(-1)!)) this.#neighbours.pop();
    const newest = this.#neighbours.at(-1);
    const room = this.#options.inFlight - this.#neighbourBytesInFlight;
    // One that is larger than all the room there can be goes alone.
    if (newest === undefined || (newest.size > room && this.#neighbourBytesInFlight > 0)) return null;
    const { device } = newest;
    let from = this.#neighbours.length;
    while (from > 0 && this.#neighbours[from - 1]!.device === device) from -= 1;
    const together = this.#neighbours.splice(from).filter((job) => this.#isAlive(job));
    const run = planRuns(together, undefined, room).find(({ spans }) => spans.includes(newest))!;
    const taken = new Set(run.spans);
    this.#neighbours.push(...together.filter((job) => !taken.has(job)));
    return run;
  }

  /** Not delivered, given up or taken away yet. */
  #isAlive(job: Job): boolean {
    return this.#jobs.get(job.key) === job;
  }

  #start(run: Run<Job>, whenDone: () => void = () => {}): void {
    this.#running += 1;
    this.#fetch(run)
      .catch((error: unknown) => this.#log.error({ error: toLacunaError(error).toJSON() }, 'fetching failed'))
      .finally(() => {
        this.#running -= 1;
        whenDone();
        if (!this.#closed) this.#pump();
      });
  }

  /** One request: delivers what arrives whole, then sees to what did not. */
  async #fetch(run: Run<Job>): Promise<void> {
    // Of silent sources, those who waited for a connection need not try whether they are still silent.
    for (const job of run.spans) if (this.#isAlive(job) && isLate(job, Date.now())) this.#giveUp(job);
    const alive = run.spans.filter((job) => this.#isAlive(job));
    if (alive.length === 0) return;
    const device = this.#devices.get(alive[0]!.device)!; // removed ones have no jobs
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
    const missed = slicer.rest.filter((job) => this.#isAlive(job));
    if (missed.length === 0 || this.#closed) return;
    const error = toLacunaError(problem ?? new Error('the source sent less than it was asked for'));
    this.#log.warn({ blob: device.blob, chunks: missed.length, error: error.toJSON() }, 'a range could not be fetched');
    const asked = problem instanceof ResponseError ? problem.retryAfter : null;
    this.#again(missed, device.sources.length === 1 ? (asked ?? 0) : 0);
  }

  async #deliver(job: Job, bytes: Buffer): Promise<void> {
    try {
      for (let answered = -1; answered !== job.misses && this.#isAlive(job); ) {
        // Whoever asks while this is under way may be too late for it, where the disk is full and nothing is kept.
        answered = job.misses;
        await this.#cache.deliver(job.device, job.chunk, bytes);
        // Other chunks of the unit may be other devices'.
        const others = job.isUnit ? [...job.wanted].filter(([device]) => device !== job.device) : [];
        for (const [device, [chunk]] of others) await this.#cache.deliver(device, chunk!, bytes);
      }
      if (this.#isAlive(job)) this.#jobs.delete(job.key);
    } catch (error) {
      if (this.#closed || !this.#isAlive(job)) return;
      const problem = toLacunaError(error);
      this.#log.warn({ device: job.device, chunk: job.chunk, error: problem.toJSON() }, 'a chunk arrived wrong');
      this.#again([job]);
    }
  }

  /**
   * Tries chunks once more after a pause, from the next source, when somebody waits and there is time left.
   * `leastPause`: milliseconds that the source asked for.
   */
  #again(jobs: readonly Job[], leastPause = 0): void {
    const now = Date.now();
    const retried: Job[] = [];
    for (const job of jobs) {
      job.attempts += 1;
      job.request = null;
      if (job.deadline === null) this.#jobs.delete(job.key);
      else if (isLate(job, now)) this.#giveUp(job);
      else retried.push(job);
    }
    if (retried.length === 0) return;
    this.#counters.retries += retried.length;
    const pause = Math.max(leastPause, retryDelay(retried[0]!.attempts, Math.random()));
    const untilLate = Math.min(...retried.map((job) => job.deadline!)) - now;
    const queue = (): void => {
      const alive = retried.filter((job) => this.#isAlive(job));
      for (const job of alive) job.state = 'queued';
      this.#demand.push(...planRuns(alive));
      if (!this.#closed) this.#pump();
    };
    // The end of the process does not wait for it.
    setTimeout(queue, Math.min(pause, untilLate)).unref();
  }

  #giveUp(job: Job): void {
    this.#jobs.delete(job.key);
    this.#counters.failures += 1;
    this.#log.error({ device: job.device, chunk: job.chunk }, 'a chunk could not be had in time: reads of it fail');
    for (const [device, chunks] of job.wanted) this.#cache.fail(device, [...chunks], EIO);
  }
}

const isLate = ({ deadline }: Job, now: number): boolean => deadline !== null && deadline <= now;

/** Ends a request when the patience of somebody who waits for a part of it is over. */
function abortWhenLate(jobs: readonly Job[], request: AbortController): void {
  const now = Date.now();
  if (jobs.some((job) => job.request === request && isLate(job, now))) request.abort();
}

const unitOf = ({ units }: FetchedDevice, chunk: number): string | null => units?.identityOf(chunk) ?? null;

/** Blob and record: all that makes a chunk the same chunk; or blob and unit. */
function keyOf(device: FetchedDevice, chunk: number): string {
  const unit = unitOf(device, chunk);
  if (unit !== null) return device.blob + unit;
  const at = chunk * RECORD_SIZE;
  return device.blob + device.table.bytes.toString('latin1', at, at + RECORD_SIZE);
}
