/**
 * The chunk pipeline of one layer: hash, leave out what is known, compress, append. Batches overlap in the native
 * threads; what decides bytes (which chunk is new, where it lies) happens here in batch order, so that the blob is the
 * same whatever the thread count.
 */
import type { Addon, Sha256Stream } from '../native/addon.ts';
import { type ByteString, byteString, type FileChunk, type FileNode } from '../tree/node.ts';
import type { LayerOptions } from './options.ts';
import type { Ring, Slot } from './ring.ts';

/** Blob devices are addressed in blocks of this size. */
const BLOCK = 4096;

/** Bytes of a chunk's digest, BLAKE3 or SHA-256. */
export const DIGEST_SIZE = 32;

/** Where a blob's bytes go. `data` may be reused once the promise resolved. */
export type Append = (data: Buffer) => Promise<void>;

/** A chunk whose place and blob become known as the blob grows. */
export type Draft = { -readonly [K in keyof FileChunk]: FileChunk[K] };

/** A piece of file content in a batch's input buffer. */
export interface Piece {
  readonly node: FileNode & { chunks: FileChunk[] };
  readonly offset: number;
  readonly length: number;
}

/** Chunks that lie in other blobs and may be referred to. Asked once per batch. */
export interface KnownChunks {
  /** `digests`: {@link DIGEST_SIZE} bytes each, back to back. Those that are known, by digest; a chunk of another size does not count. */
  lookup(digests: Buffer): Promise<ReadonlyMap<ByteString, FileChunk>>;
}

export interface PipelineTotals {
  /** Chunks of all files, and their plain bytes. */
  readonly chunks: number;
  readonly bytes: number;
  /** Of those, chunks that were already known, and their plain bytes. */
  readonly reusedChunks: number;
  readonly reusedBytes: number;
}

export class ChunkPipeline {
  readonly #addon: Addon;
  readonly #options: LayerOptions;
  readonly #ring: Ring;
  readonly #hasher: Sha256Stream;
  readonly #append: Append;
  readonly #known: KnownChunks;
  /** Digest → chunk of this blob. */
  readonly #own = new Map<ByteString, FileChunk>();
  readonly #drafts: Draft[] = [];
  #plainEnd = 0;
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
    known: KnownChunks,
  ) {
    this.#addon = addon;
    this.#options = options;
    this.#ring = ring;
    this.#hasher = hasher;
    this.#append = append;
    this.#known = known;
  }

  /** Takes a batch over; its slot goes back to the ring when the batch is written. */
  add(slot: Slot, pieces: readonly Piece[]): void {
    const ranges = new Uint32Array(pieces.flatMap((piece) => [piece.offset, piece.length]));
    const hashed = this.#addon.hashChunks(slot.input, ranges, this.#options.digester);
    const found = hashed.then((digests) => this.#known.lookup(digests));
    const planned = Promise.all([hashed, found, this.#planned]).then(([digests, known]) =>
      this.#plan(digests, known, pieces),
    );
    const compressed = planned.then((fresh) => this.#compress(slot, fresh));
    const written = Promise.all([planned, compressed, this.#appended]).then(([fresh, result]) =>
      this.#write(slot, fresh, result),
    );
    this.#planned = planned;
    this.#appended = written.then(
      () => this.#ring.give(slot),
      (error) => {
        this.#ring.fail(error);
        throw error;
      },
    );
    this.#appended.catch(() => {}); // finish() reports it
  }

  /** Waits for everything that was added. The chunks of this blob in order, still without the blob's id. */
  async finish(): Promise<{ drafts: readonly Draft[]; storedSize: number; totals: PipelineTotals }> {
    await this.#appended;
    return { drafts: this.#drafts, storedSize: this.#storedEnd, totals: this.#totals };
  }

  #plan(
    digests: Buffer,
    others: ReadonlyMap<ByteString, FileChunk>,
    pieces: readonly Piece[],
  ): { draft: Draft; piece: Piece }[] {
    const fresh: { draft: Draft; piece: Piece }[] = [];
    for (const [index, piece] of pieces.entries()) {
      const digest = digests.subarray(index * DIGEST_SIZE, (index + 1) * DIGEST_SIZE);
      const key = byteString(digest);
      this.#totals.chunks += 1;
      this.#totals.bytes += piece.length;
      const known = others.get(key) ?? this.#own.get(key);
      if (known !== undefined && known.uncompressedSize === piece.length) {
        piece.node.chunks.push(known);
        this.#totals.reusedChunks += 1;
        this.#totals.reusedBytes += piece.length;
        continue;
      }
      const draft = this.#draft(Buffer.from(digest), piece.length);
      this.#own.set(key, draft);
      piece.node.chunks.push(draft);
      fresh.push({ draft, piece });
    }
    return fresh;
  }

  #draft(digest: Buffer, length: number): Draft {
    const draft: Draft = {
      uncompressedOffset: this.#plainEnd,
      uncompressedSize: length,
      compressedOffset: 0,
      compressedSize: 0,
      compressor: 0,
      digester: this.#options.digester,
      digest,
      blob: '',
      index: this.#drafts.length,
      crc32c: null,
      within: null,
    };
    this.#plainEnd += Math.ceil(length / BLOCK) * BLOCK;
    this.#drafts.push(draft);
    return draft;
  }

  #compress(slot: Slot, fresh: readonly { piece: Piece }[]) {
    const ranges = new Uint32Array(fresh.flatMap(({ piece }) => [piece.offset, piece.length]));
    const { compressor, level } = this.#options;
    return this.#addon.compressChunks(slot.input, ranges, slot.output, compressor, level);
  }

  async #write(
    slot: Slot,
    fresh: readonly { draft: Draft }[],
    result: { length: number; records: Uint32Array },
  ): Promise<void> {
    for (const [index, { draft }] of fresh.entries()) {
      draft.compressedOffset = this.#storedEnd;
      draft.compressedSize = result.records[index * 3]!;
      draft.compressor = result.records[index * 3 + 1] === 1 ? this.#options.compressor : 0;
      draft.crc32c = result.records[index * 3 + 2]!;
      this.#storedEnd += draft.compressedSize;
    }
    if (result.length === 0) return;
    await Promise.all([
      this.#hasher.update(slot.output, result.length),
      this.#append(slot.output.subarray(0, result.length)),
    ]);
  }
}
