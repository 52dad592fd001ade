/**
 * The chunk table of a blob device: for each range of the blob's uncompressed address space its place in the remote blob,
 * its encoding and its digest. The entries of a store's chunk map are the same 64-byte records.
 *
 * No I/O here. The native reader of these bytes is `native/blobfs/src/table.rs`.
 */
import { FormatError } from '../errors.ts';
import type { Compressor, Decoder, Digester } from '../native/addon.ts';

export type { Decoder } from '../native/addon.ts';

/** One chunk. Offsets and sizes in bytes. */
export interface Chunk {
  /** Place in the device (uncompressed address space); a multiple of the block size. */
  readonly uncompressedOffset: number;
  /** Length of the plain content in bytes. */
  readonly uncompressedSize: number;
  /** Place in the remote blob. */
  readonly compressedOffset: number;
  /** Length of the stored bytes; of the whole unit where `within` is set. */
  readonly compressedSize: number;
  /** Encoding of the stored bytes; 0 also for a single chunk that is stored raw. */
  readonly compressor: Compressor;
  /** The hash function of `digest`. */
  readonly digester: Digester;
  /** 32 bytes, of the plain content. */
  readonly digest: Buffer;
  /**
   * Null when the chunk is stored alone. Otherwise the chunk is a part of a {@link Unit}, which is fetched and decoded
   * whole; compressed offset and size are then those of the unit.
   */
  readonly within: Within | null;
}

/** The bytes `offset` … `offset + uncompressedSize − 1` of what `unit` decodes to. Chunks of one unit share the object. */
export interface Within {
  /** The unit that contains the chunk. */
  readonly unit: Unit;
  /** First byte of the chunk in what the unit decodes to. */
  readonly offset: number;
}

/** A range of the remote blob that is fetched and decoded as a whole, and all that decoding needs. */
export interface Unit {
  /** Place in the remote blob. */
  readonly compressedOffset: number;
  /** Length of the stored bytes. */
  readonly compressedSize: number;
  /** Exact length of the decoded bytes. */
  readonly size: number;
  /** Decoder of the stored bytes, with its state. */
  readonly decoder: Decoder;
}

/**
 * Record layout, little-endian:
 * 0 uncompressed_offset u64 · 8 compressed_offset u64 · 16 compressed_size u32 · 20 uncompressed_size u32 ·
 * 24 compressor u8 · 25 digester u8 · 26 flags u16 · 28 check u32 · 32 digest[32]
 * flags and check are 0 in a table; in a map entry (`native/blobfs/src/map.rs`) flags say whether the chunk is present,
 * unverified or removed, and check is the CRC-32C of the record with this field 0.
 */
export const RECORD_SIZE = 64;

/** Bytes of a chunk's digest, BLAKE3 or SHA-256. */
export const DIGEST_SIZE = 32;

/** The largest chunk of any format we read, RAFS v6: 16 MiB. */
export const MAX_CHUNK_SIZE = 16 * 1024 * 1024;

/** The largest unit, stored or decoded: a span of a gzip stream with a chunk of the largest size at its end. */
export const MAX_UNIT_SIZE = 32 * 1024 * 1024;

/** Encodes chunks, which must be sorted by uncompressed offset. */
export function encodeTable(chunks: readonly Chunk[]): Buffer {
  const out = Buffer.alloc(chunks.length * RECORD_SIZE);
  let at = 0;
  for (const chunk of chunks) {
    out.writeBigUInt64LE(BigInt(chunk.uncompressedOffset), at);
    out.writeBigUInt64LE(BigInt(chunk.compressedOffset), at + 8);
    out.writeUInt32LE(chunk.compressedSize, at + 16);
    out.writeUInt32LE(chunk.uncompressedSize, at + 20);
    out[at + 24] = chunk.compressor;
    out[at + 25] = chunk.digester;
    chunk.digest.copy(out, at + 32, 0, 32);
    at += RECORD_SIZE;
  }
  return out;
}

/** A chunk table that is read in place: a blob of a million chunks is one buffer without objects. */
export class ChunkTable {
  readonly bytes: Buffer;
  readonly length: number;

  /**
   * FORMAT when a record has an impossible size or does not follow the one before it; `isChecked` skips that check.
   * `subject` names the blob.
   */
  constructor(bytes: Buffer, subject: string, { isChecked = false }: { readonly isChecked?: boolean } = {}) {
    if (bytes.length % RECORD_SIZE !== 0) {
      throw new FormatError('chunk table', `${bytes.length} bytes, not a multiple of ${RECORD_SIZE}`, { subject });
    }
    this.bytes = bytes;
    this.length = bytes.length / RECORD_SIZE;
    if (!isChecked) this.#check(subject);
  }

  #check(subject: string): void {
    let end = 0;
    for (let index = 0; index < this.length; index++) {
      const start = this.uncompressedOffset(index);
      const size = this.uncompressedSize(index);
      const stored = this.compressedSize(index);
      const offset = index * RECORD_SIZE;
      if (start < end) throw new FormatError(`chunk ${index}`, 'overlaps the one before it', { subject, offset });
      // The stored size of a chunk within a unit is that of the unit.
      if (size === 0 || size > MAX_CHUNK_SIZE || stored === 0 || stored > MAX_UNIT_SIZE) {
        throw new FormatError(`chunk ${index}`, `impossible size: ${stored} bytes stored, ${size} bytes decoded`, {
          subject,
          offset,
        });
      }
      if (!Number.isSafeInteger(this.compressedOffset(index) + stored) || !Number.isSafeInteger(start + size)) {
        throw new FormatError(`chunk ${index}`, 'ends beyond 2^53', { subject, offset });
      }
      end = start + size;
    }
  }

  uncompressedOffset(index: number): number {
    return readU64(this.bytes, index * RECORD_SIZE);
  }

  uncompressedSize(index: number): number {
    return this.bytes.readUInt32LE(index * RECORD_SIZE + 20);
  }

  compressedOffset(index: number): number {
    return readU64(this.bytes, index * RECORD_SIZE + 8);
  }

  compressedSize(index: number): number {
    return this.bytes.readUInt32LE(index * RECORD_SIZE + 16);
  }

  /** Index of the first chunk that begins at or behind `offset` of the device; {@link length} when there is none. */
  firstFrom(offset: number): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.uncompressedOffset(middle) < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Avoids BigInt for speed. A value beyond 2^53 is inexact, and not a safe integer. */
const readU64 = (bytes: Buffer, at: number): number => bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 2 ** 32;
