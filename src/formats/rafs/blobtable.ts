/** Reads and checks the blob table with its device slots: bytes → {@link RafsBlob}. */

import type { IntField } from '../../binary/fields.ts';
import type { Reader } from '../../binary/reader.ts';
import { isSha256Hex } from '../../image/digest.ts';
import type { Compressor, Digester } from '../../native/addon.ts';
import { needsMeta, type RafsBlob } from './blob.ts';
import {
  BLOB_CIPHER,
  BLOB_ENTRY,
  BLOB_ENTRY_SIZE,
  BLOB_VARIANT_AT,
  CIPHER_AES_128_XTS,
  decodeBlobEntry,
} from './blob-entry.ts';
import { chunkInfoSize } from './chunk-info-entry.ts';
import { DEVICE_SLOT, deviceSlotAt } from './device-slot.ts';
import { BLOCK_BITS, FEATURE, NAMELESS_BLOB } from './layout.ts';
import { MAX_BLOB_COMPRESSED, MAX_BLOB_UNCOMPRESSED, MAX_CHUNKS, MAX_META_SIZE, MAX_TOC_SIZE } from './limits.ts';
import type { Superblock } from './superblock.ts';

const { fields: ENTRY } = BLOB_ENTRY;
const { fields: SLOT } = DEVICE_SLOT;

/**
 * Reads entry `index` and checks it against its device slot. `outsideId`: the id of a blob that contains the bootstrap,
 * which then does not store it. Throws UNSUPPORTED for kinds of blobs that this version does not read.
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
  const slot = deviceSlotAt(index);
  if (SLOT.tag.read(reader, slot) !== ENTRY.id.read(reader, at)) {
    throw reader.bad('device tag', 'names another blob than the blob table does', slot);
  }
  if (ENTRY.index.read(reader, at) !== index) throw ENTRY.index.bad(reader, at, 'must be its position in the table');
  const entry = decodeBlobEntry(reader, at);
  checkFeatures(reader, at, entry.features, id, superblock.blockBits !== BLOCK_BITS);
  checkCipher(reader, at + BLOB_VARIANT_AT, entry.features);
  const blob: RafsBlob = {
    ...entry,
    id,
    compressor: compressorOf(reader, at, ENTRY.compressor),
    digester: digesterOf(reader, at),
    ciCompressor: compressorOf(reader, at, ENTRY.ciCompressor),
  };
  checkSizes(reader, at, blob);
  const blocks = SLOT.blocks.read(reader, slot);
  if (blocks !== Math.floor(blob.uncompressedSize / 2 ** superblock.blockBits)) {
    throw reader.bad(
      'device blocks',
      `${blocks} blocks do not match ${blob.uncompressedSize} bytes`,
      slot + SLOT.blocks.at,
    );
  }
  return blob;
}

/** Reads the id. Ids become file names and URLs, so only lower-case hex is accepted. */
function readId(reader: Reader, at: number, outsideId: string | null): string {
  const stored = ENTRY.id.read(reader, at);
  if (stored === NAMELESS_BLOB) {
    if (outsideId !== null && isSha256Hex(outsideId)) return outsideId;
    throw ENTRY.id.bad(
      reader,
      at,
      'a bootstrap extracted from its blob does not have the blob id: name the file ID.boot',
    );
  }
  if (!isSha256Hex(stored)) throw ENTRY.id.bad(reader, at, 'not 64 lower-case hex digits');
  return stored;
}

function compressorOf(reader: Reader, at: number, field: IntField): Compressor {
  const value = field.read(reader, at);
  if (value > 3) throw field.bad(reader, at, `unknown compressor ${value}`);
  return value as Compressor;
}

function digesterOf(reader: Reader, at: number): Digester {
  const value = ENTRY.digester.read(reader, at);
  if (value > 1) throw ENTRY.digester.bad(reader, at, `unknown digester ${value}`);
  return value as Digester;
}

/** Checks the cipher. `at`: offset of the part of the entry that differs for encrypted blobs. */
function checkCipher(reader: Reader, at: number, features: number): void {
  const algorithm = BLOB_CIPHER.fields.algorithm.read(reader, at);
  const isEncrypted = (features & FEATURE.ENCRYPTED) !== 0;
  if (algorithm === (isEncrypted ? CIPHER_AES_128_XTS : 0)) return;
  if (algorithm === 2 || algorithm === 3)
    throw reader.unsupported('a blob encrypted with AES-256', 'no tool writes such blobs');
  throw BLOB_CIPHER.fields.algorithm.bad(
    reader,
    at,
    `cipher ${algorithm} does not match a blob that is ${isEncrypted ? '' : 'not '}encrypted`,
  );
}

/** Features that change how a blob is read. Bits above these only describe further content. */
const INCOMPATIBLE = 0xffff;
const KNOWN = Object.values(FEATURE).reduce((all, bit) => all | bit, 0);

function checkFeatures(reader: Reader, at: number, features: number, id: string, isTarfs: boolean): void {
  const has = (bit: number) => (features & bit) !== 0;
  const unknown = features & INCOMPATIBLE & ~KNOWN;
  if (unknown !== 0) {
    throw reader.unsupported(`blob ${id}: the feature 0x${unknown.toString(16)}`, 'a newer tool made the image');
  }
  if (has(FEATURE.TARFS) !== isTarfs)
    throw ENTRY.features.bad(reader, at, 'tarfs blobs and others cannot be in one image');
  if (isTarfs) return;
  if (!has(FEATURE.ALIGNED)) throw ENTRY.features.bad(reader, at, 'chunks are not aligned');
  if (has(FEATURE.BATCH | FEATURE.ZRAN | FEATURE.ENCRYPTED) && !has(FEATURE.CHUNK_INFO_V2)) {
    throw ENTRY.features.bad(reader, at, 'batch, zran and encrypted blobs need chunk info V2');
  }
  if (has(FEATURE.ZRAN) && has(FEATURE.BATCH | FEATURE.ENCRYPTED)) {
    throw ENTRY.features.bad(reader, at, 'zran cannot be combined with batch or encryption');
  }
}

function checkSizes(reader: Reader, at: number, blob: RafsBlob): void {
  if (blob.compressedSize > MAX_BLOB_COMPRESSED) throw ENTRY.compressedSize.bad(reader, at, 'too large');
  if (blob.uncompressedSize > MAX_BLOB_UNCOMPRESSED) throw ENTRY.uncompressedSize.bad(reader, at, 'too large');
  if (blob.chunkCount > MAX_CHUNKS) throw ENTRY.chunkCount.bad(reader, at, `${blob.chunkCount} chunks are too many`);
  if (blob.ciUncompressedSize > MAX_META_SIZE) throw ENTRY.ciUncompressedSize.bad(reader, at, 'too large');
  if (blob.tocSize > MAX_TOC_SIZE) throw ENTRY.tocSize.bad(reader, at, `${blob.tocSize} bytes are too many`);
  const isExempt = (blob.features & (FEATURE.IS_CHUNKDICT_GENERATED | FEATURE.TARFS)) !== 0;
  const least = chunkInfoSize(blob.features) * blob.chunkCount;
  // The contexts of batches and gzip streams follow the entries.
  if (!isExempt && (needsMeta(blob) ? blob.ciUncompressedSize < least : blob.ciUncompressedSize !== least)) {
    throw ENTRY.ciUncompressedSize.bad(
      reader,
      at,
      `${blob.ciUncompressedSize} bytes do not match ${blob.chunkCount} chunks`,
    );
  }
  const tooLarge = blob.ciCompressedSize > blob.ciUncompressedSize;
  if (tooLarge || blob.ciOffset + blob.ciCompressedSize > MAX_BLOB_COMPRESSED) {
    throw ENTRY.ciCompressedSize.bad(reader, at, 'larger than the plain chunk info, or beyond the maximum blob size');
  }
}
