/** Device slots (struct erofs_deviceslot) and Nydus's blob table, bytes ⇄ {@link RafsBlob}. */
import type { Compressor, Digester } from '../../native/addon.ts';
import { needsMeta, type RafsBlob } from './blob.ts';
import { putU64, type Reader } from './bytes.ts';
import {
  BLOB_ENTRY_SIZE,
  BLOCK,
  BLOCK_BITS,
  DEVICE_SLOT_SIZE,
  DEVICE_TABLE_OFFSET,
  FEATURE,
  NAMELESS_BLOB,
} from './layout.ts';
import { MAX_BLOB_COMPRESSED, MAX_BLOB_UNCOMPRESSED, MAX_CHUNKS, MAX_META_SIZE, MAX_TOC_SIZE } from './limits.ts';
import { chunkInfoSize } from './meta.ts';
import type { Superblock } from './superblock.ts';

/** cipher_algo; 0 is none. */
export const CIPHER_AES_128_XTS = 1;

export const HEX64 = /^[0-9a-f]{64}$/;

/** `mapped`: first block of the device in the flat address space of all devices. */
export function writeDeviceSlot(out: Buffer, index: number, blob: RafsBlob, mapped: number): void {
  const at = DEVICE_TABLE_OFFSET + index * DEVICE_SLOT_SIZE;
  out.write(blob.id, at, 'latin1'); // tag
  out.writeUInt32LE(blob.uncompressedSize / BLOCK, at + 64); // blocks
  out.writeUInt32LE(mapped, at + 68); // mapped_blkaddr
}

export function writeBlobEntry(out: Buffer, tableOffset: number, index: number, blob: RafsBlob): void {
  const at = tableOffset + index * BLOB_ENTRY_SIZE;
  out.write(blob.id, at, 'latin1'); // blob_id
  out.writeUInt32LE(index, at + 64); // blob_index
  out.writeUInt32LE(blob.chunkSize, at + 68); // chunk_size
  out.writeUInt32LE(blob.chunkCount, at + 72); // chunk_count
  out.writeUInt32LE(blob.compressor, at + 76); // compression_algo
  out.writeUInt32LE(blob.digester, at + 80); // digest_algo
  out.writeUInt32LE(blob.features, at + 84); // features
  putU64(out, blob.compressedSize, at + 88); // compressed_size
  putU64(out, blob.uncompressedSize, at + 96); // uncompressed_size
  out.writeUInt32LE(blob.tocSize, at + 104); // blob_toc_size
  out.writeUInt32LE(blob.ciCompressor, at + 108); // ci_compressor
  putU64(out, blob.ciOffset, at + 112); // ci_offset
  putU64(out, blob.ciCompressedSize, at + 120); // ci_compressed_size
  putU64(out, blob.ciUncompressedSize, at + 128); // ci_uncompressed_size
  blob.tocDigest.copy(out, at + 136, 0, 32); // blob_toc_digest
  blob.metaDigest?.copy(out, at + 168, 0, 32); // blob_meta_digest
  putU64(out, blob.metaSize, at + 200); // blob_meta_size
  if (blob.cipher === null) return;
  // An encrypted blob has key and tweak in these places.
  blob.cipher.key.copy(out, at + 168, 0, 32);
  blob.cipher.iv.copy(out, at + 200, 0, 16);
  out.writeUInt32LE(CIPHER_AES_128_XTS, at + 216); // cipher_algo
}

/**
 * Reads entry `index` and checks it against its device slot. `outsideId` names a blob whose bootstrap lies inside
 * it and cannot. Throws UNSUPPORTED for kinds of blobs that this version does not read.
 */
export function readBlobEntry(
  reader: Reader,
  superblock: Superblock,
  index: number,
  outsideId: string | null,
): RafsBlob {
  const at = superblock.blobTableOffset + index * BLOB_ENTRY_SIZE;
  reader.check(at, BLOB_ENTRY_SIZE, 'blob table');
  const id = readId(reader, at, outsideId);
  const slot = DEVICE_TABLE_OFFSET + index * DEVICE_SLOT_SIZE;
  if (reader.text(slot, 64, 'device tag') !== reader.text(at, 64, 'blob_id')) {
    throw reader.bad('device tag', 'names another blob than the blob table', slot);
  }
  if (reader.u32(at + 64, 'blob_index') !== index)
    throw reader.bad('blob_index', 'not its place in the table', at + 64);
  const entry = decodeBlobEntry(reader, at);
  checkFeatures(reader, at + 84, entry.features, id, superblock.blockBits !== BLOCK_BITS);
  checkCipher(reader, at, entry.features);
  const blob: RafsBlob = {
    ...entry,
    id,
    compressor: compressorOf(reader, at + 76, entry.compressor, 'compression_algo'),
    digester: digesterOf(reader, at + 80, entry.digester),
    ciCompressor: compressorOf(reader, at + 108, entry.ciCompressor, 'ci_compressor'),
  };
  checkSizes(reader, at, blob);
  const blocks = reader.u32(slot + 64, 'device blocks');
  if (blocks !== Math.floor(blob.uncompressedSize / 2 ** superblock.blockBits)) {
    throw reader.bad('device blocks', `${blocks} blocks for ${blob.uncompressedSize} bytes`, slot + 64);
  }
  return blob;
}

/** Ids become file names and URLs, so nothing but lower-case hex gets through. */
function readId(reader: Reader, at: number, outsideId: string | null): string {
  const stored = reader.text(at, 64, 'blob_id');
  if (stored === NAMELESS_BLOB) {
    if (outsideId !== null && HEX64.test(outsideId)) return outsideId;
    throw reader.bad(
      'blob_id',
      'the bootstrap was taken out of its blob and does not know its id: name the file ID.boot',
      at,
    );
  }
  if (!HEX64.test(stored)) throw reader.bad('blob_id', 'not 64 lower-case hex digits', at);
  return stored;
}

function compressorOf(reader: Reader, at: number, value: number, field: string): Compressor {
  if (value > 3) throw reader.bad(field, `unknown compressor ${value}`, at);
  return value as Compressor;
}

function digesterOf(reader: Reader, at: number, value: number): Digester {
  if (value > 1) throw reader.bad('digest_algo', `unknown digester ${value}`, at);
  return value as Digester;
}

/** An entry as it is: its id need not be one, compressors and digester are numbers that may be unknown. */
export interface RawBlobEntry extends Omit<RafsBlob, 'compressor' | 'digester' | 'ciCompressor'> {
  readonly compressor: number;
  readonly digester: number;
  readonly ciCompressor: number;
}

/** The entry at `at`, nothing checked but that it is there. */
export function decodeBlobEntry(reader: Reader, at: number): RawBlobEntry {
  const features = reader.u32(at + 84, 'features');
  return {
    id: reader.text(at, 64, 'blob_id'),
    chunkSize: reader.u32(at + 68, 'chunk_size'),
    chunkCount: reader.u32(at + 72, 'chunk_count'),
    compressor: reader.u32(at + 76, 'compression_algo'),
    digester: reader.u32(at + 80, 'digest_algo'),
    features,
    compressedSize: reader.u64(at + 88, 'compressed_size'),
    uncompressedSize: reader.u64(at + 96, 'uncompressed_size'),
    tocSize: reader.u32(at + 104, 'blob_toc_size'),
    ciCompressor: reader.u32(at + 108, 'ci_compressor'),
    ciOffset: reader.u64(at + 112, 'ci_offset'),
    ciCompressedSize: reader.u64(at + 120, 'ci_compressed_size'),
    ciUncompressedSize: reader.u64(at + 128, 'ci_uncompressed_size'),
    tocDigest: Buffer.from(reader.slice(at + 136, 32, 'blob_toc_digest')),
    ...decodeMetaOrCipher(reader, at, features),
  };
}

/**
 * The same bytes are key and tweak of an encrypted blob, digest and length of the chunk info's file of a referenced
 * layer.
 */
function decodeMetaOrCipher(
  reader: Reader,
  at: number,
  features: number,
): Pick<RafsBlob, 'cipher' | 'metaDigest' | 'metaSize'> {
  if ((features & FEATURE.ENCRYPTED) !== 0) {
    const key = Buffer.from(reader.slice(at + 168, 32, 'cipher_key'));
    return { cipher: { key, iv: Buffer.from(reader.slice(at + 200, 16, 'cipher_iv')) }, metaDigest: null, metaSize: 0 };
  }
  const digest = Buffer.from(reader.slice(at + 168, 32, 'blob_meta_digest'));
  const isNone = digest.every((byte) => byte === 0);
  return { cipher: null, metaDigest: isNone ? null : digest, metaSize: reader.u64(at + 200, 'blob_meta_size') };
}

function checkCipher(reader: Reader, at: number, features: number): void {
  const algorithm = reader.u32(at + 216, 'cipher_algo');
  const isEncrypted = (features & FEATURE.ENCRYPTED) !== 0;
  if (algorithm === (isEncrypted ? CIPHER_AES_128_XTS : 0)) return;
  if (algorithm === 2 || algorithm === 3)
    throw reader.unsupported('a blob encrypted with AES-256', 'no tool writes such blobs');
  throw reader.bad('cipher_algo', `${algorithm} for a blob that is ${isEncrypted ? '' : 'not '}encrypted`, at + 216);
}

/** Bits below 0x10000 change what a blob is; those above only say what else lies in it. */
const INCOMPATIBLE = 0xffff;
const KNOWN = Object.values(FEATURE).reduce((all, bit) => all | bit, 0);

function checkFeatures(reader: Reader, at: number, features: number, id: string, isTarfs: boolean): void {
  const has = (bit: number) => (features & bit) !== 0;
  const unknown = features & INCOMPATIBLE & ~KNOWN;
  if (unknown !== 0) {
    throw reader.unsupported(`blob ${id}: the feature 0x${unknown.toString(16)}`, 'a newer tool made it');
  }
  if (has(FEATURE.TARFS) !== isTarfs) throw reader.bad('features', 'tarfs blobs and others in one image', at);
  if (isTarfs) return;
  if (!has(FEATURE.ALIGNED)) throw reader.bad('features', 'chunks are not aligned', at);
  if (has(FEATURE.BATCH | FEATURE.ZRAN | FEATURE.ENCRYPTED) && !has(FEATURE.CHUNK_INFO_V2)) {
    throw reader.bad('features', 'batch, zran or encrypted without chunk info V2', at);
  }
  if (has(FEATURE.ZRAN) && has(FEATURE.BATCH | FEATURE.ENCRYPTED)) {
    throw reader.bad('features', 'zran with batch or encrypted', at);
  }
}

function checkSizes(reader: Reader, at: number, blob: RafsBlob): void {
  if (blob.compressedSize > MAX_BLOB_COMPRESSED) throw reader.bad('compressed_size', 'too large', at + 88);
  if (blob.uncompressedSize > MAX_BLOB_UNCOMPRESSED) throw reader.bad('uncompressed_size', 'too large', at + 96);
  if (blob.chunkCount > MAX_CHUNKS) throw reader.bad('chunk_count', `${blob.chunkCount} is too many`, at + 72);
  if (blob.ciUncompressedSize > MAX_META_SIZE) throw reader.bad('ci_uncompressed_size', 'too large', at + 128);
  if (blob.tocSize > MAX_TOC_SIZE) throw reader.bad('blob_toc_size', `${blob.tocSize} bytes are too many`, at + 104);
  const isExempt = (blob.features & (FEATURE.IS_CHUNKDICT_GENERATED | FEATURE.TARFS)) !== 0;
  const least = chunkInfoSize(blob.features) * blob.chunkCount;
  // Behind the entries lie the contexts of batches and of gzip streams.
  if (!isExempt && (needsMeta(blob) ? blob.ciUncompressedSize < least : blob.ciUncompressedSize !== least)) {
    throw reader.bad(
      'ci_uncompressed_size',
      `${blob.ciUncompressedSize} bytes for ${blob.chunkCount} chunks`,
      at + 128,
    );
  }
  const tooLarge = blob.ciCompressedSize > blob.ciUncompressedSize;
  if (tooLarge || blob.ciOffset + blob.ciCompressedSize > MAX_BLOB_COMPRESSED) {
    throw reader.bad('ci_compressed_size', 'larger than the chunk info itself, or too far', at + 120);
  }
}
