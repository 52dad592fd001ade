/** Budgets of requests and memory that all images share, and how much of them one image may use. */
import { SharedBudget } from './budget.ts';
import type { Lane } from './lane.ts';

export interface FetchLimits {
  /** Maximum concurrent requests of one image to one origin. */
  readonly connections: number;
  /** Maximum concurrent requests to one origin, and in all. An image uses at most as many as it leaves free. */
  readonly originConnections: number;
  readonly totalConnections: number;
  /**
   * Maximum bytes requested and not yet in the cache. An image uses at most as many as it leaves free; the first request of
   * an image that holds none may exceed the maximum, up to twice as much in all.
   */
  readonly memory: number;
}

export interface FetchRound {
  /** Whether the lane may start one more request of `size` bytes. */
  allows(lane: Lane, size: number): boolean;
}

export class FetchBudgets {
  readonly #limits: FetchLimits;
  readonly #requests: SharedBudget;
  readonly #memory: SharedBudget;
  /** Requests, by origin. */
  readonly #origins = new Map<string, SharedBudget>();

  constructor(limits: FetchLimits) {
    this.#limits = limits;
    this.#requests = new SharedBudget(limits.totalConnections);
    this.#memory = new SharedBudget(limits.memory);
  }

  /** One pass over the lanes that wait, the one that has waited longest first. */
  round(): FetchRound {
    // Lanes behind an image that holds no memory and does not fit must wait, or many small requests would starve it.
    let isMemoryOwed = false;
    const allowsMemory = (image: string, size: number): boolean => {
      if (isMemoryOwed) return false;
      if (this.#memory.allows(image, size) || this.#memory.allowsFirst(image, size)) return true;
      isMemoryOwed = !this.#memory.holds(image);
      return false;
    };
    return {
      allows: ({ image, origin, running }, size) =>
        running < this.#limits.connections &&
        this.#requests.allows(image, 1) &&
        (this.#origins.get(origin)?.allows(image, 1) ?? true) &&
        allowsMemory(image, size),
    };
  }

  take(lane: Lane, size: number): void {
    const { image, origin } = lane;
    lane.running += 1;
    this.#requests.take(image, 1);
    this.#memory.take(image, size);
    const budget = this.#origins.get(origin) ?? new SharedBudget(this.#limits.originConnections);
    this.#origins.set(origin, budget);
    budget.take(image, 1);
  }

  giveBack(lane: Lane, size: number): void {
    const { image, origin } = lane;
    lane.running -= 1;
    this.#requests.giveBack(image, 1);
    this.#memory.giveBack(image, size);
    const budget = this.#origins.get(origin)!;
    budget.giveBack(image, 1);
    if (budget.isIdle) this.#origins.delete(origin);
  }
}
