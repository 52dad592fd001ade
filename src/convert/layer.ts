/**
 * One layer → one data blob, streamed: inflate, parse, hash, compress and upload overlap; nothing touches the disk.
 * The result depends on the layer and the {@link LayerOptions} alone, whatever image the layer is in, unless chunks of
 * lower layers are offered for reuse.
 */
import { LacunaError } from '../errors.ts';
import { finishBlob, type RafsBlob } from '../formats/rafs/blob.ts';
import { type Addon, addon, type LayerDigests, type LayerStream, type Sha256Stream } from '../native/addon.ts';
import type { BlobUpload } from '../registry/store.ts';
import { LayerBuilder, type LayerTree } from '../tree/layer.ts';
import type { FileChunk, FileNode } from '../tree/node.ts';
import { type TarEntry, type TarHandler, TarParser } from '../tree/tar.ts';
import { ChunkPipeline, type KnownChunks, type Piece, type PipelineTotals } from './chunks.ts';
import type { LayerOptions } from './options.ts';
import { Ring } from './ring.ts';

/** Batches under way at once: one inflating, two in the codecs, one being uploaded. */
const SLOTS = 4;
/** Tar bytes per batch; large enough that crossing into native code costs nothing, small enough for {@link SLOTS}. */
const BATCH_BYTES = 4 * 1024 * 1024;

export interface LayerInput {
  /** For errors: `sha256:…` of the layer. */
  readonly subject: string;
  readonly compression: 'gzip' | 'zstd' | 'none';
  /** The layer's bytes; they need not be verified. */
  open(signal: AbortSignal): AsyncIterable<Buffer>;
  /** What the manifest and the config promise; both are checked. */
  readonly digest: string;
  readonly size: number;
  readonly diffId: string;
}

export interface ConvertedLayer {
  readonly tree: LayerTree;
  /** Null when the layer has no file content: then there is no blob. */
  readonly blob: RafsBlob | null;
  /** The blob's `blob.meta` file. */
  readonly meta: Buffer;
  /** The blob that holds its chunk info, named after its sha256, where that does not lie in the blob itself; else null. */
  readonly metaBlob: Buffer | null;
  readonly chunks: readonly FileChunk[];
  readonly source: LayerDigests;
  readonly totals: PipelineTotals;
}

/** One try: it uses up its {@link upload}. */
export interface LayerWork {
  readonly options: LayerOptions;
  /** Chunks that may be referred to instead of being stored again. */
  readonly known: KnownChunks;
  readonly upload: BlobUpload;
  readonly signal: AbortSignal;
  /** Called with the compressed bytes read so far. */
  readonly onRead: (bytes: number) => void;
}

/** Converts a layer; the blob has been committed to `work.upload` when this returns (aborted when there is none). */
export async function convertLayer(input: LayerInput, work: LayerWork): Promise<ConvertedLayer> {
  const native = addon();
  const stream = native.layerStream(input.compression);
  const stop = new AbortController();
  const signal = AbortSignal.any([work.signal, stop.signal]);
  try {
    signal.throwIfAborted();
    signal.addEventListener('abort', () => stream.close(), { once: true });
    const feeding = feed(stream, input, work, signal);
    const converting = run(native, stream, input, work);
    const [layer] = await bothOrFirstFailure([converting, feeding], stop);
    return layer;
  } catch (error) {
    await work.upload.abort();
    work.signal.throwIfAborted();
    throw error;
  } finally {
    stream.close();
  }
}

/**
 * Both results. Either one's failure ends the other, which would otherwise wait for ever for more input or for room in
 * the queue; it is reported once both have ended.
 */
async function bothOrFirstFailure<A, B>(halves: [Promise<A>, Promise<B>], stop: AbortController): Promise<[A, B]> {
  for (const half of halves) half.catch(() => stop.abort());
  try {
    return await Promise.all(halves);
  } finally {
    await Promise.allSettled(halves);
  }
}

async function feed(stream: LayerStream, input: LayerInput, work: LayerWork, signal: AbortSignal): Promise<void> {
  let read = 0;
  for await (const data of input.open(signal)) {
    read += data.length;
    if (read > input.size) throw sizeMismatch(input, `more than the promised ${input.size} bytes`);
    await stream.write(data);
    work.onRead(read);
  }
  if (read !== input.size) throw sizeMismatch(input, `${read} bytes instead of the promised ${input.size}`);
  stream.end();
}

async function run(native: Addon, stream: LayerStream, input: LayerInput, work: LayerWork): Promise<ConvertedLayer> {
  const { options } = work;
  const ring = new Ring(SLOTS, Math.max(BATCH_BYTES, 2 * options.chunkSize));
  const hasher = native.sha256Stream();
  const pipeline = new ChunkPipeline(native, options, ring, hasher, (data) => work.upload.write(data), work.known);
  const collector = new Collector(options.chunkSize);
  const parser = new TarParser(collector, { subject: input.subject });

  let slot = await ring.take();
  let carried = 0;
  for (;;) {
    const filled = carried + (await stream.read(slot.input, carried));
    if (filled === carried) break;
    const consumed = parser.push(slot.input, 0, filled);
    // A batch without content is parsed on in the same buffer.
    const next = collector.isEmpty ? slot : await ring.take();
    slot.input.copy(next.input, 0, consumed, filled);
    if (next !== slot) pipeline.add(slot, collector.take());
    slot = next;
    carried = filled - consumed;
  }
  parser.finish(carried);
  const source = stream.digests();
  checkSource(source, input);
  return finish(pipeline, hasher, collector.builder.finish(), source, work);
}

async function finish(
  pipeline: ChunkPipeline,
  hasher: Sha256Stream,
  tree: LayerTree,
  source: LayerDigests,
  work: LayerWork,
): Promise<ConvertedLayer> {
  const { chunks, storedSize, totals } = await pipeline.finish();
  if (chunks.all.length === 0) {
    await work.upload.abort();
    return { tree, blob: null, meta: Buffer.alloc(0), metaBlob: null, chunks: [], source, totals };
  }
  const append = async (data: Buffer) => {
    await Promise.all([hasher.update(data, data.length), work.upload.write(data)]);
  };
  const end = await finishBlob(
    chunks.all,
    {
      dataSize: storedSize,
      sha256WithHeader: async (header) => {
        await append(header);
        return hasher.digest();
      },
    },
    work.options,
  );
  await append(end.tail);
  const id = await hasher.digest();
  const size = end.blob.compressedSize;
  chunks.blob = id;
  await work.upload.commit(`sha256:${id}`, size);
  return {
    tree,
    blob: { ...end.blob, id },
    meta: end.meta,
    metaBlob: end.metaBlob,
    chunks: chunks.all,
    source,
    totals,
  };
}

function checkSource(source: LayerDigests, input: LayerInput): void {
  const digest = `sha256:${source.compressedDigest}`;
  if (digest !== input.digest) {
    throw new LacunaError('DIGEST_MISMATCH', `the layer's bytes hash to ${digest}`, {
      op: 'convert',
      subject: input.subject,
      hint: 'the source is damaged or was changed on its way; fetch or push it again',
    });
  }
  const diffId = `sha256:${source.uncompressedDigest}`;
  if (diffId !== input.diffId) {
    throw new LacunaError('DIGEST_MISMATCH', `the layer's tar hashes to ${diffId}, its config says ${input.diffId}`, {
      op: 'convert',
      subject: input.subject,
      hint: 'manifest and config of the source image do not belong together',
    });
  }
}

function sizeMismatch(input: LayerInput, problem: string): LacunaError {
  return new LacunaError('SIZE_MISMATCH', `the layer has ${problem}`, { op: 'convert', subject: input.subject });
}

/** Turns what the tar parser reports into tree nodes and the pieces of the current batch. */
class Collector implements TarHandler {
  readonly builder = new LayerBuilder();
  readonly #chunkSize: number;
  #pieces: Piece[] = [];
  #current: Piece['node'] | null = null;

  constructor(chunkSize: number) {
    this.#chunkSize = chunkSize;
  }

  get isEmpty(): boolean {
    return this.#pieces.length === 0;
  }

  take(): Piece[] {
    const pieces = this.#pieces;
    this.#pieces = [];
    return pieces;
  }

  entry(entry: TarEntry): void {
    const node = this.builder.add(entry);
    this.#current = node === null ? null : withChunks(node);
  }

  content(_buffer: Buffer, start: number, available: number, remaining: number): number {
    const whole = available - (available % this.#chunkSize);
    const taken = available === remaining ? available : whole;
    const node = this.#current;
    if (node === null) return available; // of a whiteout or an AUFS file, which is no content
    for (let at = 0; at < taken; at += this.#chunkSize) {
      this.#pieces.push({ node, offset: start + at, length: Math.min(this.#chunkSize, taken - at) });
    }
    return taken;
  }
}

function withChunks(node: FileNode): Piece['node'] {
  const chunks: FileChunk[] = [];
  return Object.assign(node, { chunks });
}
