/** Sources of reusable chunks: the image refers to them instead of storing them again. */
import { DIGEST_SIZE } from '../blob/table.ts';
import { type ByteString, byteString, type FileChunk } from '../tree/node.ts';
import type { BlobChunks } from './blob-chunks.ts';
import type { DedupSource } from './chunks.ts';

/** The chunks of layers that lie below others, the lowest first. */
export class LowerChunks implements DedupSource {
  readonly #layers: BlobChunks[] = [];

  add(chunks: BlobChunks): void {
    if (chunks.length > 0) this.#layers.push(chunks);
  }

  /** Layers that have chunks. */
  get layers(): number {
    return this.#layers.length;
  }

  /** The lowest layer's chunk with this digest. */
  find(digest: Buffer): FileChunk | null {
    for (const layer of this.#layers) {
      const index = layer.find(digest);
      if (index !== null) return layer.chunk(index);
    }
    return null;
  }

  async lookup(digests: Buffer): Promise<ReadonlyMap<ByteString, FileChunk>> {
    const matches = new Map<ByteString, FileChunk>();
    if (this.#layers.length === 0) return matches;
    for (let at = 0; at < digests.length; at += DIGEST_SIZE) {
      const digest = digests.subarray(at, at + DIGEST_SIZE);
      const chunk = this.find(digest);
      if (chunk !== null) matches.set(byteString(digest), chunk);
    }
    return matches;
  }
}

/** All of `sources`, the first one that has a chunk wins. */
export function firstOf(sources: readonly DedupSource[]): DedupSource {
  return {
    async lookup(digests) {
      const matches = await Promise.all(sources.map((source) => source.lookup(digests)));
      return new Map(matches.reverse().flatMap((chunks) => [...chunks]));
    },
  };
}
