/** Entries of the blob table, bytes ⇄ object. */
import { bytes, text, u32, u64, zeros } from '../../binary/fields.ts';
import type { Reader } from '../../binary/reader.ts';
import { struct } from '../../binary/struct.ts';
import type { RafsBlob } from './blob.ts';
import { FEATURE, V6_RS } from './layout.ts';
import { MAX_CHUNKS, MAX_TOC_SIZE } from './limits.ts';

/** cipher_algo of AES-128-XTS; 0 means that the blob is not encrypted. */
export const CIPHER_AES_128_XTS = 1;

const COMPRESSOR = '0 none, 1 lz4, 2 gzip, 3 zstd';

export const BLOB_ENTRY = struct('RafsV6Blob', V6_RS, 256, {
  id: text(0, 64, 'blob_id', 'lower-case hex sha256 of the blob, or 64 times `x` in a bootstrap inside its blob'),
  index: u32(64, 'blob_index', 'place in the table'),
  chunkSize: u32(68, 'chunk_size', 'bytes'),
  chunkCount: u32(72, 'chunk_count', `at most ${MAX_CHUNKS}`),
  compressor: u32(76, 'compression_algo', COMPRESSOR),
  digester: u32(80, 'digest_algo', '0 BLAKE3, 1 SHA-256'),
  features: u32(84, 'features', 'BlobFeatures'),
  compressedSize: u64(88, 'compressed_size', 'bytes of the whole blob; at most 1 TiB'),
  uncompressedSize: u64(96, 'uncompressed_size', 'bytes of the device, whole blocks; at most 16 TiB'),
  tocSize: u32(104, 'blob_toc_size', `bytes with the tar header; at most ${MAX_TOC_SIZE}`),
  ciCompressor: u32(108, 'ci_compressor', COMPRESSOR),
  ciOffset: u64(112, 'ci_offset', 'chunk info: bytes, in the blob or a file of its own'),
  ciCompressedSize: u64(120, 'ci_compressed_size', 'bytes; not more than the next'),
  ciUncompressedSize: u64(128, 'ci_uncompressed_size', 'bytes; at most 256 MiB'),
  tocDigest: bytes(136, 32, 'blob_toc_digest', 'sha256; zeros where there is no table of contents'),
  variant: bytes(168, 88, 'blob_meta_digest … reserved2', 'RafsV6Blob.cipher with ENCRYPTED, else RafsV6Blob.meta'),
});

/** End of the entry of a blob that is not encrypted: its chunk info file, if it has one (SEPARATE). */
export const BLOB_META_FILE = struct('RafsV6Blob.meta', V6_RS, 88, {
  metaDigest: bytes(0, 32, 'blob_meta_digest', 'sha256 of the file, else zeros'),
  metaSize: u64(32, 'blob_meta_size', 'bytes of the file'),
  reserved: zeros(40, 8),
  algorithm: u32(48, 'cipher_algo', '', 0),
  reserved2: zeros(52, 36, 'reserved2'),
});

/** End of the entry of an encrypted blob. */
export const BLOB_CIPHER = struct('RafsV6Blob.cipher', V6_RS, 88, {
  key: bytes(0, 32, 'cipher_key', 'two AES-128 keys'),
  iv: bytes(32, 16, 'cipher_iv', 'the tweak of every data unit'),
  algorithm: u32(48, 'cipher_algo', 'AES-128-XTS; 2 and 3 (AES-256) are refused', CIPHER_AES_128_XTS),
  reserved2: zeros(52, 36, 'reserved2'),
});

/** Offset of the last 88 bytes in an entry. */
export const BLOB_VARIANT_AT: number = BLOB_ENTRY.fields.variant.at;
export const BLOB_ENTRY_SIZE: number = BLOB_ENTRY.size;

export function writeBlobEntry(out: Buffer, at: number, index: number, blob: RafsBlob): void {
  const { cipher, metaDigest, metaSize } = blob;
  BLOB_ENTRY.encode(out, at, { ...blob, index });
  if (cipher !== null) BLOB_CIPHER.encode(out, at + BLOB_VARIANT_AT, cipher);
  else BLOB_META_FILE.encode(out, at + BLOB_VARIANT_AT, metaDigest === null ? { metaSize } : { metaDigest, metaSize });
}

/** A decoded entry. Its id may be invalid, and its compressors and digester may be unknown numbers. */
export interface RawBlobEntry extends Omit<RafsBlob, 'compressor' | 'digester' | 'ciCompressor'> {
  readonly compressor: number;
  readonly digester: number;
  readonly ciCompressor: number;
}

/** Decodes the entry at `at` without checking values. Throws FormatError beyond the end. */
export function decodeBlobEntry(reader: Reader, at: number): RawBlobEntry {
  const { index: _, variant: __, ...entry } = BLOB_ENTRY.decode(reader, at);
  const raw = { ...entry, tocDigest: Buffer.from(entry.tocDigest) };
  if ((raw.features & FEATURE.ENCRYPTED) !== 0) {
    const { key, iv } = BLOB_CIPHER.decode(reader, at + BLOB_VARIANT_AT);
    return { ...raw, cipher: { key: Buffer.from(key), iv: Buffer.from(iv) }, metaDigest: null, metaSize: 0 };
  }
  const { metaDigest, metaSize } = BLOB_META_FILE.decode(reader, at + BLOB_VARIANT_AT);
  const isNone = metaDigest.every((byte) => byte === 0);
  return { ...raw, cipher: null, metaDigest: isNone ? null : Buffer.from(metaDigest), metaSize };
}
