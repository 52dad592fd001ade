/**
 * Which places have fallen silent. A source is trusted by what it delivers: one that lets its readers wait is asked last
 * for a while, so that it costs them its silence once and not with every chunk.
 */
import type { BlobSource } from '../blob/source.ts';

/** One place of a blob, and who answers there. */
export interface FetchSource extends BlobSource {
  /** `host[:port]` of a registry, or the path of a folder: what falls silent as a whole. */
  readonly origin: string;
  /** Where exactly, and how it is reached: what is asked here twice gets the same answer. */
  readonly place: string;
}

/** Milliseconds for which a place is asked last, doubled each time that it is silent again. */
const FIRST_PENALTY = 60_000;
const MAX_PENALTY = 3_600_000;
/** Places that are remembered, the latest ones. */
const MAX_ORIGINS = 1024;

interface Silence {
  readonly penalty: number;
  readonly until: number;
}

/** Times in milliseconds of the monotonic clock. */
export class Standing {
  readonly #silent = new Map<string, Silence>();

  /** A request there got nothing for too long. False when that is known already. */
  noteSilence(origin: string, now: number): boolean {
    const known = this.#silent.get(origin);
    if (known !== undefined && now < known.until) return false;
    const penalty = known === undefined ? FIRST_PENALTY : Math.min(2 * known.penalty, MAX_PENALTY);
    if (this.#silent.size >= MAX_ORIGINS) this.#silent.delete(this.#silent.keys().next().value!);
    this.#silent.delete(origin);
    this.#silent.set(origin, { penalty, until: now + penalty });
    return true;
  }

  /** A chunk came from there, and was right. */
  noteDelivery(origin: string): void {
    this.#silent.delete(origin);
  }

  /** The first of `sources` that is not in `tried`, silent ones last; null when all were tried. */
  next(sources: readonly FetchSource[], tried: ReadonlySet<FetchSource>, now: number): FetchSource | null {
    const left = sources.filter((source) => !tried.has(source));
    return left.find(({ origin }) => !this.#isSilent(origin, now)) ?? left[0] ?? null;
  }

  #isSilent(origin: string, now: number): boolean {
    const known = this.#silent.get(origin);
    return known !== undefined && now < known.until;
  }
}
