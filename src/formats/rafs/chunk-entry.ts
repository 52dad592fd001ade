/** Entries of the chunk table of a bootstrap, bytes ⇄ object. */
import { bytes, u32, u64 } from '../../binary/fields.ts';
import type { Reader } from '../../binary/reader.ts';
import { struct } from '../../binary/struct.ts';
import type { ChunkIndex } from './chunk-index.ts';
import { CHUNK_FLAG } from './layout.ts';
import { MAX_BLOBS, MAX_CHUNKS } from './limits.ts';

export const CHUNK_ENTRY = struct('RafsV5ChunkInfo', 'nydus rafs/src/metadata/layout/v5.rs', 80, {
  digest: bytes(0, 32, 'block_id', 'BLAKE3 or SHA-256 of the plain bytes'),
  blobIndex: u32(32, 'blob_index', `place in the blob table, below ${MAX_BLOBS}`),
  flags: u32(36, 'flags', 'BlobChunkFlags: 1 compressed, 2 hole (refused), 4 encrypted, 8 batch, 16 has a CRC-32C'),
  compressedSize: u32(40, 'compressed_size', 'bytes as stored; 0 in a batch'),
  uncompressedSize: u32(44, 'uncompressed_size', '1 byte … 16 MiB'),
  compressedOffset: u64(48, 'compressed_offset', 'bytes, in the blob; 0 in a batch'),
  uncompressedOffset: u64(56, 'uncompressed_offset', 'bytes, in the device; whole blocks'),
  fileOffset: u64(64, 'file_offset', 'bytes, in one of the files that have it'),
  index: u32(72, 'index', `number in its blob; at most ${MAX_CHUNKS}`),
  crc32c: u32(76, 'crc32', 'CRC-32C of the plain bytes where the flags say so'),
});
const { fields: ENTRY } = CHUNK_ENTRY;

export const CHUNK_ENTRY_SIZE: number = CHUNK_ENTRY.size;

/** One entry of the chunk table. */
export interface ChunkEntry extends ChunkIndex {
  readonly digest: Buffer;
  /** Bits of {@link CHUNK_FLAG}. */
  readonly flags: number;
  readonly compressedSize: number;
  readonly uncompressedSize: number;
  readonly compressedOffset: number;
  /** Offset in one of the files that have the chunk. */
  readonly fileOffset: number;
  readonly crc32c: number | null;
}

export function writeChunkEntry(out: Buffer, at: number, entry: ChunkEntry): void {
  ENTRY.digest.write(out, at, entry.digest);
  ENTRY.blobIndex.write(out, at, entry.blobIndex);
  ENTRY.flags.write(out, at, entry.flags);
  ENTRY.compressedSize.write(out, at, entry.compressedSize);
  ENTRY.uncompressedSize.write(out, at, entry.uncompressedSize);
  ENTRY.compressedOffset.write(out, at, entry.compressedOffset);
  ENTRY.uncompressedOffset.write(out, at, entry.uncompressedOffset);
  ENTRY.fileOffset.write(out, at, entry.fileOffset);
  ENTRY.index.write(out, at, entry.index);
  ENTRY.crc32c.write(out, at, entry.crc32c ?? 0);
}

/** Reads an entry. Fields are read one by one into one literal, since images have millions of entries. */
export function readChunkEntry(reader: Reader, at: number): ChunkEntry {
  reader.check(at, CHUNK_ENTRY_SIZE, 'chunk table');
  const flags = ENTRY.flags.read(reader, at);
  return {
    digest: Buffer.from(ENTRY.digest.read(reader, at)),
    blobIndex: ENTRY.blobIndex.read(reader, at),
    flags,
    compressedSize: ENTRY.compressedSize.read(reader, at),
    uncompressedSize: ENTRY.uncompressedSize.read(reader, at),
    compressedOffset: ENTRY.compressedOffset.read(reader, at),
    uncompressedOffset: ENTRY.uncompressedOffset.read(reader, at),
    fileOffset: ENTRY.fileOffset.read(reader, at),
    index: ENTRY.index.read(reader, at),
    crc32c: (flags & CHUNK_FLAG.HAS_CRC32) === 0 ? null : ENTRY.crc32c.read(reader, at),
  };
}
