/**
 * Index of one gzip layer that stays the data of a lazy image (Nydus's zran): the place of each chunk in it. The
 * layer is read once; none of its bytes is written anywhere.
 */
import { DIGEST_SIZE } from '../blob/table.ts';
import { LacunaError } from '../errors.ts';
import { zranBlob } from '../formats/rafs/blob-end.ts';
import { parseDigest } from '../image/digest.ts';
import type { LayerCompression } from '../image/media.ts';
import { type Addon, addon, type LayerStream } from '../native/addon.ts';
import { BlobChunks, type UnitDraft } from './blob-chunks.ts';
import type { PipelineTotals } from './chunks.ts';
import type { ConvertedLayer, LayerWork } from './layer.ts';
import type { LayerOptions } from './options.ts';
import { type LayerInput, type LayerSink, readLayer, ringFor } from './read-layer.ts';
import type { Piece, Ring, Slot } from './ring.ts';
import { SpanIndex } from './spans.ts';

export type IndexWork = Pick<LayerWork, 'options' | 'budget' | 'signal' | 'onRead'>;

/**
 * Makes the index of a layer. UNSUPPORTED for one that is not gzip; null for one with sparse files, whose chunks do not
 * lie in it as they are.
 */
export async function indexLayer(
  input: LayerInput,
  { options, budget, signal, onRead }: IndexWork,
): Promise<ConvertedLayer | null> {
  const { algorithm, hex: id } = parseDigest(input.digest);
  if (algorithm !== 'sha256') {
    throw cannotRefer(input.subject, `the layer is named by its ${algorithm}, and RAFS names blobs by their sha256`);
  }
  const ring = ringFor(options.chunkSize);
  const sink = new ZranSink(addon(), options, ring, input.subject);
  const reading = { decoder: gzipIndexer(input.subject), chunkSize: options.chunkSize, budget, signal, onRead };
  const read = await readLayer(input, reading, ring, sink).catch((error: unknown) => {
    if (error instanceof SparseFile) return null;
    throw error;
  });
  if (read === null) return null;
  const { tree } = read;
  const { chunks, units, totals } = await sink.finish();
  if (chunks.length === 0) {
    return { tree, blob: null, meta: Buffer.alloc(0), metaBlob: null, chunks, totals };
  }
  const { blob, meta, metaBlob } = zranBlob(chunks, units, input.size, options);
  chunks.blob = id;
  return { tree, blob: { ...blob, id }, meta, metaBlob, chunks, totals };
}

const gzipIndexer =
  (subject: string) =>
  (compression: LayerCompression): 'indexed-gzip' => {
    if (compression === 'gzip') return 'indexed-gzip';
    const what = compression === 'none' ? 'not compressed' : `${compression}, not gzip`;
    throw cannotRefer(subject, `the layer is ${what}`);
  };

const cannotRefer = (subject: string, problem: string): LacunaError =>
  new LacunaError('UNSUPPORTED', `${problem}: it cannot be referred to`, {
    op: 'convert',
    subject,
    hint: 'convert the image without --oci-ref',
  });

/** Ends the reading of a layer that cannot be referred to. */
class SparseFile extends Error {}

/** Hashes the content and locates it in the layer; batches overlap in the native threads, their results are in order. */
class ZranSink implements LayerSink {
  readonly #addon: Addon;
  readonly #options: LayerOptions;
  readonly #ring: Ring;
  readonly #spans: SpanIndex;
  readonly #chunks: BlobChunks;
  readonly #units: UnitDraft[] = [];
  #totals = { chunks: 0, bytes: 0, reusedChunks: 0, reusedBytes: 0 };
  #planned: Promise<unknown> = Promise.resolve();

  constructor(addon: Addon, options: LayerOptions, ring: Ring, subject: string) {
    this.#addon = addon;
    this.#options = options;
    this.#ring = ring;
    this.#spans = new SpanIndex(subject);
    this.#chunks = new BlobChunks(options.digester, options.compressor);
  }

  onStream(stream: LayerStream): void {
    this.#spans.add(stream.checkpoints());
  }

  add(slot: Slot, pieces: readonly Piece[], tarOffset: number): void {
    const ranges = new Uint32Array(pieces.flatMap((piece) => [piece.offset, piece.length]));
    const hashed = this.#addon.hashChunks(slot.input, ranges, this.#options.digester);
    this.#planned = Promise.all([hashed, this.#planned]).then(
      ([digests]) => {
        for (const [i, piece] of pieces.entries()) {
          const digest = digests.subarray(i * DIGEST_SIZE, (i + 1) * DIGEST_SIZE);
          this.#plan(piece, digest, slot.input, tarOffset + piece.offset);
        }
        this.#ring.give(slot);
      },
      (error) => {
        this.#ring.fail(error);
        throw error;
      },
    );
    this.#planned.catch(() => {}); // finish() reports it
  }

  addMade(): void {
    throw new SparseFile();
  }

  /** All chunks, which do not know their blob's id yet, and the units they lie in. */
  async finish() {
    await this.#planned;
    const units = this.#spans.spans().map(({ inOffset, outOffset, inSize, outSize, window, bits, byte }, i) => {
      const unit = this.#units[i]!;
      unit.compressedOffset = inOffset;
      unit.compressedSize = inSize;
      unit.size = outSize;
      unit.decoder = { kind: 'zran', window, bits, byte };
      return { unit, tarOffset: outOffset };
    });
    const totals: PipelineTotals = this.#totals;
    return { chunks: this.#chunks, units, totals };
  }

  #plan({ node, offset, length }: Piece, digest: Buffer, input: Buffer, tarOffset: number): void {
    this.#totals.chunks += 1;
    this.#totals.bytes += length;
    const existing = this.#chunks.find(digest);
    this.#spans.pass(tarOffset);
    if (existing !== null) {
      node.addOwnChunk(this.#chunks, existing);
      this.#totals.reusedChunks += 1;
      this.#totals.reusedBytes += length;
      return;
    }
    const index = this.#chunks.add(digest, length);
    const place = this.#spans.place(tarOffset, length);
    // Spans are numbered as they are used.
    if (place.span === this.#units.length) this.#addUnit();
    const crc32c = this.#addon.crc32c(input.subarray(offset, offset + length));
    this.#chunks.placeWithin(index, place.span, place.offset, crc32c);
    node.addOwnChunk(this.#chunks, index);
  }

  #addUnit(): void {
    const nothing = Buffer.alloc(0);
    const decoder = { kind: 'zran', window: nothing, bits: 0, byte: 0 } as const;
    const unit: UnitDraft = { compressedOffset: 0, compressedSize: 0, size: 0, decoder };
    this.#units.push(unit);
    this.#chunks.addUnit(unit);
  }
}
