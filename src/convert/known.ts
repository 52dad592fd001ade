/** Chunks that are somewhere already and may be referred to instead of being stored again. */
import { DIGEST_SIZE } from '../blob/table.ts';
import { type ByteString, byteString, type FileChunk } from '../tree/node.ts';
import type { KnownChunks } from './chunks.ts';

/** The chunks of the layers below. */
export class LowerChunks implements KnownChunks {
  readonly #chunks = new Map<ByteString, FileChunk>();

  add(chunks: readonly FileChunk[]): void {
    for (const chunk of chunks) this.#chunks.set(byteString(chunk.digest), chunk);
  }

  async lookup(digests: Buffer): Promise<ReadonlyMap<ByteString, FileChunk>> {
    const found = new Map<ByteString, FileChunk>();
    if (this.#chunks.size === 0) return found;
    for (let at = 0; at < digests.length; at += DIGEST_SIZE) {
      const key = byteString(digests.subarray(at, at + DIGEST_SIZE));
      const chunk = this.#chunks.get(key);
      if (chunk !== undefined) found.set(key, chunk);
    }
    return found;
  }
}

/** All of `sources`, the first one that knows a chunk wins. */
export function firstKnown(sources: readonly KnownChunks[]): KnownChunks {
  return {
    async lookup(digests) {
      const found = await Promise.all(sources.map((source) => source.lookup(digests)));
      return new Map(found.reverse().flatMap((chunks) => [...chunks]));
    },
  };
}
