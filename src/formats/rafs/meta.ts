/**
 * The chunk info (CI) of a blob and its header, bytes → objects: `blob.meta` of Nydus (storage/src/meta). For plain
 * blobs it repeats what the chunk table of the bootstrap says; where chunks lie inside batches or gzip streams, only it
 * tells how to reach them:
 *
 *     entries V1 (16 bytes) or V2 (24) · contexts (40 each: batches, or spans of a gzip stream) · windows │ header (4096)
 */
import { MAX_UNIT_SIZE, type Unit, type Within } from '../../blob/table.ts';
import type { Codec } from '../../native/codec.ts';
import { needsMeta, type RafsBlob } from './blob.ts';
import { Reader } from './bytes.ts';
import { permute } from './keyed-hash.ts';
import { alignUp, BLOCK, FEATURE } from './layout.ts';
import { MAX_META_SIZE, MAX_WINDOW } from './limits.ts';

const OP = 'read blob.meta';
/** Bytes of the header behind the chunk info. */
export const CI_HEADER_SIZE = 4096;
export const CI_MAGIC = 0xb10bb10b;
/** Bytes of what there is for each batch or span. */
export const CONTEXT_SIZE = 40;

/** Flags of a V2 entry. Their numbers are not those of the chunk table. */
export const CI_FLAG = { COMPRESSED: 0x1, ZRAN: 0x2, BATCH: 0x4, ENCRYPTED: 0x8, HAS_CRC32: 0x10 } as const;
export const KNOWN_CI_FLAGS = Object.values(CI_FLAG).reduce((all, bit) => all | bit, 0);

/** Bytes of one chunk info entry of a blob with `features`. */
export const chunkInfoSize = (features: number): number => ((features & FEATURE.CHUNK_INFO_V2) === 0 ? 16 : 24);

/** Where chunk info and header lie as they are stored: in the blob, or in the file that {@link RafsBlob.metaDigest} names. */
export function metaRange(blob: RafsBlob): { readonly offset: number; readonly size: number } {
  return { offset: blob.ciOffset, size: blob.ciCompressedSize + CI_HEADER_SIZE };
}

/** Length of the plain `blob.meta`. */
export const metaSize = (blob: RafsBlob): number => alignUp(blob.ciUncompressedSize, BLOCK) + CI_HEADER_SIZE;

/** The blob whose chunk info is too much: `total` bytes with that of the blobs before it. */
export interface ExcessMeta {
  readonly blob: RafsBlob;
  readonly total: number;
}

/** What readers refuse, and writers therefore do not write; null when the chunk info of all `blobs` can be read. */
export function excessMeta(blobs: readonly RafsBlob[]): ExcessMeta | null {
  let total = 0;
  for (const blob of blobs.filter(needsMeta)) {
    total += metaSize(blob);
    if (total > MAX_META_SIZE) return { blob, total };
  }
  return null;
}

export const describeExcess = ({ blob, total }: ExcessMeta): string =>
  `with that of blob ${blob.id} the chunk info of all blobs is ${total} bytes, and at most ${MAX_META_SIZE} are read`;

/**
 * What lies at {@link metaRange} → the plain `blob.meta`: chunk info padded to blocks, then its header. It is decrypted
 * where the blob is encrypted; chunk info and header are a unit each then.
 */
export async function unpackMeta(stored: Buffer, blob: RafsBlob, codec: Codec, subject: string): Promise<Buffer> {
  const { size } = metaRange(blob);
  if (stored.length !== size) {
    throw new Reader(stored, subject, OP).bad('ci_compressed_size', `${stored.length} bytes, not ${size}`, 0);
  }
  const { ciCompressedSize, ciUncompressedSize, ciCompressor, cipher } = blob;
  const isRaw = ciCompressedSize === ciUncompressedSize;
  const decode = (from: number, to: number, plain: number, compressor: 0 | 1 | 2 | 3) => {
    const unit = { compressedOffset: from, compressedSize: to - from, size: plain };
    const how = cipher === null ? { kind: 'batch', compressor } : { kind: 'encrypted', ...cipher, compressor };
    // Larger than a unit may be: 11 million chunks.
    if (cipher === null && compressor === 3) return codec.zstdDecompress(stored.subarray(from, to), plain);
    return codec.decodeUnit(stored.subarray(from, to), { ...unit, decoder: how as Unit['decoder'] });
  };
  const out = Buffer.alloc(metaSize(blob));
  if (ciUncompressedSize > 0) {
    const plain = await decode(0, ciCompressedSize, ciUncompressedSize, isRaw ? 0 : ciCompressor);
    if (plain.length !== ciUncompressedSize) {
      throw new Reader(stored, subject, OP).bad(
        'ci_uncompressed_size',
        `${plain.length} bytes, not ${ciUncompressedSize}`,
        0,
      );
    }
    plain.copy(out);
  }
  const header = stored.subarray(ciCompressedSize);
  (cipher === null ? header : await decode(ciCompressedSize, size, CI_HEADER_SIZE, 0)).copy(
    out,
    out.length - CI_HEADER_SIZE,
  );
  return out;
}

/**
 * FormatError when the header is not the one that the blob table describes. `stored`: as for {@link unpackMeta}, of a blob that
 * is not encrypted.
 */
export const checkMetaHeader = (stored: Buffer, blob: RafsBlob, subject: string): void =>
  checkHeader(new Reader(stored, `${subject}, blob.meta of ${blob.id}`, OP), stored.length - CI_HEADER_SIZE, blob);

function checkHeader(reader: Reader, at: number, blob: RafsBlob): void {
  const expect = (value: number, wanted: number, field: string, offset: number) => {
    if (value !== wanted) throw reader.bad(field, `${value}, and ${wanted} in the blob table`, at + offset);
  };
  if (reader.u32(at, 's_magic') !== CI_MAGIC || reader.u32(at + CI_HEADER_SIZE - 4, 's_magic2') !== CI_MAGIC) {
    throw reader.bad('s_magic', 'not the header of chunk info', at);
  }
  const kinds = FEATURE.CHUNK_INFO_V2 | FEATURE.ZRAN | FEATURE.BATCH | FEATURE.ENCRYPTED;
  expect(reader.u32(at + 4, 's_features') & kinds, blob.features & kinds, 's_features', 4);
  expect(reader.u32(at + 12, 's_ci_entries'), blob.chunkCount, 's_ci_entries', 12);
  expect(reader.u64(at + 32, 's_ci_uncompressed_size'), blob.ciUncompressedSize, 's_ci_uncompressed_size', 32);
}

/** One entry: what V1 and V2 have in common, and what V2 adds. */
export interface ChunkInfoEntry {
  readonly uncompressedOffset: number;
  readonly uncompressedSize: number;
  readonly compressedOffset: number;
  readonly compressedSize: number;
  /** Bits of {@link CI_FLAG}; V1 tells only COMPRESSED, by its sizes. */
  readonly flags: number;
  /** V2: context, and offset in what it decodes to; or the CRC-32C in `offset`. */
  readonly context: number;
  readonly offset: number;
}

/** A blob's chunk info. What is not asked for is not read, and only the header is checked at once. */
export class ChunkInfo {
  /** Entries. */
  readonly length: number;
  /** Batches or spans of the gzip stream. */
  readonly contexts: number;
  readonly #reader: Reader;
  readonly #blob: RafsBlob;
  readonly #contextsAt: number;
  readonly #windowsAt: number;
  /** By permuted number of the context. */
  readonly #units = new Map<number, Unit>();

  /** `meta`: the plain `blob.meta`. FormatError when it is not the one that the blob table describes. */
  constructor(meta: Buffer, blob: RafsBlob, subject: string) {
    const reader = new Reader(meta, `${subject}, blob.meta of ${blob.id}`, OP);
    this.#reader = reader;
    this.#blob = blob;
    if (meta.length !== metaSize(blob)) {
      throw reader.bad('blob.meta', `${meta.length} bytes, not ${metaSize(blob)}`, 0);
    }
    const at = meta.length - CI_HEADER_SIZE;
    const expect = (value: number, wanted: number, field: string, offset: number) => {
      if (value !== wanted) throw reader.bad(field, `${value}, and ${wanted} in the blob table`, at + offset);
    };
    checkHeader(reader, at, blob);
    this.length = blob.chunkCount;
    const entriesEnd = this.length * chunkInfoSize(blob.features);
    if (entriesEnd > blob.ciUncompressedSize) throw reader.bad('s_ci_entries', `${this.length} are too many`, at + 12);
    const hasContexts = (blob.features & (FEATURE.ZRAN | FEATURE.BATCH)) !== 0;
    this.contexts = hasContexts ? reader.u32(at + 56, 's_ci_zran_count') : 0;
    this.#contextsAt = entriesEnd;
    this.#windowsAt = entriesEnd + this.contexts * CONTEXT_SIZE;
    if (!hasContexts) return;
    expect(reader.u64(at + 40, 's_ci_zran_offset'), entriesEnd, 's_ci_zran_offset', 40);
    expect(reader.u64(at + 48, 's_ci_zran_size'), blob.ciUncompressedSize - entriesEnd, 's_ci_zran_size', 48);
    if (this.#windowsAt > blob.ciUncompressedSize) {
      throw reader.bad('s_ci_zran_count', `${this.contexts} contexts are too many`, at + 56);
    }
  }

  /** Entry `index`; FormatError beyond the last. */
  entry(index: number): ChunkInfoEntry {
    if (!(index < this.length)) throw this.#reader.bad('index', `chunk ${index} of ${this.length}`, 0);
    const size = chunkInfoSize(this.#blob.features);
    const entry = decodeChunkInfo(this.#reader, index * size, size);
    if ((entry.flags & ~KNOWN_CI_FLAGS) === 0) return entry;
    throw this.#reader.bad('flags', `unknown bits 0x${entry.flags.toString(16)}`, index * size + 7);
  }

  /** Which part of which unit chunk `index` is; null when it is stored alone. `size`: its plain bytes. */
  within(index: number, size: number): Within | null {
    const { flags, context, offset, compressedOffset, uncompressedSize } = this.entry(index);
    const at = index * 24;
    if (uncompressedSize !== size) {
      throw this.#reader.bad('uncompressed_size', `${uncompressedSize}, and ${size} in the chunk table`, at);
    }
    if ((flags & (CI_FLAG.ZRAN | CI_FLAG.BATCH)) === 0) return null;
    if (context >= this.contexts) throw this.#reader.bad('context', `${context} of ${this.contexts}`, at + 20);
    const isZran = (flags & CI_FLAG.ZRAN) !== 0;
    if (isZran !== ((this.#blob.features & FEATURE.ZRAN) !== 0)) {
      throw this.#reader.bad('flags', 'of another kind than its blob', at + 7);
    }
    let unit = this.#units.get(permute(context));
    if (unit === undefined) {
      unit = isZran ? this.#span(context) : this.#batch(context, compressedOffset);
      this.#units.set(permute(context), unit);
    }
    if (offset + size > unit.size) {
      throw this.#reader.bad('offset', `${offset} + ${size} in a unit of ${unit.size}`, at + 16);
    }
    if (!isZran && unit.compressedOffset !== compressedOffset) {
      throw this.#reader.bad('compressed_offset', 'one batch in two places', at + 8);
    }
    return { unit, offset };
  }

  #batch(context: number, compressedOffset: number): Unit {
    const at = this.#contextsAt + context * CONTEXT_SIZE;
    const { compressedSize, size } = decodeBatch(this.#reader, at);
    this.#checkUnit(at, compressedOffset, compressedSize, size);
    const { cipher, compressor } = this.#blob;
    const decoder = { compressor: storedRaw(compressedSize, size, cipher !== null) ? 0 : compressor } as const;
    return {
      compressedOffset,
      compressedSize,
      size,
      decoder: cipher === null ? { kind: 'batch', ...decoder } : { kind: 'encrypted', ...cipher, ...decoder },
    };
  }

  #span(context: number): Unit {
    const at = this.#contextsAt + context * CONTEXT_SIZE;
    const span = decodeSpan(this.#reader, at);
    const { compressedOffset, compressedSize, size, windowAt, windowSize, bits, byte } = span;
    this.#checkUnit(at, compressedOffset, compressedSize, size);
    if (windowSize > MAX_WINDOW || this.#windowsAt + windowAt + windowSize > this.#blob.ciUncompressedSize) {
      throw this.#reader.bad('dict_size', `${windowSize} bytes at ${windowAt} are no window`, at + 32);
    }
    if (bits > 7 || (bits > 0 && compressedOffset === 0)) throw this.#reader.bad('ctx_bits', `${bits} bits`, at + 37);
    const window = this.#reader.slice(this.#windowsAt + windowAt, windowSize, 'dict');
    return { compressedOffset, compressedSize, size, decoder: { kind: 'zran', window, bits, byte } };
  }

  #checkUnit(at: number, offset: number, stored: number, size: number): void {
    if (stored === 0 || stored > MAX_UNIT_SIZE || size === 0 || size > MAX_UNIT_SIZE) {
      throw this.#reader.bad('context', `impossible size ${stored} → ${size}`, at);
    }
    if (offset + stored > this.#blob.compressedSize) throw this.#reader.bad('context', 'runs out of the blob', at);
  }
}

/** The entry at `at`, `size` bytes of it, nothing checked but that it is there. */
export const decodeChunkInfo = (reader: Reader, at: number, size: number): ChunkInfoEntry =>
  size === 16 ? decodeV1(reader, at) : decodeV2(reader, at);

/** Bits 12…43 offset, 44…63 and 8…11 size − 1; bits 0…39 stored offset, 44…63 and 40…43 stored size − 1. */
function decodeV1(reader: Reader, at: number): ChunkInfoEntry {
  const [low, high] = [reader.u32(at, 'chunk info'), reader.u32(at + 4, 'chunk info')];
  const [storedLow, storedHigh] = [reader.u32(at + 8, 'chunk info'), reader.u32(at + 12, 'chunk info')];
  const uncompressedSize = ((((low >>> 8) & 0xf) << 20) | (high >>> 12)) + 1;
  const compressedSize = ((((storedHigh >>> 8) & 0xf) << 20) | (storedHigh >>> 12)) + 1;
  return {
    uncompressedOffset: (high & 0xfff) * 2 ** 32 + ((low & 0xfffff000) >>> 0),
    uncompressedSize,
    compressedOffset: (storedHigh & 0xff) * 2 ** 32 + storedLow,
    compressedSize,
    flags: compressedSize === uncompressedSize ? 0 : CI_FLAG.COMPRESSED,
    context: 0,
    offset: 0,
  };
}

/** Bits 0…31 offset / 4096, 32…55 size − 1, 56…63 flags; 0…39 stored offset, 40…63 stored size; context and offset. */
function decodeV2(reader: Reader, at: number): ChunkInfoEntry {
  const high = reader.u32(at + 4, 'chunk info');
  const storedHigh = reader.u32(at + 12, 'chunk info');
  return {
    uncompressedOffset: reader.u32(at, 'chunk info') * BLOCK,
    uncompressedSize: (high & 0xff_ffff) + 1,
    compressedOffset: (storedHigh & 0xff) * 2 ** 32 + reader.u32(at + 8, 'chunk info'),
    compressedSize: storedHigh >>> 8,
    flags: high >>> 24,
    context: reader.u32(at + 20, 'chunk info'),
    offset: reader.u32(at + 16, 'chunk info'),
  };
}

/** compressed_size u32 · uncompressed_batch_size u32 · reserved[32] */
export const decodeBatch = (reader: Reader, at: number): { compressedSize: number; size: number } => ({
  compressedSize: reader.u32(at, 'compressed_size'),
  size: reader.u32(at + 4, 'uncompressed_batch_size'),
});

/** A span of a gzip stream; offsets in it and in its plain text, of the window in the area of all windows. */
export interface SpanContext {
  readonly compressedOffset: number;
  readonly compressedSize: number;
  readonly plainOffset: number;
  readonly size: number;
  readonly windowAt: number;
  readonly windowSize: number;
  readonly byte: number;
  readonly bits: number;
}

/**
 * in_offset u64 · out_offset u64 · dict_offset u64 · in_len u32 · out_len u32 · dict_size u32 · ctx_byte u8 · ctx_bits
 * u8 · reserved[2]
 */
export const decodeSpan = (reader: Reader, at: number): SpanContext => ({
  compressedOffset: reader.u64(at, 'in_offset'),
  plainOffset: reader.u64(at + 8, 'out_offset'),
  windowAt: reader.u64(at + 16, 'dict_offset'),
  compressedSize: reader.u32(at + 24, 'in_len'),
  size: reader.u32(at + 28, 'out_len'),
  windowSize: reader.u32(at + 32, 'dict_size'),
  byte: reader.u8(at + 36, 'ctx_byte'),
  bits: reader.u8(at + 37, 'ctx_bits'),
});

/** An encrypted unit is at least one block of 16 bytes and what marks its padding (nydus, utils/src/crypt.rs). */
const PADDED_SIZE = 18;
const CIPHER_BLOCK = 16;

/** Whether `stored` bytes are `plain` ones as they are, encrypted or not. */
export function storedRaw(stored: number, plain: number, isEncrypted: boolean): boolean {
  return stored === plain || (isEncrypted && plain < CIPHER_BLOCK && stored === PADDED_SIZE);
}
