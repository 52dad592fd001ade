/**
 * The chunk pipeline of one layer: hash, leave out reusable chunks, compress, append. Batches overlap in the native
 * threads; what decides bytes (which chunk is new, where it lies) happens here in batch order, so that the blob is the
 * same whatever the thread count.
 */
import { DIGEST_SIZE } from '../blob/table.ts';
import type { Addon, CompressResult, Sha256Stream } from '../native/addon.ts';
import { type ByteString, byteString, type FileChunk } from '../tree/node.ts';
import { Batches, OpenBatch } from './batches.ts';
import { BlobChunks } from './blob-chunks.ts';
import type { LayerOptions } from './options.ts';
import type { LayerSink } from './read-layer.ts';
import type { Piece, Ring, Slot } from './ring.ts';

/** Where a blob's bytes go. `data` may be reused once the promise resolved. */
export type Append = (data: Buffer) => Promise<void>;

/** Chunks that lie in other blobs and may be referred to. Asked once per batch. */
export interface DedupSource {
  /**
   * `digests`: {@link DIGEST_SIZE} bytes each, back to back. Reusable chunks by digest; a chunk of another size
   * does not count.
   */
  lookup(digests: Buffer): Promise<ReadonlyMap<ByteString, FileChunk>>;
}

export interface PipelineTotals {
  /** Chunks of all files, and their plain bytes. */
  readonly chunks: number;
  readonly bytes: number;
  /** Of those, reused chunks, and their plain bytes. */
  readonly reusedChunks: number;
  readonly reusedBytes: number;
}

/** Bytes that are compressed with one call: chunks that are stored alone, or a whole batch of small ones. */
interface Segment {
  readonly input: Buffer;
  readonly output: Buffer;
  /** Plain bytes in all, which is how much of {@link output} is needed. */
  size: number;
  /** Offset and length in {@link input} of what is stored one by one. */
  readonly ranges: number[];
  /** Their indexes in the blob; of a batch, itself. */
  readonly stored: readonly number[] | OpenBatch;
}

export class ChunkPipeline implements LayerSink {
  readonly #addon: Addon;
  readonly #options: LayerOptions;
  readonly #ring: Ring;
  readonly #hasher: Sha256Stream;
  readonly #append: Append;
  readonly #reusableChunks: DedupSource;
  readonly #chunks: BlobChunks;
  readonly #batches: Batches;
  #storedEnd = 0;
  #totals = { chunks: 0, bytes: 0, reusedChunks: 0, reusedBytes: 0 };
  #planned: Promise<unknown> = Promise.resolve();
  #appended: Promise<unknown> = Promise.resolve();

  constructor(
    addon: Addon,
    options: LayerOptions,
    ring: Ring,
    hasher: Sha256Stream,
    append: Append,
    reusableChunks: DedupSource,
  ) {
    this.#addon = addon;
    this.#options = options;
    this.#ring = ring;
    this.#hasher = hasher;
    this.#append = append;
    this.#reusableChunks = reusableChunks;
    this.#chunks = new BlobChunks(options.digester, options.compressor);
    this.#batches = new Batches(options.batchSize);
  }

  /** Takes a batch over; its slot goes back to the ring when the batch is written. */
  add(slot: Slot, pieces: readonly Piece[]): void {
    const ranges = new Uint32Array(pieces.flatMap((piece) => [piece.offset, piece.length]));
    const hashed = this.#addon.hashChunks(slot.input, ranges, this.#options.digester);
    const reusable = hashed.then((digests) => this.#reusableChunks.lookup(digests));
    const planned = Promise.all([hashed, reusable, this.#planned]).then(([digests, matches]) =>
      this.#plan(slot, digests, matches, pieces),
    );
    this.#store(planned, () => this.#ring.give(slot));
  }

  addMade(slot: Slot, pieces: readonly Piece[]): void {
    this.add(slot, pieces);
  }

  /** Waits for everything that was added. The chunks of this blob, which does not know its id yet. */
  async finish(): Promise<{ chunks: BlobChunks; storedSize: number; totals: PipelineTotals }> {
    const last = this.#planned.then(() => {
      const batch = this.#batches.take();
      return batch === null ? [] : [batchSegment(batch)];
    });
    this.#store(last, () => {});
    await this.#appended;
    return { chunks: this.#chunks, storedSize: this.#storedEnd, totals: this.#totals };
  }

  /** Compresses what is planned and writes it when everything before has been written. */
  #store(planned: Promise<Segment[]>, done: () => void): void {
    const { compressor, level } = this.#options;
    const compressed = planned.then((segments) =>
      Promise.all(
        segments.map(({ input, ranges, output, size }) =>
          this.#addon.compressChunks(input, new Uint32Array(ranges), output.subarray(0, size), compressor, level),
        ),
      ),
    );
    const written = Promise.all([planned, compressed, this.#appended]).then(async ([segments, results]) => {
      for (const [i, segment] of segments.entries()) await this.#write(segment, results[i]!);
    });
    this.#planned = planned;
    this.#appended = written.then(done, (error) => {
      this.#ring.fail(error);
      throw error;
    });
    this.#appended.catch(() => {}); // finish() reports it
  }

  #plan(slot: Slot, digests: Buffer, others: ReadonlyMap<ByteString, FileChunk>, pieces: readonly Piece[]): Segment[] {
    const segments: Segment[] = [];
    let alone: (Segment & { stored: number[] }) | null = null;
    let used = 0;
    for (const [i, piece] of pieces.entries()) {
      const digest = digests.subarray(i * DIGEST_SIZE, (i + 1) * DIGEST_SIZE);
      const isKnown = this.#refer(piece, digest, others);
      this.#count(piece, isKnown ? piece.count : piece.count - 1);
      if (isKnown) continue;
      const index = this.#chunks.add(digest, piece.length);
      piece.node.addOwnChunk(this.#chunks, index, piece.count);
      const data = slot.input.subarray(piece.offset, piece.offset + piece.length);
      const isMember = piece.node.size === piece.length && this.#batches.takes(piece.length);
      // A chunk that is stored alone ends a batch, and a batch ends a run of such chunks.
      const full = isMember ? this.#batches.makeRoom(piece.length) : this.#batches.take();
      if (full !== null) segments.push(batchSegment(full));
      if (isMember) {
        if (this.#batches.isEmpty) alone = null;
        this.#batches.add(this.#chunks, index, data, this.#addon.crc32c(data));
        continue;
      }
      if (alone === null) {
        alone = { input: slot.input, output: slot.output.subarray(used), size: 0, ranges: [], stored: [] };
        segments.push(alone);
      }
      alone.ranges.push(piece.offset, piece.length);
      alone.stored.push(index);
      alone.size += piece.length;
      used += piece.length;
    }
    return segments;
  }

  #count({ length, count }: Piece, reused: number): void {
    this.#totals.chunks += count;
    this.#totals.bytes += count * length;
    this.#totals.reusedChunks += reused;
    this.#totals.reusedBytes += reused * length;
  }

  /** Gives the file a reusable chunk, if there is one: of another blob first. */
  #refer({ node, length, count }: Piece, digest: Buffer, others: ReadonlyMap<ByteString, FileChunk>): boolean {
    const other = others.size === 0 ? undefined : others.get(byteString(digest));
    if (other !== undefined) {
      if (other.uncompressedSize !== length) return false;
      node.addChunk(other, count);
      return true;
    }
    const own = this.#chunks.find(digest);
    if (own === null || this.#chunks.chunk(own).uncompressedSize !== length) return false;
    node.addOwnChunk(this.#chunks, own, count);
    return true;
  }

  async #write({ stored, output }: Segment, { length, records }: CompressResult): Promise<void> {
    if (stored instanceof OpenBatch) {
      stored.close(this.#storedEnd, length, records[1] === 1 ? this.#options.compressor : 0);
      this.#storedEnd += length;
    } else {
      for (const [i, index] of stored.entries()) {
        const size = records[i * 3]!;
        this.#chunks.place(index, this.#storedEnd, size, records[i * 3 + 1] === 1, records[i * 3 + 2]!);
        this.#storedEnd += size;
      }
    }
    if (length === 0) return;
    await Promise.all([this.#hasher.update(output, length), this.#append(output.subarray(0, length))]);
  }
}

const batchSegment = (batch: OpenBatch): Segment => ({
  input: batch.data,
  output: Buffer.allocUnsafeSlow(batch.size),
  size: batch.size,
  ranges: [0, batch.size],
  stored: batch,
});
