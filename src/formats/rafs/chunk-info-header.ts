/** The header that follows the chunk info, in the blob and in `blob.meta`. */
import { type IntField, u32, u64, zeros } from '../../binary/fields.ts';
import type { Reader } from '../../binary/reader.ts';
import { struct } from '../../binary/struct.ts';
import type { RafsBlob } from './blob.ts';
import { FEATURE, META_RS } from './layout.ts';

const CI_MAGIC = 0xb10bb10b;

export const CI_HEADER = struct('BlobCompressionContextHeader', `${META_RS}/mod.rs`, 4096, {
  magic: u32(0, 's_magic', '', CI_MAGIC),
  features: u32(4, 's_features', 'BlobFeatures'),
  compressor: u32(8, 's_ci_compressor', 'ci_compressor of the blob table'),
  count: u32(12, 's_ci_entries', 'chunk_count of the blob table'),
  offset: u64(16, 's_ci_offset', 'ci_offset of the blob table'),
  compressedSize: u64(24, 's_ci_compressed_size', 'ci_compressed_size of the blob table'),
  uncompressedSize: u64(32, 's_ci_uncompressed_size', 'ci_uncompressed_size of the blob table'),
  contextsOffset: u64(40, 's_ci_zran_offset', 'of the contexts in the plain chunk info: the end of the entries'),
  contextsSize: u64(48, 's_ci_zran_size', 'bytes of the contexts and windows'),
  contextsCount: u32(56, 's_ci_zran_count', 'batches, or spans of the gzip stream'),
  reserved: zeros(60, 4032, 's_reserved'),
  magic2: u32(4092, 's_magic2', '', CI_MAGIC),
});
const { fields: HEADER } = CI_HEADER;

export const CI_HEADER_SIZE: number = CI_HEADER.size;

/** Checks the fields that locate chunks. Throws FormatError when one differs from the blob table. */
export function checkCiHeader(reader: Reader, at: number, blob: RafsBlob): void {
  if (HEADER.magic.read(reader, at) !== CI_MAGIC || HEADER.magic2.read(reader, at) !== CI_MAGIC) {
    throw HEADER.magic.bad(reader, at, 'not the header of chunk info');
  }
  const kinds = FEATURE.CHUNK_INFO_V2 | FEATURE.ZRAN | FEATURE.BATCH | FEATURE.ENCRYPTED;
  expectField(reader, at, HEADER.features, blob.features & kinds, kinds);
  expectField(reader, at, HEADER.count, blob.chunkCount);
  expectField(reader, at, HEADER.uncompressedSize, blob.ciUncompressedSize);
}

/** Throws FormatError unless a field has the value of the blob table. `mask`: the compared bits, of 32. */
export function expectField(reader: Reader, at: number, field: IntField, wanted: number, mask?: number): void {
  const stored = field.read(reader, at);
  const value = mask === undefined ? stored : stored & mask;
  if (value !== wanted) throw field.bad(reader, at, `${value}, but ${wanted} in the blob table`);
}
