/** What devices want, and the downloads that are to bring it. */
import type { Span } from '../blob/planner.ts';
import { type ChunkTable, RECORD_SIZE } from '../blob/table.ts';
import type { UnitTable } from '../blob/units.ts';
import type { FetchSource } from './standing.ts';
import type { Transfer } from './transfer.ts';

/** A device whose chunks are fetched. */
export interface FetchedDevice {
  /** Whose device it is. Budgets are held by images. */
  readonly image: string;
  /** Hex digest of the blob. */
  readonly blob: string;
  readonly table: ChunkTable;
  /** Null when every chunk is stored alone. */
  readonly units: UnitTable | null;
  /** The image's own, tried in turn. */
  readonly sources: readonly FetchSource[];
}

/** A chunk or unit that one device wants, from then until it is in the cache or given up. */
export interface Want {
  /** What it is: equal for all devices that mean the same bytes, see {@link identityOf}. */
  readonly id: string;
  readonly handle: number;
  device: FetchedDevice;
  /** The chunk, or the first wanted one of the unit, in the device's numbering. */
  readonly chunk: number;
  /** Those that readers wait for. */
  readonly chunks: Set<number>;
  /** How often readers asked. */
  misses: number;
  /** When its readers' patience ends, milliseconds of the monotonic clock; null: nobody waits (read-ahead). */
  deadline: number | null;
  /** Sources that were asked in this round, and rounds before. */
  readonly tried: Set<FetchSource>;
  /** Places that were asked for it in this round, by whomever. */
  readonly places: Set<string>;
  rounds: number;
  /** What is to bring it: none while it pauses between two rounds, several when a source is slow. */
  readonly jobs: Set<Job>;
}

/** One download of a chunk or unit, from one source. */
export interface Job extends Span {
  readonly id: string;
  readonly isUnit: boolean;
  readonly source: FetchSource;
  /** The device that made it, and its chunk. */
  readonly handle: number;
  readonly device: FetchedDevice;
  readonly chunk: number;
  /** Of several devices when they meant the same place. */
  readonly wants: Set<Want>;
  isReadahead: boolean;
  /** Since when it has waited for its turn. */
  readonly queuedAt: number;
  /** Null until it is its turn. */
  transfer: Transfer<Job> | null;
}

export const isWaitedFor = (want: Want): want is Want & { deadline: number } => want.deadline !== null;

/** Whether nobody has waited for it so far, nor has it been asked for. */
export const isQueuedReadahead = ({ deadline, jobs }: Want): boolean =>
  deadline === null && [...jobs].every(({ transfer }) => transfer === null);

export function jobOf(want: Want, source: FetchSource, isReadahead: boolean): Job {
  const { id, handle, device, chunk } = want;
  const { table, units } = device;
  const [offset, size] = [table.compressedOffset(chunk), table.compressedSize(chunk)];
  const isUnit = (units?.identityOf(chunk) ?? null) !== null;
  const place = { id, handle, device, chunk, offset, size, isUnit, source };
  const job: Job = { ...place, wants: new Set(), isReadahead, queuedAt: performance.now(), transfer: null };
  link(want, job);
  return job;
}

/** The job is to bring it. */
export function link(want: Want, job: Job): void {
  want.jobs.add(job);
  job.wants.add(want);
}

export function unlink(want: Want, job: Job): void {
  want.jobs.delete(job);
  job.wants.delete(want);
}

export function noteAsked(want: Want, source: FetchSource): void {
  want.tried.add(source);
  want.places.add(source.place);
}

export function forgetAsked(want: Want): void {
  want.tried.clear();
  want.places.clear();
}

/** Readers wait for it now: it is no read-ahead any more, and must not be forgotten like one. */
export function hasten(job: Job): Job {
  job.isReadahead = false;
  return job;
}

/** Milliseconds for which nothing has come of a job. */
export const stuckFor = (job: Job, now: number): number => job.transfer?.stuckFor(now) ?? now - job.queuedAt;

/** What makes a chunk the same chunk: blob and whole record; within a unit, blob and unit. */
export function identityOf({ blob, table, units }: FetchedDevice, chunk: number): string {
  const unit = units?.identityOf(chunk) ?? null;
  if (unit !== null) return blob + unit;
  const at = chunk * RECORD_SIZE;
  return blob + table.bytes.toString('latin1', at, at + RECORD_SIZE);
}

/** All wants, by what and by whom. */
export class Wants {
  readonly #byId = new Map<string, Map<number, Want>>();

  get(id: string, handle: number): Want | undefined {
    return this.#byId.get(id)?.get(handle);
  }

  /** Everybody's of one thing. */
  of(id: string): readonly Want[] {
    return [...(this.#byId.get(id)?.values() ?? [])];
  }

  ofDevice(handle: number): readonly Want[] {
    return [...this].filter((want) => want.handle === handle);
  }

  get size(): number {
    return this.#byId.size;
  }

  *[Symbol.iterator](): Generator<Want> {
    for (const wants of this.#byId.values()) yield* wants.values();
  }

  add(id: string, handle: number, device: FetchedDevice, chunk: number): Want {
    const fresh = { id, handle, device, chunk, chunks: new Set<number>() };
    const asked = { tried: new Set<FetchSource>(), places: new Set<string>() };
    const want: Want = { ...fresh, ...asked, misses: 0, deadline: null, rounds: 0, jobs: new Set() };
    const others = this.#byId.get(id);
    if (others === undefined) this.#byId.set(id, new Map([[handle, want]]));
    else others.set(handle, want);
    return want;
  }

  has(want: Want): boolean {
    return this.get(want.id, want.handle) === want;
  }

  delete({ id, handle }: Want): void {
    const wants = this.#byId.get(id);
    wants?.delete(handle);
    if (wants?.size === 0) this.#byId.delete(id);
  }
}
