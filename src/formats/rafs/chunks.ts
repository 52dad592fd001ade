/** Chunk indexes of files (struct erofs_inode_chunk_index with Nydus's use of its spare bits) and the chunk info table. */
import { putU64, type Reader } from './bytes.ts';
import { BLOCK, BLOCK_BITS, CHUNK_ENTRY_SIZE, CHUNK_FLAG } from './layout.ts';

/** Bytes of one index entry. */
export const INDEX_SIZE = 8;

/** Where a chunk lies: the blob by its place in the blob table, its number there, its offset in the blob device. */
export interface ChunkIndex {
  readonly blobIndex: number;
  readonly index: number;
  /** Bytes, whole blocks. */
  readonly uncompressedOffset: number;
}

/** startblk_hi = chunk_index[15:0] u16 · device_id = chunk_index[23:16] << 8 | blob_index + 1 u16 · startblk_lo u32 */
export function writeChunkIndex(out: Buffer, at: number, chunk: ChunkIndex): void {
  out.writeUInt16LE(chunk.index & 0xffff, at);
  out.writeUInt16LE(((chunk.index >>> 16) << 8) | (chunk.blobIndex + 1), at + 2);
  out.writeUInt32LE(chunk.uncompressedOffset / BLOCK, at + 4);
}

export function readChunkIndex(reader: Reader, at: number, blockBits = BLOCK_BITS): ChunkIndex {
  const device = reader.u16(at + 2, 'device_id');
  return {
    blobIndex: (device & 0xff) - 1,
    index: ((device >>> 8) << 16) | reader.u16(at, 'startblk_hi'),
    uncompressedOffset: reader.u32(at + 4, 'startblk_lo') * 2 ** blockBits,
  };
}

/** One entry of the chunk info table. */
export interface ChunkEntry extends ChunkIndex {
  readonly digest: Buffer;
  /** Bits of {@link CHUNK_FLAG}. */
  readonly flags: number;
  readonly compressedSize: number;
  readonly uncompressedSize: number;
  readonly compressedOffset: number;
  /** In one of the files that have it. */
  readonly fileOffset: number;
  readonly crc32c: number | null;
}

export function writeChunkEntry(out: Buffer, at: number, entry: ChunkEntry): void {
  entry.digest.copy(out, at, 0, 32); // block_id
  out.writeUInt32LE(entry.blobIndex, at + 32); // blob_index
  out.writeUInt32LE(entry.flags, at + 36); // flags
  out.writeUInt32LE(entry.compressedSize, at + 40); // compressed_size
  out.writeUInt32LE(entry.uncompressedSize, at + 44); // uncompressed_size
  putU64(out, entry.compressedOffset, at + 48); // compressed_offset
  putU64(out, entry.uncompressedOffset, at + 56); // uncompressed_offset
  putU64(out, entry.fileOffset, at + 64); // file_offset
  out.writeUInt32LE(entry.index, at + 72); // index
  out.writeUInt32LE(entry.crc32c ?? 0, at + 76); // crc32
}

export function readChunkEntry(reader: Reader, at: number): ChunkEntry {
  reader.check(at, CHUNK_ENTRY_SIZE, 'chunk table');
  const flags = reader.u32(at + 36, 'flags');
  return {
    digest: Buffer.from(reader.slice(at, 32, 'block_id')),
    blobIndex: reader.u32(at + 32, 'blob_index'),
    flags,
    compressedSize: reader.u32(at + 40, 'compressed_size'),
    uncompressedSize: reader.u32(at + 44, 'uncompressed_size'),
    compressedOffset: reader.u64(at + 48, 'compressed_offset'),
    uncompressedOffset: reader.u64(at + 56, 'uncompressed_offset'),
    fileOffset: reader.u64(at + 64, 'file_offset'),
    index: reader.u32(at + 72, 'index'),
    crc32c: (flags & CHUNK_FLAG.HAS_CRC32) === 0 ? null : reader.u32(at + 76, 'crc32'),
  };
}
