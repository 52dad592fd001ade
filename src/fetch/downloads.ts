/**
 * Downloads of one fetcher: starts jobs in turn within the budgets, and fetches each chunk or unit once from one origin.
 * The fetcher decides what is fetched, and handles failures.
 */
import { FetchBudgets, type FetchLimits } from './fetch-budgets.ts';
import { Lane } from './lane.ts';
import type { FetchSource } from './standing.ts';
import { Transfer } from './transfer.ts';
import { type FetchedDevice, type Job, link, unlink, type Want } from './want.ts';

export interface DownloadLimits extends FetchLimits {
  /** Maximum compressed bytes of read-ahead in flight, for each image and place, and behind one demanded run. */
  readonly inFlight: number;
}

/** Counters since the start. */
export interface DownloadCounters {
  /** Ranged requests, repetitions included, and the bytes received. */
  requests: number;
  fetchedBytes: number;
  /** Chunks fetched as read-ahead, and their compressed bytes. */
  readaheadChunks: number;
  readaheadBytes: number;
  /** Chunks that a reader demanded while their download was under way already. */
  coalesced: number;
}

export interface DownloadEvents {
  /** The bytes of a job have arrived. Resolves when they are no longer needed. */
  arrived(job: Job, bytes: Buffer): Promise<void>;
  /** The request has ended; `problem` says why spans are left over. */
  ended(transfer: Transfer<Job>, problem: unknown): void;
}

export class Downloads {
  readonly counters: DownloadCounters = {
    requests: 0,
    fetchedBytes: 0,
    readaheadChunks: 0,
    readaheadBytes: 0,
    coalesced: 0,
  };
  readonly #limits: DownloadLimits;
  readonly #events: DownloadEvents;
  readonly #budgets: FetchBudgets;
  /** Lanes, the one that has waited longest first: a lane that starts a request moves to the end. */
  readonly #lanes = new Map<string, Lane>();
  /** Jobs under way by place and identity; below, the job started last by origin and identity. */
  readonly #inFlight = new Map<string, Job>();
  readonly #ofOrigin = new Map<string, Job>();
  readonly #transfers = new Set<Transfer<Job>>();
  #closed = false;

  constructor(limits: DownloadLimits, events: DownloadEvents) {
    this.#limits = limits;
    this.#events = events;
    this.#budgets = new FetchBudgets(limits);
  }

  get transfers(): ReadonlySet<Transfer<Job>> {
    return this.#transfers;
  }

  /** Jobs of a device that are under way. */
  ofDevice(handle: number): Job[] {
    return [...this.#inFlight.values()].filter((job) => job.handle === handle);
  }

  /** The image's own job for this want that waits for its turn at the source. */
  queued({ id, device }: Want, source: FetchSource): Job | undefined {
    return this.#laneOf(device, source).queued(id);
  }

  /**
   * Whether the same chunk or unit is under way from this source's origin; then the want shares that job. The source counts
   * as tried only when the job asks its place: another repository of the registry may lack the blob.
   */
  join(want: Want, source: FetchSource): boolean {
    const job = this.#shared(want, source);
    if (job === null) return false;
    link(want, job);
    want.places.add(job.source.place);
    if (job.source.place === source.place) want.tried.add(source);
    if (want.deadline !== null) this.counters.coalesced += 1;
    return true;
  }

  #shared({ id, places }: Want, { place, origin }: FetchSource): Job | null {
    const same = this.#inFlight.get(keyOf(place, id));
    if (same !== undefined) return same;
    const other = this.#ofOrigin.get(keyOf(origin, id));
    return other === undefined || places.has(other.source.place) ? null : other;
  }

  /** Readers wait for these jobs, new or queued as read-ahead. */
  pushDemand(jobs: readonly Job[]): void {
    for (const source of new Set(jobs.map((job) => job.source))) {
      const own = jobs.filter((job) => job.source === source);
      const { device } = own[0]!;
      this.#countReadahead(this.#laneOf(device, source).pushDemand(own, device));
    }
  }

  /** Returns the job that was dropped to make room, if any. */
  pushReadahead(job: Job): Job | null {
    return this.#laneOf(job.device, job.source).pushReadahead(job);
  }

  /** Starts as many requests as the budgets allow. */
  pump(): void {
    if (this.#closed) return;
    const round = this.#budgets.round();
    for (const [key, lane] of [...this.#lanes]) {
      const take = () => lane.take((size) => round.allows(lane, size), this.#isElsewhere);
      for (let next = take(); next !== null; next = take()) {
        if (next.isReadahead) this.#countReadahead(next.run.spans);
        this.#start(lane, new Transfer(next.run, next.run.spans[0]!.source), next.isReadahead);
        this.#lanes.delete(key);
        this.#lanes.set(key, lane);
      }
      if (lane.isIdle) this.#lanes.delete(key);
    }
  }

  /** Drops the job for all its wants; aborts its request when no want is left. */
  drop(job: Job): void {
    for (const want of job.wants) unlink(want, job);
    const { transfer } = job;
    if (transfer === null) this.#laneOf(job.device, job.source).remove(job);
    if (this.isInFlight(job)) this.#inFlight.delete(keyOf(job.source.place, job.id));
    if (this.#ofOrigin.get(keyOf(job.source.origin, job.id)) === job) {
      this.#ofOrigin.delete(keyOf(job.source.origin, job.id));
    }
    if (transfer?.run.spans.findLast(({ wants }) => wants.size > 0) === undefined) transfer?.abort();
  }

  isInFlight(job: Job): boolean {
    return this.#inFlight.get(keyOf(job.source.place, job.id)) === job;
  }

  close(): void {
    this.#closed = true;
    for (const transfer of this.#transfers) transfer.abort();
  }

  #laneOf({ image }: FetchedDevice, { origin, place }: FetchSource): Lane {
    const key = keyOf(place, image);
    const existing = this.#lanes.get(key);
    if (existing !== undefined) return existing;
    const made = new Lane(image, origin, this.#limits.inFlight);
    this.#lanes.set(key, made);
    return made;
  }

  /** Whether another device's job, already under way, serves all wants of a queued job. */
  readonly #isElsewhere = (job: Job): boolean => {
    const wants = [...job.wants];
    if (wants.some((want) => this.#shared(want, job.source) === null)) return false;
    this.drop(job);
    for (const want of wants) {
      want.tried.delete(job.source);
      this.join(want, job.source);
    }
    return true;
  };

  #start(lane: Lane, transfer: Transfer<Job>, isReadahead: boolean): void {
    const { size, spans } = transfer.run;
    this.#budgets.take(lane, size);
    if (isReadahead) lane.readaheadInFlight += size;
    this.#transfers.add(transfer);
    for (const job of spans) {
      job.transfer = transfer;
      this.#inFlight.set(keyOf(job.source.place, job.id), job);
      this.#ofOrigin.set(keyOf(job.source.origin, job.id), job);
    }
    void this.#carryOut(transfer).finally(() => {
      this.#transfers.delete(transfer);
      if (isReadahead) lane.readaheadInFlight -= size;
      this.#budgets.giveBack(lane, size);
      this.pump();
    });
  }

  async #carryOut(transfer: Transfer<Job>): Promise<void> {
    const deliveries: Promise<void>[] = [];
    let problem: unknown = new Error('the source sent fewer bytes than requested');
    this.counters.requests += 1;
    try {
      for await (const { span, bytes } of transfer.spans(this.#count))
        deliveries.push(this.#events.arrived(span, bytes));
    } catch (error) {
      problem = error;
    }
    await Promise.all(deliveries);
    if (!this.#closed) this.#events.ended(transfer, problem);
  }

  readonly #count = (length: number): void => {
    this.counters.fetchedBytes += length;
  };

  #countReadahead(jobs: readonly Job[]): void {
    this.counters.readaheadChunks += jobs.length;
    this.counters.readaheadBytes += jobs.reduce((sum, { size }) => sum + size, 0);
  }
}

const keyOf = (place: string, name: string): string => `${place}\n${name}`;
