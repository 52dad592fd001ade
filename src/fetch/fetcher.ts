/**
 * Fetches the chunks that readers wait for, and read-ahead: selects sources, shares downloads between devices, and retries
 * or gives up what does not arrive.
 *
 * A {@link Want} is one device's demand for a chunk or unit, until that is in the cache or given up; a {@link Job} is one
 * download of it. Devices whose tables agree on a chunk share its download from one origin. A device whose table differs
 * does not share it, and an image never waits for another image's origin, nor twice for another image's place there.
 */

import { retryDelay, windowsOf } from '../blob/planner.ts';
import { LacunaError, toLacunaError } from '../errors.ts';
import type { BlobFs, Miss } from '../native/addon.ts';
import { errorRow, type Log, silentLog } from '../observe/log.ts';
import { ResponseError } from '../registry/http/retry.ts';
import { type DownloadCounters, type DownloadLimits, Downloads } from './downloads.ts';
import { Standing } from './standing.ts';
import { Ticker } from './ticker.ts';
import type { Transfer } from './transfer.ts';
import {
  type FetchedDevice,
  forgetAsked,
  identityOf,
  isQueuedReadahead,
  isWaitedFor,
  type Job,
  jobOf,
  link,
  noteAsked,
  promote,
  stuckFor,
  unlink,
  type Want,
  Wants,
} from './want.ts';

/** errno of a read that is given up. */
const EIO = 5;

/** Milliseconds between two checks for late reads and stuck requests. */
const TICK = 200;

/** Milliseconds without progress after which a request is repeated: its connection may be dead. */
const STALL = 10_000;

export interface FetchOptions extends DownloadLimits {
  /** Read-ahead window, bytes of the device: the rest of this aligned part is fetched after a demanded chunk. 0 = none. */
  readonly window: number;
  /** Milliseconds without progress after which the next source is asked as well. */
  readonly silence: number;
  /** Milliseconds after which a read whose data has not arrived fails. */
  readonly deadline: number;
  /** Record of silent sources, where other readers use the same sources. */
  readonly standing?: Standing;
  readonly log?: Log;
}

/** Counters since the start. */
export interface FetchCounters extends DownloadCounters {
  /** Chunks requested again after an error, wrong bytes or silence. */
  retries: number;
  /** Chunks whose reads failed. */
  failures: number;
}

type Cache = Pick<BlobFs, 'missing' | 'deliver' | 'fail'>;

export class Fetcher {
  readonly #cache: Cache;
  readonly #options: FetchOptions;
  readonly #log: Log;
  readonly #devices = new Map<number, FetchedDevice>();
  readonly #wants = new Wants();
  readonly #downloads: Downloads;
  readonly #standing: Standing;
  readonly #ticker = new Ticker(TICK, (now, isReliable) => this.#check(now, isReliable));
  #closed = false;
  #retries = 0;
  #failures = 0;

  constructor(cache: Cache, options: FetchOptions) {
    this.#cache = cache;
    this.#options = options;
    this.#log = options.log ?? silentLog;
    this.#standing = options.standing ?? new Standing();
    this.#downloads = new Downloads(options, {
      arrived: (job, bytes) => this.#deliver(job, bytes),
      ended: (transfer, problem) => this.#missed(transfer, problem),
    });
  }

  /** Adds a device, or replaces the sources of one. */
  addDevice(handle: number, device: FetchedDevice): void {
    this.#devices.set(handle, device);
    for (const want of this.#wants.ofDevice(handle)) {
      want.device = device;
      forgetAsked(want);
    }
  }

  /** Gives up the device's wants. Other devices that shared its requests make requests of their own. */
  removeDevice(handle: number): void {
    this.#devices.delete(handle);
    for (const want of this.#wants.ofDevice(handle)) this.#settle(want);
    const orphans = this.#downloads.ofDevice(handle).flatMap(({ wants }) => [...wants]);
    for (const want of orphans) this.#settle(want);
    for (const { handle: device, chunks } of orphans.filter(isWaitedFor)) this.miss({ device, chunks: [...chunks] });
  }

  counters(): FetchCounters {
    return { ...this.#downloads.counters, retries: this.#retries, failures: this.#failures };
  }

  /** Aborts all requests. Waiting reads stay unanswered, for the next process. */
  close(): void {
    this.#closed = true;
    this.#ticker.stop();
    this.#downloads.close();
  }

  /** Readers wait for these chunks. */
  miss({ device: handle, chunks }: Miss): void {
    const device = this.#devices.get(handle);
    if (device === undefined || this.#closed) return;
    const deadline = performance.now() + this.#options.deadline;
    const fresh = new Set<Want>();
    const promoted = new Set<Job>();
    for (const chunk of chunks) {
      const id = identityOf(device, chunk);
      const existing = this.#wants.get(id, handle);
      // It may have arrived as read-ahead while the miss was on its way here; its readers have been answered then.
      if (existing === undefined && this.#cache.missing(handle, chunk, 1).length === 0) continue;
      const want = existing ?? this.#wants.add(id, handle, device, chunk);
      if (existing === undefined) fresh.add(want);
      else if (isQueuedReadahead(existing)) for (const job of existing.jobs) promoted.add(promote(job));
      else if (!fresh.has(existing)) this.#downloads.counters.coalesced += 1;
      want.deadline ??= deadline;
      want.chunks.add(chunk);
      want.misses += 1;
    }
    if (this.#options.window > 0) this.#queueReadahead(handle, device, chunks);
    this.#ask(fresh, promoted);
    this.#ticker.start();
  }

  #queueReadahead(handle: number, device: FetchedDevice, chunks: readonly number[]): void {
    const source = this.#standing.next(device.sources, new Set(), performance.now())!;
    for (const { first, count } of windowsOf(device.table, chunks, this.#options.window)) {
      // In reverse, because the newest read-ahead is taken first.
      for (const chunk of this.#cache.missing(handle, first, count).reverse()) {
        const id = identityOf(device, chunk);
        if (this.#wants.get(id, handle) !== undefined) continue;
        const want = this.#wants.add(id, handle, device, chunk);
        noteAsked(want, source);
        const dropped = this.#downloads.pushReadahead(jobOf(want, source, true));
        for (const old of dropped?.wants ?? []) this.#settle(old);
      }
    }
  }

  /** Asks the next source of each want, together with `jobs` that were read-ahead until now. */
  #ask(wants: Iterable<Want>, jobs: Iterable<Job> = []): void {
    const demand = new Set(jobs);
    for (const want of wants) {
      const source = this.#standing.next(want.device.sources, want.tried, performance.now());
      if (source === null) continue;
      const queued = this.#downloads.queued(want, source);
      if (queued === undefined && this.#downloads.join(want, source)) continue;
      noteAsked(want, source);
      const job = queued ?? jobOf(want, source, false);
      link(want, job);
      if (queued === undefined || queued.isReadahead) demand.add(job);
    }
    this.#downloads.pushDemand([...demand]);
    this.#downloads.pump();
  }

  /** Requests again the spans that the transfer did not deliver. */
  #missed(transfer: Transfer<Job>, problem: unknown): void {
    const missed = transfer.rest.filter((job) => this.#downloads.isInFlight(job));
    if (missed.length === 0) return;
    const { subject } = transfer.source;
    this.#log.warn(
      { source: subject, chunks: missed.length, error: errorRow(problem) },
      'could not fetch a range: its chunks are requested again',
    );
    const wants = missed.flatMap((job) => [...job.wants]);
    for (const job of missed) this.#downloads.drop(job);
    this.#again(wants, problem instanceof ResponseError ? (problem.retryAfter ?? 0) : 0);
  }

  /** Delivers the bytes to every device that wants them. Each device verifies them; only mismatching ones are rejected. */
  async #deliver(job: Job, bytes: Buffer): Promise<void> {
    // A miss during a delivery may come too late for it, where the disk is full and the chunk is not kept.
    for (let [want] = job.wants; want !== undefined && !this.#closed; [want] = job.wants) {
      // A chunk stored alone has the same digest for all devices; the chunks of a unit are each device's own claim.
      const served = (job.isUnit ? [want] : this.#wants.of(job.id)).map((each) => [each, each.misses] as const);
      const problem = await this.#cache.deliver(want.handle, want.chunk, bytes).then(() => null, toLacunaError);
      if (problem === null) {
        this.#standing.noteDelivery(job.source.origin);
        for (const [each, misses] of served) if (each.misses === misses) this.#settle(each);
      } else if (job.wants.has(want)) {
        const { subject } = job.source;
        this.#log.warn(
          { source: subject, chunk: want.chunk, error: errorRow(problem) },
          'a chunk failed verification: it is requested again',
        );
        this.#reject(job, job.isUnit ? [want] : [...job.wants]);
      }
    }
    if (!this.#closed) this.#downloads.drop(job);
  }

  #reject(job: Job, wants: readonly Want[]): void {
    for (const want of wants) unlink(want, job);
    this.#again(wants);
  }

  /**
   * Retries wants that a source failed: asks the next source at once or, when all were tried, all of them again after a
   * pause. Read-ahead is given up instead. `leastPause`: Retry-After in milliseconds, which counts for an only source.
   */
  #again(wants: readonly Want[], leastPause = 0): void {
    const failed = wants.filter((want) => this.#wants.has(want) && want.jobs.size === 0);
    for (const want of failed) if (!isWaitedFor(want)) this.#settle(want);
    const waited = failed.filter(isWaitedFor);
    this.#retries += waited.length;
    const [exhausted, others] = [waited.filter(this.#isExhausted), waited.filter((want) => !this.#isExhausted(want))];
    this.#ask(others);
    const [first] = exhausted;
    if (first === undefined) return;
    for (const want of exhausted) {
      forgetAsked(want);
      want.rounds += 1;
    }
    const least = first.device.sources.length > 1 ? 0 : leastPause;
    // The timer does not keep the process alive.
    setTimeout(() => this.#resume(exhausted), Math.max(least, retryDelay(first.rounds, Math.random()))).unref();
  }

  readonly #isExhausted = ({ device, tried }: Want): boolean => device.sources.every((source) => tried.has(source));

  #resume(paused: readonly Want[]): void {
    if (this.#closed) return;
    this.#ask(paused.filter((want) => this.#wants.has(want) && want.jobs.size === 0));
  }

  /** Gives up late reads, asks the next source where one is silent, and ends stalled requests. */
  #check(now: number, isReliable: boolean): boolean {
    for (const want of [...this.#wants]) if (isWaitedFor(want) && want.deadline <= now) this.#giveUp(want);
    if (isReliable) this.#askOthers(now);
    return this.#wants.size > 0;
  }

  #askOthers(now: number): void {
    for (const transfer of this.#downloads.transfers) this.#judge(transfer, now);
    const stuck = [...this.#wants].filter((want) => this.#isStuck(want, now) && !this.#isExhausted(want));
    this.#retries += stuck.length;
    this.#ask(stuck);
  }

  #judge(transfer: Transfer<Job>, now: number): void {
    const stuck = transfer.stuckFor(now);
    const { origin, subject } = transfer.source;
    if (stuck >= this.#options.silence && this.#standing.noteSilence(origin, now)) {
      this.#log.warn(
        { source: subject, milliseconds: Math.round(stuck) },
        'a source is silent: it is asked last for a while',
      );
    }
    if (stuck < STALL) return;
    transfer.abort();
    this.#missed(transfer, new LacunaError('TIMEOUT', `no data for ${STALL / 1000} s`, { op: 'fetch', subject }));
  }

  /** Whether no job of the want makes progress. Each source gets a share of the deadline, at most `silence`. */
  #isStuck(want: Want, now: number): boolean {
    const share = Math.min(this.#options.silence, this.#options.deadline / want.device.sources.length);
    return isWaitedFor(want) && want.jobs.size > 0 && [...want.jobs].every((job) => stuckFor(job, now) >= share);
  }

  #giveUp(want: Want): void {
    this.#settle(want);
    this.#failures += 1;
    const { handle: device, chunk, chunks } = want;
    this.#log.error(
      { device, chunk },
      `no source delivered the chunk within ${this.#options.deadline / 1000} s: reads of it fail with EIO`,
    );
    this.#cache.fail(device, [...chunks], EIO);
  }

  /** Removes a want that is in the cache or given up, and drops jobs that no other want shares. */
  #settle(want: Want): void {
    this.#wants.delete(want);
    for (const job of [...want.jobs]) {
      unlink(want, job);
      if (job.wants.size === 0) this.#downloads.drop(job);
    }
  }
}
