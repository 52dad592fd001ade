/** A layer's tar: its bytes decompressed as they arrive, and parsed. Works with and without the addon. */
import { createRequire } from 'node:module';
import { pipeline, type Transform } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { FormatError, LacunaError, toLacunaError } from '../errors.ts';
import { detectCompression, MAGIC_SIZE } from '../image/compression.ts';
import type { Descriptor } from '../image/manifest.ts';
import { type LayerCompression, layerCompression } from '../image/media.ts';
import { findAddon, type LayerStream } from '../native/addon.ts';
import { zstdError } from '../native/codec.ts';
import type { ImageStore, SignalOptions } from '../registry/store.ts';
import { type TarHandler, TarParser } from '../tree/tar.ts';

/** Bytes decompressed at once. */
const PIECE = 1024 * 1024;

/** The part of a store that reading a layer needs. */
export type LayerSource = Pick<ImageStore, 'open'>;

export interface ParseOptions extends SignalOptions {
  /** Sees the tar's bytes before they are parsed: the diffID is their digest. */
  readonly onTar?: (piece: Buffer) => void;
  /** Bytes of the tar; FORMAT beyond. Default: without a bound, for a layer that is taken as it comes. */
  readonly maxTar?: number;
}

/** Reads the whole layer and parses its tar. The layer's digest and size are verified on the way. */
export async function parseLayerTar(
  store: LayerSource,
  layer: Descriptor,
  handler: TarHandler,
  options: ParseOptions = {},
): Promise<void> {
  for await (const _ of parseLayerSteps(store, layer, handler, options));
}

/** The same, yielding after every piece, so that a handler's results can be taken before the next one. */
export async function* parseLayerSteps(
  store: LayerSource,
  layer: Descriptor,
  handler: TarHandler,
  options: ParseOptions = {},
): AsyncGenerator<void> {
  yield* parseTarSteps(layerTar(store, layer, options), layer.digest, handler, options);
}

/** Parses a tar as it arrives; yields after every piece. */
export async function* parseTarSteps(
  tar: AsyncIterable<Buffer>,
  subject: string,
  handler: TarHandler,
  options: ParseOptions = {},
): AsyncGenerator<void> {
  const { maxTar = Number.POSITIVE_INFINITY, signal } = options;
  const parser = new TarParser(handler, { subject });
  let rest: Buffer = Buffer.alloc(0);
  let size = 0;
  for await (const piece of tar) {
    // Decoding may continue long after the last compressed byte was read.
    if (signal?.aborted) throw toLacunaError(signal.reason, { op: 'read layer', subject });
    size += piece.length;
    if (size > maxTar) throw new FormatError('layer', `more than ${maxTar} bytes when decompressed`, { subject });
    options.onTar?.(piece);
    const buffer = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
    let consumed = parser.push(buffer, 0, buffer.length);
    for (; parser.isInHole; consumed = parser.push(buffer, consumed, buffer.length)) yield;
    rest = Buffer.from(buffer.subarray(consumed));
    yield;
  }
  parser.finish(rest.length);
  yield;
}

/**
 * The tar bytes of a layer; a piece is only valid until the next one is asked for. UNSUPPORTED when its media type is not
 * that of a tar; how it is compressed its first bytes say.
 */
export function layerTar(store: LayerSource, layer: Descriptor, options: SignalOptions = {}): AsyncIterable<Buffer> {
  if (layerCompression(layer.mediaType) === null) {
    throw new LacunaError('UNSUPPORTED', `a layer of type ${layer.mediaType} is not a tar`, { subject: layer.digest });
  }
  // Only the signal: other fields of the caller's options may have another meaning for a store.
  const stored = store.open(layer, options.signal === undefined ? {} : { signal: options.signal });
  return decompressTar(stored, layer.digest);
}

/** The tar bytes of a stream that may be compressed; a piece is only valid until the next one is asked for. */
export async function* decompressTar(stored: AsyncIterable<Buffer>, subject: string): AsyncGenerator<Buffer> {
  const { compression, bytes } = await findCompression(stored, subject);
  const addon = findAddon();
  if (addon !== null) yield* nativeTar(addon.layerStream(compression), bytes, subject);
  else if (compression === 'none') yield* bytes;
  else yield* portableTar(decompressor(compression), bytes, subject);
}

/** How a stream is compressed, and all of its bytes. UNSUPPORTED for what is not decompressed here. */
export async function findCompression(
  stored: AsyncIterable<Buffer>,
  subject: string,
): Promise<{ compression: LayerCompression; bytes: AsyncIterable<Buffer> }> {
  const iterator = stored[Symbol.asyncIterator]();
  let start: Buffer = Buffer.alloc(0);
  while (start.length < MAGIC_SIZE) {
    const { done, value } = await iterator.next();
    if (done) break;
    start = start.length === 0 && value.length >= MAGIC_SIZE ? value : Buffer.concat([start, value]);
  }
  const compression = detectCompression(start);
  if (compression === 'xz' || compression === 'bzip2') {
    await iterator.return?.();
    throw new LacunaError('UNSUPPORTED', `the layer is compressed with ${compression}`, {
      subject,
      hint: 'layers must be tar, tar+gzip or tar+zstd',
    });
  }
  return { compression, bytes: startingWith(start, iterator) };
}

async function* startingWith(start: Buffer, iterator: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  try {
    if (start.length > 0) yield start;
    for (let next = await iterator.next(); !next.done; next = await iterator.next()) yield next.value;
  } finally {
    await iterator.return?.();
  }
}

async function* nativeTar(stream: LayerStream, stored: AsyncIterable<Buffer>, subject: string): AsyncGenerator<Buffer> {
  const feeding = feed(stream, stored);
  // Its error is thrown below, once the reader has noticed.
  feeding.catch(() => {});
  const buffer = Buffer.allocUnsafe(PIECE);
  try {
    for (;;) {
      const length = await readOrCause(stream, buffer, feeding);
      if (length === 0) break;
      yield buffer.subarray(0, length);
    }
    await feeding;
  } catch (error) {
    throw toLacunaError(error, { op: 'read layer', subject });
  } finally {
    stream.close();
  }
}

/** Throws the error of the source, rather than that of the stream which was closed because of it. */
async function readOrCause(stream: LayerStream, buffer: Buffer, feeding: Promise<void>): Promise<number> {
  try {
    return await stream.read(buffer, 0);
  } catch (error) {
    stream.close();
    await feeding.catch((cause: unknown) => {
      if (!(cause instanceof Error && 'code' in cause && cause.code === 'ABORTED')) throw cause;
    });
    throw error;
  }
}

async function feed(stream: LayerStream, stored: AsyncIterable<Buffer>): Promise<void> {
  try {
    for await (const piece of stored) await stream.write(piece);
    stream.end();
  } catch (error) {
    stream.close();
    throw error;
  }
}

function decompressor(compression: Exclude<LayerCompression, 'none'>): Transform {
  if (compression === 'gzip') return createGunzip();
  try {
    const { DecompressStream } = createRequire(import.meta.url)('zstd-napi') as {
      DecompressStream: new () => Transform;
    };
    return new DecompressStream();
  } catch (cause) {
    throw new LacunaError('UNSUPPORTED', 'zstd layers need the native addon or the optional dependency zstd-napi', {
      cause,
    });
  }
}

async function* portableTar(stream: Transform, stored: AsyncIterable<Buffer>, subject: string): AsyncGenerator<Buffer> {
  let failure: unknown = null;
  async function* source() {
    try {
      yield* stored;
    } catch (error) {
      failure = error;
      throw error;
    }
  }
  pipeline(source(), stream, () => {});
  try {
    for await (const piece of stream) yield piece as Buffer;
  } catch (cause) {
    if (failure !== null) throw failure;
    const { code, message } = zstdError(cause);
    if (code === 'UNSUPPORTED') throw new LacunaError(code, message, { op: 'read layer', subject, cause });
    throw new FormatError('layer', cause instanceof Error ? cause.message : String(cause), { subject, cause });
  }
}
