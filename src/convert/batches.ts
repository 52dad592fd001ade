/** Small files that are compressed together, by the rules of Nydus (builder/src/core/node.rs, "batch"). */
import type { Compressor } from '../native/addon.ts';
import type { BlobChunks, UnitDraft } from './blob-chunks.ts';

/** The batch that is being filled. */
export class OpenBatch {
  readonly data: Buffer;
  /** Bytes of {@link data} in use. */
  size = 0;
  /** Its number among the blob's units. */
  readonly number: number;
  readonly #unit: UnitDraft;

  constructor(capacity: number, chunks: BlobChunks) {
    this.data = Buffer.allocUnsafeSlow(capacity);
    this.#unit = { compressedOffset: 0, compressedSize: 0, size: 0, decoder: { kind: 'batch', compressor: 0 } };
    this.number = chunks.addUnit(this.#unit);
  }

  /** It was written: its place, and how it is compressed. */
  close(offset: number, storedSize: number, compressor: Compressor): void {
    this.#unit.compressedOffset = offset;
    this.#unit.compressedSize = storedSize;
    this.#unit.size = this.size;
    this.#unit.decoder = { kind: 'batch', compressor };
  }
}

export class Batches {
  /** Bytes; 0 = there are none. */
  readonly #size: number;
  #open: OpenBatch | null = null;

  constructor(size: number) {
    this.#size = size;
  }

  get isEmpty(): boolean {
    return this.#open === null;
  }

  /** Whether a file of one chunk of this size goes into a batch. */
  takes(size: number): boolean {
    return size < this.#size / 2;
  }

  /** The batch that is to be written because the next file would fill it, else null. */
  makeRoom(size: number): OpenBatch | null {
    return this.#open !== null && this.#open.size + size >= this.#size ? this.take() : null;
  }

  /** Ends the batch, if there is one. */
  take(): OpenBatch | null {
    const batch = this.#open;
    this.#open = null;
    return batch;
  }

  /** Adds a chunk for which there is room; `data` is copied. */
  add(chunks: BlobChunks, index: number, data: Buffer, crc32c: number): void {
    this.#open ??= new OpenBatch(this.#size, chunks);
    const batch = this.#open;
    chunks.placeWithin(index, batch.number, batch.size, crc32c);
    batch.size += data.copy(batch.data, batch.size);
  }
}
