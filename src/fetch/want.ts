/** Demand of devices for chunks and units, and the downloads that serve it. */
import type { Span } from '../blob/planner.ts';
import { type ChunkTable, RECORD_SIZE } from '../blob/table.ts';
import type { UnitTable } from '../blob/units.ts';
import type { FetchSource } from './standing.ts';
import type { Transfer } from './transfer.ts';

/** A device whose chunks are fetched. */
export interface FetchedDevice {
  /** The image that the device belongs to. Images hold the budgets. */
  readonly image: string;
  /** Hex digest of the blob. */
  readonly blob: string;
  readonly table: ChunkTable;
  /** Null when every chunk is stored alone. */
  readonly units: UnitTable | null;
  /** The image's own sources, tried in turn. */
  readonly sources: readonly FetchSource[];
}

/** One device's demand for a chunk or unit, until that is in the cache or given up. */
export interface Want {
  /** Identity of the bytes: equal for all devices that mean the same ones, see {@link identityOf}. */
  readonly id: string;
  readonly handle: number;
  device: FetchedDevice;
  /** Index of the chunk, or of the first demanded chunk of the unit, in the device's table. */
  readonly chunk: number;
  /** Indexes of chunks that readers wait for. */
  readonly chunks: Set<number>;
  /** Number of misses. */
  misses: number;
  /** When its reads fail, in milliseconds of the monotonic clock; null: no reader waits (read-ahead). */
  deadline: number | null;
  /** Sources that were asked in this round. */
  readonly tried: Set<FetchSource>;
  /** Places that were asked for it in this round, by any device. */
  readonly places: Set<string>;
  /** Earlier rounds. */
  rounds: number;
  /** Downloads of it: none during a pause between two rounds, several when a source is slow. */
  readonly jobs: Set<Job>;
}

/** One download of a chunk or unit, from one source. */
export interface Job extends Span {
  readonly id: string;
  readonly isUnit: boolean;
  readonly source: FetchSource;
  /** The device that created the job, and its chunk. */
  readonly handle: number;
  readonly device: FetchedDevice;
  readonly chunk: number;
  /** Wants of several devices where they share the download. */
  readonly wants: Set<Want>;
  isReadahead: boolean;
  /** When it was queued, in milliseconds of the monotonic clock. */
  readonly queuedAt: number;
  /** Null while it is queued. */
  transfer: Transfer<Job> | null;
}

export const isWaitedFor = (want: Want): want is Want & { deadline: number } => want.deadline !== null;

/** Whether it is read-ahead that was not requested yet. */
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

/** Lets the want share the job. */
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

/** Turns read-ahead into demand, which is never dropped. */
export function promote(job: Job): Job {
  job.isReadahead = false;
  return job;
}

/** Milliseconds for which a job has made no progress. */
export const stuckFor = (job: Job, now: number): number => job.transfer?.stuckFor(now) ?? now - job.queuedAt;

/** Identity of a chunk across devices: blob and whole record; within a unit, blob and unit. */
export function identityOf({ blob, table, units }: FetchedDevice, chunk: number): string {
  const unit = units?.identityOf(chunk) ?? null;
  if (unit !== null) return blob + unit;
  const at = chunk * RECORD_SIZE;
  return blob + table.bytes.toString('latin1', at, at + RECORD_SIZE);
}

/** All wants, by identity and device. */
export class Wants {
  readonly #byId = new Map<string, Map<number, Want>>();

  get(id: string, handle: number): Want | undefined {
    return this.#byId.get(id)?.get(handle);
  }

  /** All devices' wants of one chunk or unit. */
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
    const request = { tried: new Set<FetchSource>(), places: new Set<string>() };
    const want: Want = { ...fresh, ...request, misses: 0, deadline: null, rounds: 0, jobs: new Set() };
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
