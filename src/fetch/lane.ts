/**
 * The queue of one image's requests to one place: demand first, then read-ahead. Each pair of image and place has a lane
 * of its own, so that demand never queues behind another image or behind a silent place.
 */
import { MAX_GAP, MAX_RUN, planRuns, type Run } from '../blob/planner.ts';
import { type FetchedDevice, identityOf, type Job } from './want.ts';

/** Maximum chunks of read-ahead that a lane queues; beyond it the oldest ones are dropped. */
export const MAX_READAHEAD = 4096;

export interface NextRun {
  readonly run: Run<Job>;
  readonly isReadahead: boolean;
}

export class Lane {
  readonly image: string;
  /** Origin of the place: several places may share its budget. */
  readonly origin: string;
  /** Requests under way, and the bytes of those that are read-ahead. */
  running = 0;
  readaheadInFlight = 0;
  readonly #readaheadLimit: number;
  /** Jobs that wait for their turn; entries of the two lists that are not here are stale. */
  readonly #queued = new Map<string, Job>();
  readonly #demand: Run<Job>[] = [];
  /** Newest last: a reader most likely continues near its latest read. */
  readonly #readahead: Job[] = [];

  /** `readaheadLimit`: maximum compressed bytes of read-ahead in flight, and behind one demanded run. */
  constructor(image: string, origin: string, readaheadLimit: number) {
    this.image = image;
    this.origin = origin;
    this.#readaheadLimit = readaheadLimit;
  }

  get isIdle(): boolean {
    return this.running === 0 && this.#queued.size === 0;
  }

  queued(id: string): Job | undefined {
    return this.#queued.get(id);
  }

  /** Readers wait for these jobs of one device, from one source. Returns the read-ahead that is appended to their requests. */
  pushDemand(jobs: readonly Job[], device: FetchedDevice): Job[] {
    for (const job of jobs) {
      job.isReadahead = false;
      this.#queued.set(job.id, job);
    }
    return planRuns(jobs).flatMap((run) => {
      const { extended, behind } = this.#extendWithReadahead(run, device);
      this.#demand.push(extended);
      return behind;
    });
  }

  /** Returns the job that was dropped to make room, if any. */
  pushReadahead(job: Job): Job | null {
    this.#queued.set(job.id, job);
    this.#readahead.push(job);
    const oldest = this.#readahead.length > MAX_READAHEAD ? this.#readahead.shift()! : null;
    return oldest !== null && this.#isReadahead(oldest) ? oldest : null;
  }

  remove(job: Job): void {
    if (this.#isQueued(job)) this.#queued.delete(job.id);
  }

  /**
   * Removes and returns the next request, without jobs that are under way elsewhere. A request whose size `admits` refuses
   * stays in the queue, with all requests behind it.
   */
  take(admits: (size: number) => boolean, isElsewhere: (job: Job) => boolean): NextRun | null {
    // Searching the queue is not worth it where no request may start.
    if (!admits(0)) return null;
    const next = this.#nextDemand(isElsewhere);
    const run = next ?? this.#nextReadahead(isElsewhere);
    if (run === null || !admits(run.size)) return null;
    if (next !== null) this.#demand.shift();
    for (const job of run.spans) this.#queued.delete(job.id);
    return { run, isReadahead: next === null };
  }

  /** The first run that still has jobs to fetch; it stays in the queue. */
  #nextDemand(isElsewhere: (job: Job) => boolean): Run<Job> | null {
    while (this.#demand.length > 0) {
      const { spans } = this.#demand[0]!;
      const left = spans.filter((job) => this.#isQueued(job) && !isElsewhere(job));
      if (left.length === spans.length) return this.#demand[0]!;
      this.#demand.splice(0, 1, ...planRuns(left));
    }
    return null;
  }

  /** The newest adjacent read-ahead as one request; null when there is none or no room. */
  #nextReadahead(isElsewhere: (job: Job) => boolean): Run<Job> | null {
    const isStale = (job: Job): boolean => !this.#isReadahead(job) || isElsewhere(job);
    while (this.#readahead.length > 0 && isStale(this.#readahead.at(-1)!)) this.#readahead.pop();
    const newest = this.#readahead.at(-1);
    const room = this.#readaheadLimit - this.readaheadInFlight;
    // A job larger than the whole limit is fetched alone.
    if (newest === undefined || (newest.size > room && this.readaheadInFlight > 0)) return null;
    let from = this.#readahead.length;
    while (from > 0 && this.#readahead[from - 1]!.source === newest.source) from -= 1;
    const together = this.#readahead.splice(from).filter((job) => !isStale(job));
    this.#readahead.push(...together);
    return planRuns(together, undefined, room).find(({ spans }) => spans.includes(newest))!;
  }

  /**
   * Appends the queued read-ahead that lies right behind the run, as far as there is room. It needs no request of its own,
   * and the demanded chunks are delivered before it arrives.
   */
  #extendWithReadahead(run: Run<Job>, device: FetchedDevice): { extended: Run<Job>; behind: Job[] } {
    const [first] = run.spans;
    const spans = [...run.spans];
    const most = Math.min(MAX_RUN, run.size + this.#readaheadLimit - this.readaheadInFlight);
    let { size } = run;
    for (let chunk = spans.at(-1)!.chunk + 1; chunk < device.table.length; chunk++) {
      const next = this.#queued.get(identityOf(device, chunk));
      if (next === spans.at(-1)) continue; // another chunk of the same unit
      if (next === undefined || !next.isReadahead || next.source !== first!.source) break;
      const gap = next.offset - (run.offset + size);
      if (gap < 0 || gap > MAX_GAP || size + gap + next.size > most) break;
      next.isReadahead = false;
      spans.push(next);
      size += gap + next.size;
    }
    return { extended: { offset: run.offset, size, spans }, behind: spans.slice(run.spans.length) };
  }

  #isQueued(job: Job): boolean {
    return this.#queued.get(job.id) === job;
  }

  #isReadahead(job: Job): boolean {
    return job.isReadahead && this.#isQueued(job);
  }
}
