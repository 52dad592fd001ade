/**
 * The chunk info of a blob that we write (CI): one entry per chunk, behind them what batches or spans of a gzip stream
 * need, and a header (nydus, storage/src/meta/{mod,chunk_info_v1,chunk_info_v2,batch,zran}.rs).
 */
import { type Chunk, MAX_CHUNK_SIZE, type Unit } from '../../blob/table.ts';
import { LacunaError } from '../../errors.ts';
import { addon, type Compressor } from '../../native/addon.ts';
import { putU64 } from './bytes.ts';
import { alignUp, BLOCK, FEATURE } from './layout.ts';
import { MAX_CHUNKS } from './limits.ts';

export const CI_HEADER = 4096;
const CI_MAGIC = 0xb10bb10b;
/** Bytes of one entry. */
const V1_ENTRY = 16;
const V2_ENTRY = 24;
/** Bytes of what there is for each unit. */
const CONTEXT = 40;
/** Level of the chunk info: a few kilobytes of metadata, compressed once. */
const CI_LEVEL = 3;

/** Flags of a V2 entry. They are not those of the chunk table. */
const V2_FLAG = { COMPRESSED: 0x1, ZRAN: 0x2, BATCH: 0x4, HAS_CRC32: 0x10 } as const;

/** Chunk info as it is stored, and what the blob table and its header say of it. */
export interface ChunkInfo {
  /** Bits of FEATURE that it brings: chunk info of the second version, and what for. */
  readonly features: number;
  readonly count: number;
  readonly plain: Buffer;
  /** {@link plain} as it is stored. */
  readonly stored: Buffer;
  readonly compressor: Compressor;
  /** What follows the entries; 0, 0, 0 when nothing does. */
  readonly contexts: { readonly offset: number; readonly size: number; readonly count: number };
}

/** Chunks in the order of their data: an array, or what makes them when they are asked for. */
export interface ChunkList<T> extends Iterable<T> {
  readonly length: number;
  at(index: number): T | undefined;
}

/** A chunk of a blob that we write. */
export interface WrittenChunk extends Chunk {
  readonly crc32c?: number | null;
}

/** A zran unit, and where in the layer's tar its content begins. */
export interface ReferredUnit {
  readonly unit: Unit;
  readonly tarOffset: number;
}

/**
 * Of chunks in the order of their data. Each follows the one before it; those of a batch follow each other. The second
 * version only where batches need it.
 */
export function chunkInfoOf(chunks: ChunkList<WrittenChunk>, compressor: Compressor): ChunkInfo {
  checkCount(chunks.length);
  const units = new Map<Unit, number>();
  for (const { within } of chunks) if (within !== null && !units.has(within.unit)) units.set(within.unit, units.size);
  checkPlaces(chunks);
  if (units.size === 0) return packed(encodeV1(chunks), 0, chunks.length, [], compressor);
  const entries = Buffer.alloc(chunks.length * V2_ENTRY);
  let at = 0;
  for (const chunk of chunks) {
    const isMember = chunk.within !== null;
    const isChecked = !isMember && (chunk.crc32c ?? 0) !== 0;
    const flags = isMember
      ? // Also of a batch that was kept raw: its two sizes tell.
        V2_FLAG.BATCH | V2_FLAG.COMPRESSED
      : (chunk.compressor === 0 ? 0 : V2_FLAG.COMPRESSED) | (isChecked ? V2_FLAG.HAS_CRC32 : 0);
    writeV2(entries, at, chunk, {
      flags,
      offset: chunk.compressedOffset,
      size: isMember ? 0 : chunk.compressedSize,
      low: isMember ? chunk.within.offset : isChecked ? chunk.crc32c! : 0,
      high: isMember ? units.get(chunk.within.unit)! : 0,
    });
    at += V2_ENTRY;
  }
  const contexts = [...units.keys()].map(({ compressedSize, size }) => {
    const out = Buffer.alloc(CONTEXT);
    out.writeUInt32LE(compressedSize, 0); // compressed_size
    out.writeUInt32LE(size, 4); // uncompressed_batch_size
    return out;
  });
  return packed(entries, FEATURE.CHUNK_INFO_V2 | FEATURE.BATCH, chunks.length, contexts, compressor);
}

/**
 * About where in the layer the bytes of a chunk within a unit are. Readers plan their fetches with it; what they fetch is
 * the unit. Nydus's builder knows it to the byte, from where its decoder stood.
 */
export function spanOf({ within, uncompressedSize }: Chunk): { offset: number; length: number } {
  const { unit, offset } = within!;
  const start = Math.floor((offset / unit.size) * unit.compressedSize);
  const end = Math.ceil(((offset + uncompressedSize) / unit.size) * unit.compressedSize);
  return { offset: unit.compressedOffset + start, length: Math.min(end - start, MAX_CHUNK_SIZE - 1) };
}

/** Of the chunks of a layer that stays as it is, and the units they lie within, both in the order of the tar. */
export function referredChunkInfo(chunks: ChunkList<Chunk>, units: readonly ReferredUnit[]): ChunkInfo {
  checkCount(chunks.length);
  const entries = Buffer.alloc(chunks.length * V2_ENTRY);
  const numbers = new Map(units.map(({ unit }, i) => [unit, i]));
  let at = 0;
  for (const chunk of chunks) {
    const { unit, offset } = chunk.within!;
    const flags = V2_FLAG.ZRAN | V2_FLAG.COMPRESSED;
    const span = spanOf(chunk);
    const place = { flags, offset: span.offset, size: span.length, low: offset, high: numbers.get(unit)! };
    writeV2(entries, at, chunk, place);
    at += V2_ENTRY;
  }
  const contexts: Buffer[] = [];
  const windows: Buffer[] = [];
  let windowOffset = 0;
  for (const { unit, tarOffset } of units) {
    if (unit.decoder.kind !== 'zran') throw wrong('a unit that is no span of a gzip stream');
    const { window, bits, byte } = unit.decoder;
    const out = Buffer.alloc(CONTEXT);
    putU64(out, unit.compressedOffset, 0); // in_offset
    putU64(out, tarOffset, 8); // out_offset
    putU64(out, window.length === 0 ? 0 : windowOffset, 16); // dict_offset
    out.writeUInt32LE(unit.compressedSize, 24); // in_len
    out.writeUInt32LE(unit.size, 28); // out_len
    out.writeUInt32LE(window.length, 32); // dict_size
    out[36] = bits === 0 ? 0 : byte; // ctx_byte
    out[37] = bits; // ctx_bits
    contexts.push(out);
    windows.push(window);
    windowOffset += window.length;
  }
  const features = FEATURE.CHUNK_INFO_V2 | FEATURE.ZRAN;
  const info = packed(entries, features, chunks.length, [...contexts, ...windows], 3);
  return { ...info, contexts: { ...info.contexts, count: units.length } };
}

/** The header behind the chunk info. `offset`: where that lies in its file; `features`: of the blob. */
export function encodeCiHeader(info: ChunkInfo, features: number, offset: number): Buffer {
  const out = Buffer.alloc(CI_HEADER);
  out.writeUInt32LE(CI_MAGIC, 0); // s_magic
  out.writeUInt32LE(features, 4); // s_features
  out.writeUInt32LE(info.compressor, 8); // s_ci_compressor
  out.writeUInt32LE(info.count, 12); // s_ci_entries
  putU64(out, offset, 16); // s_ci_offset
  putU64(out, info.stored.length, 24); // s_ci_compressed_size
  putU64(out, info.plain.length, 32); // s_ci_uncompressed_size
  putU64(out, info.contexts.offset, 40); // s_ci_zran_offset
  putU64(out, info.contexts.size, 48); // s_ci_zran_size
  out.writeUInt32LE(info.contexts.count, 56); // s_ci_zran_count
  out.writeUInt32LE(CI_MAGIC, CI_HEADER - 4); // s_magic2
  return out;
}

/** The file `image/<id>.blob.meta` of the bootstrap layer: chunk info, plain, padded to blocks, and its header. */
export const blobMetaFile = (info: ChunkInfo, header: Buffer): Buffer =>
  Buffer.concat([info.plain, Buffer.alloc(alignUp(info.plain.length, BLOCK) - info.plain.length), header]);

function packed(
  entries: Buffer,
  features: number,
  count: number,
  behind: readonly Buffer[],
  compressor: Compressor,
): ChunkInfo {
  const plain = behind.length === 0 ? entries : Buffer.concat([entries, ...behind]);
  // A blob that is not compressed is one to be read without a decoder at all.
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
  throw new LacunaError('UNSUPPORTED', `${count} chunks; a blob has at most ${MAX_CHUNKS}`, {
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

/**
 * Chunk info V1, two u64: 0xfffff000 and 12 bits above of the uncompressed offset, 40 bits of the compressed one; the
 * sizes minus one lie in the upper 20 bits, their bits 20…23 in 8…11 of the first and 40…43 of the second word.
 */
function encodeV1(chunks: ChunkList<Chunk>): Buffer {
  const out = Buffer.alloc(chunks.length * V1_ENTRY);
  let at = 0;
  for (const chunk of chunks) {
    const usize = chunk.uncompressedSize - 1;
    const csize = chunk.compressedSize - 1;
    const uoffHigh = Math.floor(chunk.uncompressedOffset / 2 ** 32);
    const coffHigh = Math.floor(chunk.compressedOffset / 2 ** 32);
    out.writeUInt32LE(((chunk.uncompressedOffset % 2 ** 32) + ((usize >>> 20) << 8)) >>> 0, at);
    out.writeUInt32LE(((usize << 12) | uoffHigh) >>> 0, at + 4);
    out.writeUInt32LE(chunk.compressedOffset % 2 ** 32, at + 8);
    out.writeUInt32LE(((csize << 12) | ((csize >>> 20) << 8) | coffHigh) >>> 0, at + 12);
    at += V1_ENTRY;
  }
  return out;
}

interface V2Place {
  readonly flags: number;
  readonly offset: number;
  readonly size: number;
  readonly low: number;
  readonly high: number;
}

/**
 * Chunk info V2, three u64: the uncompressed offset in blocks (32 bits), the size minus one (24), flags (8); the
 * compressed offset (40) and size (24, as it is); a CRC-32C, or where in which unit the chunk lies.
 */
function writeV2(out: Buffer, at: number, chunk: Chunk, { flags, offset, size, low, high }: V2Place): void {
  out.writeUInt32LE(chunk.uncompressedOffset / BLOCK, at);
  out.writeUInt32LE(((flags << 24) | (chunk.uncompressedSize - 1)) >>> 0, at + 4);
  out.writeUInt32LE(offset % 2 ** 32, at + 8);
  out.writeUInt32LE(((size << 8) | Math.floor(offset / 2 ** 32)) >>> 0, at + 12);
  out.writeUInt32LE(low, at + 16);
  out.writeUInt32LE(high, at + 20);
}
