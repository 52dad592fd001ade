/**
 * What one image has to ask of one place, in which order: what readers wait for first, then read-ahead. Images and places
 * have lanes of their own, so that nobody's demand queues behind another's silence.
 */
import { MAX_GAP, MAX_RUN, planRuns, type Run } from '../blob/planner.ts';
import { type FetchedDevice, identityOf, type Job } from './want.ts';

/** Chunks of read-ahead that a lane remembers; beyond it the oldest ones are forgotten. */
export const MAX_READAHEAD = 4096;

export interface NextRun {
  readonly run: Run<Job>;
  readonly isReadahead: boolean;
}

export class Lane {
  readonly image: string;
  /** Of the place: several places may share its budget. */
  readonly origin: string;
  /** Requests under way, and the bytes of those that are read-ahead. */
  running = 0;
  readaheadInFlight = 0;
  readonly #readaheadLimit: number;
  /** Jobs that wait for their turn; entries of the two lists that are not here are stale. */
  readonly #queued = new Map<string, Job>();
  readonly #demand: Run<Job>[] = [];
  /** Newest last: what was wanted last is most likely to be read on. */
  readonly #readahead: Job[] = [];

  /** `readaheadLimit`: maximum compressed bytes of read-ahead in flight, and behind one wanted run. */
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

  /** Readers wait for these jobs of one device, from one source. Gives the read-ahead that goes along. */
  pushDemand(jobs: readonly Job[], device: FetchedDevice): Job[] {
    for (const job of jobs) {
      job.isReadahead = false;
      this.#queued.set(job.id, job);
    }
    return planRuns(jobs).flatMap((run) => {
      const { extended, behind } = this.#extend(run, device);
      this.#demand.push(extended);
      return behind;
    });
  }

  /** Gives the job that has to be forgotten for it, if any. */
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
   * Takes the next request out: what `isElsewhere` says is under way already is left out, and one whose size `admits`
   * refuses stays, with all behind it.
   */
  take(admits: (size: number) => boolean, isElsewhere: (job: Job) => boolean): NextRun | null {
    // Looking through what waits is not worth it where nothing could begin.
    if (!admits(0)) return null;
    const next = this.#nextDemand(isElsewhere);
    const run = next ?? this.#nextReadahead(isElsewhere);
    if (run === null || !admits(run.size)) return null;
    if (next !== null) this.#demand.shift();
    for (const job of run.spans) this.#queued.delete(job.id);
    return { run, isReadahead: next === null };
  }

  /** The first run that still has something to fetch; it stays where it is. */
  #nextDemand(isElsewhere: (job: Job) => boolean): Run<Job> | null {
    while (this.#demand.length > 0) {
      const { spans } = this.#demand[0]!;
      const left = spans.filter((job) => this.#isQueued(job) && !isElsewhere(job));
      if (left.length === spans.length) return this.#demand[0]!;
      this.#demand.splice(0, 1, ...planRuns(left));
    }
    return null;
  }

  /** The newest read-ahead that lies together, as one request; null when there is none or no room. */
  #nextReadahead(isElsewhere: (job: Job) => boolean): Run<Job> | null {
    const isStale = (job: Job): boolean => !this.#isReadahead(job) || isElsewhere(job);
    while (this.#readahead.length > 0 && isStale(this.#readahead.at(-1)!)) this.#readahead.pop();
    const newest = this.#readahead.at(-1);
    const room = this.#readaheadLimit - this.readaheadInFlight;
    // One that is larger than all the room there can be goes alone.
    if (newest === undefined || (newest.size > room && this.readaheadInFlight > 0)) return null;
    let from = this.#readahead.length;
    while (from > 0 && this.#readahead[from - 1]!.source === newest.source) from -= 1;
    const together = this.#readahead.splice(from).filter((job) => !isStale(job));
    this.#readahead.push(...together);
    return planRuns(together, undefined, room).find(({ spans }) => spans.includes(newest))!;
  }

  /**
   * The run with the queued read-ahead that lies right behind it, as far as there is room: it arrives without a request of
   * its own, and what is waited for is delivered before it is there.
   */
  #extend(run: Run<Job>, device: FetchedDevice): { extended: Run<Job>; behind: Job[] } {
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
