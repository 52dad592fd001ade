/**
 * A limit that many holders share and none of them exhausts: a holder may use as much as it leaves free. One greedy holder
 * gets half of it, and n of them leave 1/(n+1) to the next (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory
 * packet switches", 1998). The same rule bounds waiting reads in `native/blobfs/src/parked.rs`.
 */
export class SharedBudget {
  readonly #total: number;
  readonly #held = new Map<string, number>();
  #used = 0;

  constructor(total: number) {
    this.#total = total;
  }

  /** Whether nobody holds anything. */
  get isIdle(): boolean {
    return this.#held.size === 0;
  }

  allows(holder: string, cost: number): boolean {
    return (this.#held.get(holder) ?? 0) + cost <= this.#total - this.#used;
  }

  /** Whether the holder holds nothing and `cost` fits within twice the total: that room is reserved for such holders. */
  allowsFirst(holder: string, cost: number): boolean {
    return !this.#held.has(holder) && this.#used + cost <= 2 * this.#total;
  }

  holds(holder: string): boolean {
    return this.#held.has(holder);
  }

  take(holder: string, cost: number): void {
    this.#used += cost;
    this.#held.set(holder, (this.#held.get(holder) ?? 0) + cost);
  }

  giveBack(holder: string, cost: number): void {
    this.#used -= cost;
    const left = (this.#held.get(holder) ?? 0) - cost;
    if (left > 0) this.#held.set(holder, left);
    else this.#held.delete(holder);
  }
}
