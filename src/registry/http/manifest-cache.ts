/** Cache of the last manifests, so that resolving a tag and reading its manifest is one request. */

const MAX_BYTES = 4 * 1024 * 1024;

export class ManifestCache {
  readonly #entries = new Map<string, Buffer>();
  #size = 0;

  get(digest: string): Buffer | null {
    return this.#entries.get(digest) ?? null;
  }

  /** Adds `bytes`, which must hash to `digest`, and evicts the oldest entries. */
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
