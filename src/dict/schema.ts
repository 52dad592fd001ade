/** The layout of a dictionary's database, and its rows ⇄ objects. */
import type { RafsBlob } from '../formats/rafs/blob.ts';
import type { Compressor, Digester } from '../native/addon.ts';
import type { DictBlob } from './dict.ts';

/** In `user_version`. A file of another version is refused, not guessed at. */
export const SCHEMA_VERSION = 1;
/** In `application_id`: "LCdc". */
export const APPLICATION_ID = 0x4c436463;

/**
 * `blobs.number` is the order in which blobs came, and of two that have a chunk the first one is preferred. A chunk is
 * known by its digest; digester and chunk size are its blob's, and how it is compressed does not matter. There is no index
 * from blobs to chunks: it would double the file to make forgetting a blob, which is rare, faster.
 */
export const SCHEMA = `
CREATE TABLE blobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE CHECK (length(id) = 64 AND id NOT GLOB '*[^0-9a-f]*'),
  size INTEGER NOT NULL CHECK (size >= 0),
  chunk_size INTEGER NOT NULL,
  chunk_count INTEGER NOT NULL,
  compressor INTEGER NOT NULL CHECK (compressor BETWEEN 0 AND 3),
  digester INTEGER NOT NULL CHECK (digester BETWEEN 0 AND 1),
  features INTEGER NOT NULL,
  compressed_size INTEGER NOT NULL,
  uncompressed_size INTEGER NOT NULL,
  toc_size INTEGER NOT NULL,
  toc_digest BLOB NOT NULL CHECK (length(toc_digest) = 32),
  ci_compressor INTEGER NOT NULL CHECK (ci_compressor BETWEEN 0 AND 3),
  ci_offset INTEGER NOT NULL,
  ci_compressed_size INTEGER NOT NULL,
  ci_uncompressed_size INTEGER NOT NULL,
  meta BLOB
) STRICT;
CREATE TABLE chunks (
  digest BLOB NOT NULL CHECK (length(digest) = 32),
  blob INTEGER NOT NULL REFERENCES blobs (number) ON DELETE CASCADE,
  place INTEGER NOT NULL CHECK (place >= 0),
  compressor INTEGER NOT NULL CHECK (compressor BETWEEN 0 AND 3),
  uncompressed_offset INTEGER NOT NULL CHECK (uncompressed_offset >= 0),
  uncompressed_size INTEGER NOT NULL CHECK (uncompressed_size > 0),
  compressed_offset INTEGER NOT NULL CHECK (compressed_offset >= 0),
  compressed_size INTEGER NOT NULL CHECK (compressed_size > 0),
  crc32c INTEGER,
  PRIMARY KEY (digest, blob, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE places (
  blob INTEGER NOT NULL REFERENCES blobs (number) ON DELETE CASCADE,
  place TEXT NOT NULL,
  UNIQUE (blob, place)
) STRICT;
PRAGMA application_id = ${APPLICATION_ID};
PRAGMA user_version = ${SCHEMA_VERSION};
`;

export interface BlobRow {
  readonly number: number;
  readonly id: string;
  readonly size: number;
  readonly chunk_size: number;
  readonly chunk_count: number;
  readonly compressor: number;
  readonly digester: number;
  readonly features: number;
  readonly compressed_size: number;
  readonly uncompressed_size: number;
  readonly toc_size: number;
  readonly toc_digest: Buffer;
  readonly ci_compressor: number;
  readonly ci_offset: number;
  readonly ci_compressed_size: number;
  readonly ci_uncompressed_size: number;
  readonly meta: Buffer | null;
}

/** Columns of a blob, without its number. */
export const BLOB_COLUMNS = [
  ...['id', 'size', 'chunk_size', 'chunk_count', 'compressor', 'digester', 'features', 'compressed_size'],
  ...['uncompressed_size', 'toc_size', 'toc_digest', 'ci_compressor', 'ci_offset', 'ci_compressed_size'],
  ...['ci_uncompressed_size', 'meta'],
];

export const rowOf = ({ blob, size, meta }: DictBlob): Omit<BlobRow, 'number'> => ({
  id: blob.id,
  size,
  chunk_size: blob.chunkSize,
  chunk_count: blob.chunkCount,
  compressor: blob.compressor,
  digester: blob.digester,
  features: blob.features,
  compressed_size: blob.compressedSize,
  uncompressed_size: blob.uncompressedSize,
  toc_size: blob.tocSize,
  toc_digest: blob.tocDigest,
  ci_compressor: blob.ciCompressor,
  ci_offset: blob.ciOffset,
  ci_compressed_size: blob.ciCompressedSize,
  ci_uncompressed_size: blob.ciUncompressedSize,
  meta,
});

/** Blobs with a cipher or with chunk info of their own are never added. */
export const blobOf = (row: BlobRow): RafsBlob => ({
  id: row.id,
  chunkSize: row.chunk_size,
  chunkCount: row.chunk_count,
  compressor: row.compressor as Compressor,
  digester: row.digester as Digester,
  features: row.features,
  compressedSize: row.compressed_size,
  uncompressedSize: row.uncompressed_size,
  tocSize: row.toc_size,
  tocDigest: row.toc_digest,
  ciCompressor: row.ci_compressor as Compressor,
  ciOffset: row.ci_offset,
  ciCompressedSize: row.ci_compressed_size,
  ciUncompressedSize: row.ci_uncompressed_size,
  cipher: null,
  metaDigest: null,
  metaSize: 0,
});
