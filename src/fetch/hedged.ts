/** Reads one range from several sources: the next source is asked as soon as the ones before it are silent. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Span } from '../blob/planner.ts';
import { LacunaError } from '../errors.ts';
import type { FetchSource, Standing } from './standing.ts';
import { Transfer } from './transfer.ts';

/** Milliseconds between two checks for silent sources. */
const TICK = 100;

export interface HedgedOptions {
  /** Record of silent sources, which this read adds to. */
  readonly standing: Standing;
  /** Milliseconds without progress after which the next source is asked as well. */
  readonly silence: number;
  /** Milliseconds without progress after which a source is given up; after as many in all the next one is asked as well. */
  readonly stall: number;
  readonly signal: AbortSignal;
}

/** The range as one source sent it, unverified. */
export interface Delivery {
  readonly source: FetchSource;
  readonly bytes: Buffer;
}

type Outcome = { readonly transfer: Transfer<Span> } & ({ readonly bytes: Buffer } | { readonly problem: unknown });

export class HedgedRead {
  readonly #span: Span;
  readonly #sources: readonly FetchSource[];
  readonly #options: HedgedOptions;
  readonly #tried = new Set<FetchSource>();
  readonly #running = new Map<Transfer<Span>, Promise<Outcome>>();
  /** When each transfer began, in milliseconds of the monotonic clock. */
  readonly #begun = new WeakMap<Transfer<Span>, number>();
  #problem: unknown = null;

  constructor(span: Span, sources: readonly FetchSource[], options: HedgedOptions) {
    this.#span = span;
    this.#sources = sources;
    this.#options = options;
    options.signal.addEventListener('abort', () => this.#close(), { once: true });
  }

  /**
   * The range from the next source, called again when the last one was wrong; null when no source is left. Throws when the
   * last source failed, and when the signal has fired.
   */
  async next(): Promise<Delivery | null> {
    for (let isReliable = true; ; ) {
      this.#options.signal.throwIfAborted();
      if (isReliable || this.#running.size === 0) this.#askNext();
      if (this.#running.size === 0) break;
      const began = performance.now();
      const outcome = await this.#outcome();
      // A process that was blocked has not seen what arrived meanwhile.
      isReliable = performance.now() - began < 2 * TICK;
      if (outcome === null) continue;
      this.#running.delete(outcome.transfer);
      this.#problem = 'problem' in outcome ? outcome.problem : null;
      if ('bytes' in outcome) return { source: outcome.transfer.source, bytes: outcome.bytes };
    }
    if (this.#problem === null) return null;
    throw this.#problem;
  }

  /** Asks one more source, unless a transfer makes progress and has not taken too long yet. */
  #askNext(): void {
    const { standing, silence, stall } = this.#options;
    const now = performance.now();
    const stuck = [...this.#running.keys()].filter((transfer) => transfer.stuckFor(now) >= silence);
    for (const { source } of stuck) standing.noteSilence(source.origin, now);
    for (const transfer of stuck) if (transfer.stuckFor(now) >= stall) this.#giveUp(transfer);
    // A slow transfer continues, but the next source is asked beside it.
    const slow = [...this.#running.keys()].filter((transfer) => {
      return transfer.stuckFor(now) >= silence || now - this.#begun.get(transfer)! >= stall;
    });
    if (slow.length < this.#running.size) return;
    const source = standing.next(this.#sources, this.#tried, now);
    if (source === null) return;
    this.#tried.add(source);
    const transfer = new Transfer({ ...this.#span, spans: [this.#span] }, source);
    this.#begun.set(transfer, now);
    this.#running.set(transfer, carryOut(transfer));
  }

  /** Null: no transfer has ended within {@link TICK}. */
  async #outcome(): Promise<Outcome | null> {
    const stop = new AbortController();
    const pause = sleep(TICK, null, { signal: stop.signal }).catch(() => null);
    const outcome = await Promise.race([...this.#running.values(), pause]);
    stop.abort();
    return outcome;
  }

  #giveUp(transfer: Transfer<Span>): void {
    this.#running.delete(transfer);
    transfer.abort();
    const seconds = this.#options.stall / 1000;
    const { subject } = transfer.source;
    this.#problem = new LacunaError('TIMEOUT', `no data for ${seconds} s`, { op: 'fetch', subject });
  }

  #close(): void {
    for (const transfer of this.#running.keys()) transfer.abort();
    this.#running.clear();
  }
}

async function carryOut(transfer: Transfer<Span>): Promise<Outcome> {
  try {
    for await (const { bytes } of transfer.spans(() => {})) return { transfer, bytes };
    throw new LacunaError('SIZE_MISMATCH', 'the source sent fewer bytes than requested', {
      op: 'fetch',
      subject: transfer.source.subject,
    });
  } catch (problem) {
    return { transfer, problem };
  }
}
