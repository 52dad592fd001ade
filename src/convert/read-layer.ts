/** Reads a layer: the entries of its tar, and its content batch by batch. */
import type { Hash } from 'node:crypto';
import { isLacunaError, LacunaError, toLacunaError } from '../errors.ts';
import { hasherFor, parseDigest } from '../image/digest.ts';
import type { LayerCompression } from '../image/media.ts';
import { type Addon, addon, type LayerDigests, type LayerStream } from '../native/addon.ts';
import { findCompression } from '../reader/layer-stream.ts';
import type { TreeBudget } from '../tree/budget.ts';
import type { LayerFile } from '../tree/file.ts';
import { LayerBuilder, type LayerTree } from '../tree/layer.ts';
import { type TarEntry, type TarHandler, TarParser } from '../tree/tar.ts';
import { Assembly, type TakeMade } from './assembly.ts';
import { type Piece, Ring, type Slot } from './ring.ts';

/** Concurrent batches: one inflating, two in the codecs, one being uploaded. */
const SLOTS = 4;
/** Tar bytes per batch; large enough that crossing into native code costs nothing, small enough for {@link SLOTS}. */
const BATCH_BYTES = 4 * 1024 * 1024;

export interface LayerInput {
  /** For errors: the layer's digest. */
  readonly subject: string;
  /** The layer's bytes; they need not be verified. */
  open(signal: AbortSignal): AsyncIterable<Buffer>;
  /** Digest, size and diff ID according to manifest and config; all are checked. */
  readonly digest: string;
  readonly size: number;
  readonly diffId: string;
}

/** Takes the content of the layer's files, in the order of its tar. */
export interface LayerSink {
  /** Takes a batch over; gives its slot back to the ring. `tarOffset`: place of the batch's first byte in the tar. */
  add(slot: Slot, pieces: readonly Piece[], tarOffset: number): void;
  /** As {@link add}, of chunks of sparse files, which the tar does not hold as they are. */
  addMade(slot: Slot, pieces: readonly Piece[]): void;
  /** Called after each read of the stream. */
  onStream?(stream: LayerStream): void;
}

export interface LayerReading {
  /** The decoder for a layer that is compressed so; default: the plain one. UNSUPPORTED where there is none. */
  decoder?(compression: LayerCompression): Parameters<Addon['layerStream']>[0];
  readonly chunkSize: number;
  /** Memory budget for the trees of all layers of the image. */
  readonly budget: TreeBudget;
  readonly signal: AbortSignal;
  /** Called with the compressed bytes read so far. */
  readonly onRead: (bytes: number) => void;
}

export const ringFor = (chunkSize: number): Ring => new Ring(SLOTS, Math.max(BATCH_BYTES, 2 * chunkSize));

/**
 * Reads a layer to its end and checks what its descriptors promise. The sink may still be busy when this returns. `ring`:
 * of {@link ringFor}.
 */
export async function readLayer(
  input: LayerInput,
  reading: LayerReading,
  ring: Ring,
  sink: LayerSink,
): Promise<{ tree: LayerTree; source: LayerDigests }> {
  const stop = new AbortController();
  const signal = AbortSignal.any([reading.signal, stop.signal]);
  let stream: LayerStream | null = null;
  try {
    signal.throwIfAborted();
    const { compression, bytes } = await findCompression(input.open(signal), input.subject);
    stream = addon().layerStream(reading.decoder?.(compression) ?? compression);
    signal.addEventListener('abort', () => stream!.close(), { once: true });
    const hashes = { stored: otherHash(input.digest), tar: otherHash(input.diffId) };
    const feeding = feed(stream, input, reading, hashes, bytes);
    const parsing = parse(stream, input, reading, hashes, ring, sink);
    // A write may fail while the parser waits for a source that has gone silent.
    const [layer] = await bothOrFirstFailure([Promise.race([parsing, ring.broken]), feeding], stop);
    return layer;
  } catch (error) {
    reading.signal.throwIfAborted();
    // Errors of the native stream do not name the layer.
    throw isLacunaError(error) ? toLacunaError(error, { op: 'convert', subject: input.subject }) : error;
  } finally {
    stop.abort();
    stream?.close();
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

/** Running hashes for digests that are not sha256, which the native stream makes itself; null for those that are. */
interface OtherHashes {
  readonly stored: Hash | null;
  readonly tar: Hash | null;
}

const otherHash = (digest: string): Hash | null => (digest.startsWith('sha256:') ? null : hasherFor(digest));

async function feed(
  stream: LayerStream,
  input: LayerInput,
  reading: LayerReading,
  { stored }: OtherHashes,
  bytes: AsyncIterable<Buffer>,
): Promise<void> {
  let read = 0;
  for await (const data of bytes) {
    read += data.length;
    if (read > input.size) throw sizeMismatch(input, `more than the promised ${input.size} bytes`);
    stored?.update(data);
    await stream.write(data);
    reading.onRead(read);
  }
  if (read !== input.size) throw sizeMismatch(input, `${read} bytes instead of the promised ${input.size}`);
  stream.end();
}

async function parse(
  stream: LayerStream,
  input: LayerInput,
  { chunkSize, budget }: LayerReading,
  hashes: OtherHashes,
  ring: Ring,
  sink: LayerSink,
) {
  const collector = new Collector(chunkSize, new LayerBuilder(input.subject, budget), input.subject);
  const { assembly } = collector;
  const takeMade: TakeMade = (made, pieces) => sink.addMade(made, pieces);
  const parser = new TarParser(collector, { subject: input.subject });
  let slot = await ring.take();
  let carried = 0;
  let tarOffset = 0;
  for (;;) {
    const filled = carried + (await stream.read(slot.input, carried));
    if (filled === carried) break;
    hashes.tar?.update(slot.input.subarray(carried, filled));
    sink.onStream?.(stream);
    let consumed = parser.push(slot.input, 0, filled);
    while (assembly.wantsRoom) {
      await assembly.renew(ring, takeMade);
      consumed = parser.push(slot.input, consumed, filled);
    }
    // A batch without content is parsed on in the same buffer.
    const next = collector.isEmpty ? slot : await ring.take();
    slot.input.copy(next.input, 0, consumed, filled);
    if (next !== slot) sink.add(slot, collector.take(), tarOffset);
    tarOffset += consumed;
    slot = next;
    carried = filled - consumed;
  }
  sink.onStream?.(stream);
  parser.finish(carried);
  assembly.finish(ring, takeMade);
  const source = stream.digests();
  checkSource(source, hashes, input);
  return { tree: collector.builder.finish(), source };
}

const digestFrom = (hash: Hash | null, sha256: string, promised: string): string =>
  hash === null ? `sha256:${sha256}` : `${parseDigest(promised).algorithm}:${hash.digest('hex')}`;

function checkSource(source: LayerDigests, hashes: OtherHashes, input: LayerInput): void {
  const digest = digestFrom(hashes.stored, source.compressedDigest, input.digest);
  if (digest !== input.digest) {
    throw new LacunaError('DIGEST_MISMATCH', `the layer's bytes hash to ${digest}`, {
      op: 'convert',
      subject: input.subject,
      hint: 'the source is damaged or was changed on its way; fetch or push it again',
    });
  }
  const diffId = digestFrom(hashes.tar, source.uncompressedDigest, input.diffId);
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

/** Turns the tar parser's events into tree nodes and the pieces of the current batch. */
class Collector implements TarHandler {
  readonly builder: LayerBuilder;
  readonly assembly: Assembly;
  readonly #chunkSize: number;
  #pieces: Piece[] = [];
  #current: LayerFile | null = null;
  #isSparse = false;

  constructor(chunkSize: number, builder: LayerBuilder, subject: string) {
    this.#chunkSize = chunkSize;
    this.builder = builder;
    this.assembly = new Assembly(chunkSize, subject);
  }

  get isEmpty(): boolean {
    return this.#pieces.length === 0;
  }

  take(): Piece[] {
    const pieces = this.#pieces;
    this.#pieces = [];
    return pieces;
  }

  entry(entry: TarEntry, isSparse: boolean): void {
    this.#current = this.builder.add(entry);
    this.#isSparse = isSparse;
    if (isSparse && this.#current !== null) this.assembly.begin(entry);
  }

  content(buffer: Buffer, start: number, available: number, remaining: number): number {
    const node = this.#current;
    if (node === null) return available; // a whiteout or an AUFS file, whose bytes are not content
    if (this.#isSparse) return this.assembly.data(node, buffer, start, available, remaining);
    const whole = available - (available % this.#chunkSize);
    const taken = available === remaining ? available : whole;
    for (let at = 0; at < taken; at += this.#chunkSize) {
      this.#pieces.push({ node, offset: start + at, length: Math.min(this.#chunkSize, taken - at), count: 1 });
    }
    return taken;
  }

  hole(length: number, remaining: number): number {
    return this.#current === null ? length : this.assembly.hole(this.#current, length, remaining);
  }
}
