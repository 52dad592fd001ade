/**
 * Record of origins that have fallen silent. A silent source is asked last for a while, so that readers wait for its
 * silence once and not with every chunk.
 */
import type { BlobSource } from '../blob/source.ts';

/** One place that holds a blob, and its origin. */
export interface FetchSource extends BlobSource {
  /** `host[:port]` of a registry, or the path of a folder: the unit that falls silent as a whole. */
  readonly origin: string;
  /** Exact place and how it is reached: equal places give equal answers. */
  readonly place: string;
}

/** Milliseconds for which an origin is asked last, doubled each time that it is silent again. */
const FIRST_PENALTY = 60_000;
const MAX_PENALTY = 3_600_000;
/** Maximum origins that are remembered; the oldest are dropped. */
const MAX_ORIGINS = 1024;

interface Silence {
  readonly penalty: number;
  readonly until: number;
}

/** Times in milliseconds of the monotonic clock. */
export class Standing {
  readonly #silent = new Map<string, Silence>();

  /** Notes that a request there made no progress for too long. False when the origin counts as silent already. */
  noteSilence(origin: string, now: number): boolean {
    const silence = this.#silent.get(origin);
    if (silence !== undefined && now < silence.until) return false;
    const penalty = silence === undefined ? FIRST_PENALTY : Math.min(2 * silence.penalty, MAX_PENALTY);
    if (this.#silent.size >= MAX_ORIGINS) this.#silent.delete(this.#silent.keys().next().value!);
    this.#silent.delete(origin);
    this.#silent.set(origin, { penalty, until: now + penalty });
    return true;
  }

  /** Notes that a chunk from there was verified. */
  noteDelivery(origin: string): void {
    this.#silent.delete(origin);
  }

  /** The first of `sources` that is not in `tried`, silent ones last; null when all were tried. */
  next(sources: readonly FetchSource[], tried: ReadonlySet<FetchSource>, now: number): FetchSource | null {
    const left = sources.filter((source) => !tried.has(source));
    return left.find(({ origin }) => !this.#isSilent(origin, now)) ?? left[0] ?? null;
  }

  #isSilent(origin: string, now: number): boolean {
    const silence = this.#silent.get(origin);
    return silence !== undefined && now < silence.until;
  }
}
