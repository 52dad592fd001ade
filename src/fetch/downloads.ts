/**
 * Carries out jobs: whose turn it is, within the budgets, each thing once from one origin. Who wants what, and what to do
 * about failures, is the fetcher's.
 */
import { FetchBudgets, type FetchLimits } from './fetch-budgets.ts';
import { Lane } from './lane.ts';
import type { FetchSource } from './standing.ts';
import { Transfer } from './transfer.ts';
import { type FetchedDevice, type Job, link, unlink, type Want } from './want.ts';

export interface DownloadLimits extends FetchLimits {
  /** Maximum compressed bytes of read-ahead in flight, for each image and place, and behind one wanted run. */
  readonly inFlight: number;
}

/** Counters since the start. */
export interface DownloadCounters {
  /** Ranged requests, repetitions included, and the bytes they brought. */
  requests: number;
  fetchedBytes: number;
  /** Chunks fetched because a neighbour was wanted, and their compressed bytes. */
  neighbourChunks: number;
  neighbourBytes: number;
  /** Chunks that a reader wanted while they were under way already. */
  joined: number;
}

export interface DownloadEvents {
  /** The bytes of a job are here. Resolves when they are no longer needed. */
  arrived(job: Job, bytes: Buffer): Promise<void>;
  /** The request is over; `problem` is why there is a rest. */
  ended(transfer: Transfer<Job>, problem: unknown): void;
}

export class Downloads {
  readonly counters: DownloadCounters = {
    requests: 0,
    fetchedBytes: 0,
    neighbourChunks: 0,
    neighbourBytes: 0,
    joined: 0,
  };
  readonly #limits: DownloadLimits;
  readonly #events: DownloadEvents;
  readonly #budgets: FetchBudgets;
  /** Those that have waited longest first: one that began a request goes to the end. */
  readonly #lanes = new Map<string, Lane>();
  /** Jobs under way, by place and identity; and the one begun last of an origin. */
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

  /** Jobs of the device's that are under way. */
  ofDevice(handle: number): Job[] {
    return [...this.#inFlight.values()].filter((job) => job.handle === handle);
  }

  /** What of the image's own waits for its turn at this source. */
  queued({ id, device }: Want, source: FetchSource): Job | undefined {
    return this.#laneOf(device, source).queued(id);
  }

  /**
   * Whether the very same is under way from this source's origin; then the want shares it. The source itself counts as asked
   * only when it is from its place: another repository of the registry may lack what this one has.
   */
  join(want: Want, source: FetchSource): boolean {
    const job = this.#shared(want, source);
    if (job === null) return false;
    link(want, job);
    want.places.add(job.source.place);
    if (job.source.place === source.place) want.tried.add(source);
    if (want.deadline !== null) this.counters.joined += 1;
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

  /** Gives the job that has to be forgotten for it, if any. */
  pushReadahead(job: Job): Job | null {
    return this.#laneOf(job.device, job.source).pushReadahead(job);
  }

  /** Begins what the budgets allow. */
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

  /** The job is no more to be done, for anybody. */
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
    const known = this.#lanes.get(key);
    if (known !== undefined) return known;
    const made = new Lane(image, origin, this.#limits.inFlight);
    this.#lanes.set(key, made);
    return made;
  }

  /** Whether a queued job has been overtaken by another device's, whose bytes serve its wants as well. */
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
    let problem: unknown = new Error('the source sent less than it was asked for');
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
    this.counters.neighbourChunks += jobs.length;
    this.counters.neighbourBytes += jobs.reduce((sum, { size }) => sum + size, 0);
  }
}

const keyOf = (place: string, name: string): string => `${place}\n${name}`;
