/**
 * The chunk table of a blob device: which range of the blob's uncompressed address space lies where in the remote
 * blob, how it is encoded, and what it hashes to. The same 64-byte records are the entries of a store's chunk map.
 *
 * No I/O here. The native reader of these bytes is `native/blobfs/src/table.rs`.
 */
import type { Compressor, Digester } from '../native/addon.ts';

/** One chunk. Offsets and sizes in bytes. */
export interface Chunk {
  /** Place in the device (uncompressed address space); a multiple of the block size. */
  readonly uncompressedOffset: number;
  readonly uncompressedSize: number;
  /** Place in the remote blob. */
  readonly compressedOffset: number;
  readonly compressedSize: number;
  /** How the stored bytes are encoded; 0 also where the chunk alone was kept raw. */
  readonly compressor: Compressor;
  readonly digester: Digester;
  /** 32 bytes, of the plain content. */
  readonly digest: Buffer;
}

/**
 * Record layout, little-endian:
 * 0 uncompressed_offset u64 · 8 compressed_offset u64 · 16 compressed_size u32 · 20 uncompressed_size u32 ·
 * 24 compressor u8 · 25 digester u8 · 26 reserved u16 (0) · 28 check u32 (0 in a table; in a map entry the CRC-32C of
 * the record with this field 0) · 32 digest[32]
 */
export const RECORD_SIZE = 64;

/** The largest chunk of any format we read, RAFS v6: 16 MiB. */
export const MAX_CHUNK_SIZE = 16 * 1024 * 1024;

/** Chunks, already sorted by uncompressed offset, as table bytes. */
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
