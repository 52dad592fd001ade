/**
 * Encodes the chunk info (CI) of a blob: one entry per chunk, then the contexts of batches or spans of a gzip stream, and a
 * header (nydus, storage/src/meta/{mod,chunk_info_v1,chunk_info_v2,batch,zran}.rs).
 */
import { type Chunk, MAX_CHUNK_SIZE, type Unit } from '../../blob/table.ts';
import { LacunaError } from '../../errors.ts';
import { addon, type Compressor } from '../../native/addon.ts';
import { BATCH_CONTEXT, SPAN_CONTEXT } from './chunk-info-context.ts';
import { CHUNK_INFO_V1, CHUNK_INFO_V2, CI_FLAG, writeChunkInfoV1, writeChunkInfoV2 } from './chunk-info-entry.ts';
import { CI_HEADER } from './chunk-info-header.ts';
import { alignUp, BLOCK, FEATURE } from './layout.ts';
import { MAX_CHUNKS } from './limits.ts';

/** Compression level of the chunk info: a few kilobytes of metadata, compressed once. */
const CI_LEVEL = 3;

/** Chunk info as stored, with the values for the blob table and its header. */
export interface EncodedChunkInfo {
  /** Bits of FEATURE that the blob needs: chunk info V2, and the feature that requires it. */
  readonly features: number;
  readonly count: number;
  readonly plain: Buffer;
  /** {@link plain} as it is stored. */
  readonly stored: Buffer;
  readonly compressor: Compressor;
  /** Contexts and windows after the entries; all 0 when there are none. */
  readonly contexts: { readonly offset: number; readonly size: number; readonly count: number };
}

/** Chunks in the order of their data: an array, or an object that makes them on access. */
export interface ChunkList<T> extends Iterable<T> {
  readonly length: number;
  at(index: number): T | undefined;
}

/** A chunk of a blob that is written. */
export interface WrittenChunk extends Chunk {
  readonly crc32c?: number | null;
}

/** A zran unit, and the offset of its content in the layer's tar. */
export interface ReferredUnit {
  readonly unit: Unit;
  readonly tarOffset: number;
}

/**
 * Encodes chunks in the order of their data. Each chunk follows the previous one, and the chunks of a batch are adjacent.
 * Version V2 is used only when batches need it.
 */
export function chunkInfoOf(chunks: ChunkList<WrittenChunk>, compressor: Compressor): EncodedChunkInfo {
  checkCount(chunks.length);
  const units = new Map<Unit, number>();
  for (const { within } of chunks) if (within !== null && !units.has(within.unit)) units.set(within.unit, units.size);
  checkPlaces(chunks);
  if (units.size === 0) return packed(encodeV1(chunks), 0, chunks.length, [], compressor);
  const entries = Buffer.alloc(chunks.length * CHUNK_INFO_V2.size);
  let at = 0;
  for (const chunk of chunks) {
    const isMember = chunk.within !== null;
    const isChecked = !isMember && (chunk.crc32c ?? 0) !== 0;
    const flags = isMember
      ? // The flag is also set for an uncompressed batch, which its two equal sizes show.
        CI_FLAG.BATCH | CI_FLAG.COMPRESSED
      : (chunk.compressor === 0 ? 0 : CI_FLAG.COMPRESSED) | (isChecked ? CI_FLAG.HAS_CRC32 : 0);
    const { uncompressedOffset, uncompressedSize, compressedOffset } = chunk;
    writeChunkInfoV2(entries, at, {
      uncompressedOffset,
      uncompressedSize,
      compressedOffset,
      compressedSize: isMember ? 0 : chunk.compressedSize,
      flags,
      offset: isMember ? chunk.within.offset : isChecked ? chunk.crc32c! : 0,
      context: isMember ? units.get(chunk.within.unit)! : 0,
    });
    at += CHUNK_INFO_V2.size;
  }
  const contexts = [...units.keys()].map((unit) => BATCH_CONTEXT.encoded(unit));
  return packed(entries, FEATURE.CHUNK_INFO_V2 | FEATURE.BATCH, chunks.length, contexts, compressor);
}

/**
 * Approximate range of a chunk's bytes in the layer. Readers plan fetches with it, but fetch the whole unit. Nydus's builder
 * stores the exact position of its decoder.
 */
export function spanOf({ within, uncompressedSize }: Chunk): { offset: number; length: number } {
  const { unit, offset } = within!;
  const start = Math.floor((offset / unit.size) * unit.compressedSize);
  const end = Math.ceil(((offset + uncompressedSize) / unit.size) * unit.compressedSize);
  return { offset: unit.compressedOffset + start, length: Math.min(end - start, MAX_CHUNK_SIZE - 1) };
}

/** Encodes the chunks of a layer that stays unchanged, and their units, both in the order of the tar. */
export function referredChunkInfo(chunks: ChunkList<Chunk>, units: readonly ReferredUnit[]): EncodedChunkInfo {
  checkCount(chunks.length);
  const entries = Buffer.alloc(chunks.length * CHUNK_INFO_V2.size);
  const numbers = new Map(units.map(({ unit }, i) => [unit, i]));
  let at = 0;
  for (const chunk of chunks) {
    const { uncompressedOffset, uncompressedSize, within } = chunk;
    const span = spanOf(chunk);
    writeChunkInfoV2(entries, at, {
      uncompressedOffset,
      uncompressedSize,
      compressedOffset: span.offset,
      compressedSize: span.length,
      flags: CI_FLAG.ZRAN | CI_FLAG.COMPRESSED,
      offset: within!.offset,
      context: numbers.get(within!.unit)!,
    });
    at += CHUNK_INFO_V2.size;
  }
  const contexts: Buffer[] = [];
  const windows: Buffer[] = [];
  let windowOffset = 0;
  for (const { unit, tarOffset } of units) {
    if (unit.decoder.kind !== 'zran') throw wrong('a unit is not a span of a gzip stream');
    const { window, bits, byte } = unit.decoder;
    const context = SPAN_CONTEXT.encoded({
      compressedOffset: unit.compressedOffset,
      plainOffset: tarOffset,
      windowAt: window.length === 0 ? 0 : windowOffset,
      compressedSize: unit.compressedSize,
      size: unit.size,
      windowSize: window.length,
      byte: bits === 0 ? 0 : byte,
      bits,
    });
    contexts.push(context);
    windows.push(window);
    windowOffset += window.length;
  }
  const features = FEATURE.CHUNK_INFO_V2 | FEATURE.ZRAN;
  const info = packed(entries, features, chunks.length, [...contexts, ...windows], 3);
  return { ...info, contexts: { ...info.contexts, count: units.length } };
}

/** Encodes the header that follows the chunk info. `offset`: that of the chunk info in its file; `features`: of the blob. */
export const encodeCiHeader = (info: EncodedChunkInfo, features: number, offset: number): Buffer =>
  CI_HEADER.encoded({
    features,
    compressor: info.compressor,
    count: info.count,
    offset,
    compressedSize: info.stored.length,
    uncompressedSize: info.plain.length,
    contextsOffset: info.contexts.offset,
    contextsSize: info.contexts.size,
    contextsCount: info.contexts.count,
  });

/** The file `image/<id>.blob.meta` of the bootstrap layer: chunk info, plain, padded to blocks, and its header. */
export const blobMetaFile = (info: EncodedChunkInfo, header: Buffer): Buffer =>
  Buffer.concat([info.plain, Buffer.alloc(alignUp(info.plain.length, BLOCK) - info.plain.length), header]);

function packed(
  entries: Buffer,
  features: number,
  count: number,
  behind: readonly Buffer[],
  compressor: Compressor,
): EncodedChunkInfo {
  const plain = behind.length === 0 ? entries : Buffer.concat([entries, ...behind]);
  // Readers of an uncompressed blob may have no decoder, so its chunk info is not compressed either.
  const frame = compressor === 0 ? plain : addon().zstdCompress(plain, CI_LEVEL);
  const isSmaller = frame.length < plain.length;
  const size = plain.length - entries.length;
  return {
    features,
    count,
    plain,
    stored: isSmaller ? frame : plain,
    compressor: isSmaller ? 3 : 0,
    contexts: size === 0 ? { offset: 0, size: 0, count: 0 } : { offset: entries.length, size, count: behind.length },
  };
}

const wrong = (what: string): LacunaError => new LacunaError('INTERNAL', what, { op: 'write blob' });

function checkCount(count: number): void {
  if (count === 0) throw wrong('a blob without chunks');
  if (count <= MAX_CHUNKS) return;
  throw new LacunaError('UNSUPPORTED', `${count} chunks exceed the maximum of ${MAX_CHUNKS} in a blob`, {
    op: 'write blob',
    hint: 'choose a larger chunk size',
  });
}

function checkPlaces(chunks: ChunkList<Chunk>): void {
  let plainEnd = 0;
  let storedEnd = 0;
  let before: Unit | null = null;
  let i = 0;
  for (const { within, uncompressedOffset, uncompressedSize, compressedOffset, compressedSize } of chunks) {
    const isInSame = within !== null && within.unit === before;
    if (uncompressedOffset !== plainEnd || (!isInSame && compressedOffset !== storedEnd)) {
      throw wrong(`chunk ${i} does not follow the one before it`);
    }
    plainEnd = alignUp(plainEnd + uncompressedSize, BLOCK);
    if (!isInSame) storedEnd += compressedSize;
    before = within?.unit ?? null;
    i++;
  }
}

function encodeV1(chunks: ChunkList<Chunk>): Buffer {
  const out = Buffer.alloc(chunks.length * CHUNK_INFO_V1.size);
  let at = 0;
  for (const chunk of chunks) {
    writeChunkInfoV1(out, at, chunk);
    at += CHUNK_INFO_V1.size;
  }
  return out;
}
