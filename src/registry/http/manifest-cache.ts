/** The manifests read last, so that resolving a tag and reading what it names is one request. */

const MAX_BYTES = 4 * 1024 * 1024;

export class ManifestCache {
  readonly #entries = new Map<string, Buffer>();
  #size = 0;

  get(digest: string): Buffer | null {
    return this.#entries.get(digest) ?? null;
  }

  /** Keeps `bytes`, which must hash to `digest`, and lets the oldest go. */
  put(digest: string, bytes: Buffer): void {
    if (this.#entries.has(digest) || bytes.length > MAX_BYTES) return;
    this.#entries.set(digest, bytes);
    this.#size += bytes.length;
    for (const [oldest, old] of this.#entries) {
      if (this.#size <= MAX_BYTES) return;
      this.#entries.delete(oldest);
      this.#size -= old.length;
    }
  }
}
