/** Checks of device slots and blob table, each by itself and against each other. */
import {
  BLOB_CIPHER,
  BLOB_ENTRY,
  BLOB_ENTRY_SIZE,
  BLOB_META_FILE,
  BLOB_VARIANT_AT,
  CIPHER_AES_128_XTS,
  decodeBlobEntry,
  type RawBlobEntry,
} from '../formats/rafs/blob-entry.ts';
import { chunkInfoSize } from '../formats/rafs/chunk-info-entry.ts';
import { CI_HEADER_SIZE } from '../formats/rafs/chunk-info-header.ts';
import { DEVICE_SLOT, deviceSlotAt } from '../formats/rafs/device-slot.ts';
import { EXTENDED_OFFSET, FEATURE, FLAG, NAMELESS_BLOB, SUPERBLOCK_OFFSET } from '../formats/rafs/layout.ts';
import { MAX_BLOB_COMPRESSED, MAX_BLOB_UNCOMPRESSED, MAX_CHUNKS } from '../formats/rafs/limits.ts';
import { EXTENDED_SUPERBLOCK, SUPERBLOCK } from '../formats/rafs/superblock.ts';
import { TOC_ENTRY } from '../formats/rafs/toc.ts';
import { isSha256Hex } from '../image/digest.ts';
import { TAR_HEADER } from '../tree/tarheader.ts';
import type { Bytes } from './bytes.ts';
import type { CheckedSuperblock } from './superblock.ts';

const { fields: ENTRY } = BLOB_ENTRY;
const { fields: SLOT } = DEVICE_SLOT;

/** A checked entry; its numbers may still be wrong. */
export interface CheckedBlob extends RawBlobEntry {
  /** Offset of the entry in the bootstrap. */
  readonly at: number;
  /** Whether {@link RawBlobEntry.id} is 64 hex digits, and therefore safe as a file name. */
  readonly isNamed: boolean;
  /** Bytes of one chunk info entry. */
  readonly entrySize: number;
}

const has = (blob: RawBlobEntry, feature: number): boolean => (blob.features & feature) !== 0;

/** Checks the blob table. `outsideId`: the id of the blob that contained the bootstrap. */
export function checkBlobTable(bytes: Bytes, sb: CheckedSuperblock, outsideId: string | null): CheckedBlob[] {
  const blobs = Array.from({ length: sb.blobs }, (_, i) => checkBlob(bytes, sb, i, outsideId));
  const first = new Map<string, number>();
  for (const [i, blob] of blobs.entries()) {
    const before = first.get(blob.id);
    if (before === undefined) first.set(blob.id, i);
    else bytes.error(ENTRY.id, blob.at, `blobs ${before} and ${i} have the same id`);
  }
  checkSlots(bytes, sb, blobs);
  checkImageFlags(bytes, sb, blobs);
  return blobs;
}

function checkBlob(bytes: Bytes, sb: CheckedSuperblock, index: number, outsideId: string | null): CheckedBlob {
  const at = sb.blobTableOffset + index * BLOB_ENTRY_SIZE;
  const raw = decodeBlobEntry(bytes, at);
  const isNameless = raw.id === NAMELESS_BLOB;
  const id = isNameless ? (outsideId ?? raw.id) : raw.id;
  const isNamed = isSha256Hex(id);
  if (!isNamed) {
    const hint = 'a bootstrap extracted from its blob does not have the blob id: name the file ID.boot';
    bytes.error(ENTRY.id, at, 'not 64 lower-case hex digits', isNameless ? { hint } : {});
  }
  bytes.expectField(ENTRY.index, at, index);
  const entrySize = chunkInfoSize(raw.features);
  const blob = { ...raw, id, at, isNamed, entrySize };
  checkKinds(bytes, sb, blob);
  checkFeatures(bytes, sb, blob);
  checkSizes(bytes, sb, blob);
  checkChunkInfo(bytes, blob);
  const variant = has(blob, FEATURE.ENCRYPTED) ? BLOB_CIPHER : BLOB_META_FILE;
  bytes.reserved(variant, at + BLOB_VARIANT_AT, 'reserved of a blob entry');
  return blob;
}

function checkKinds(bytes: Bytes, sb: CheckedSuperblock, blob: CheckedBlob): void {
  const { at } = blob;
  for (const field of [ENTRY.compressor, ENTRY.ciCompressor]) {
    const value = field.read(bytes, at);
    if (value > 3) bytes.error(field, at, `unknown compressor ${value}`);
  }
  if (blob.digester > 1) bytes.error(ENTRY.digester, at, `unknown digester ${blob.digester}`);
  else if ((sb.flags & (blob.digester === 0 ? FLAG.HASH_BLAKE3 : FLAG.HASH_SHA256)) === 0) {
    bytes.error(ENTRY.digester, at, `digester ${blob.digester} differs from that of the superblock`);
  }
  if (blob.chunkSize !== sb.chunkSize) {
    bytes.error(ENTRY.chunkSize, at, `${blob.chunkSize}, but ${sb.chunkSize} in the superblock`);
  }
  const cipher = has(blob, FEATURE.ENCRYPTED) ? CIPHER_AES_128_XTS : 0;
  bytes.expectField(BLOB_CIPHER.fields.algorithm, at + BLOB_VARIANT_AT, cipher);
}

/** Checks that the features are compatible (nydus, rafs/src/metadata/layout/v6.rs, RafsV6Blob::validate). */
function checkFeatures(bytes: Bytes, sb: CheckedSuperblock, blob: CheckedBlob): void {
  const allFeatures = Object.values(FEATURE).reduce((all, bit) => all | bit, 0);
  const wrong = (message: string) =>
    bytes.error(ENTRY.features, blob.at, `0x${blob.features.toString(16)}: ${message}`);
  const on = (feature: number) => has(blob, feature);
  if ((blob.features & ~allFeatures) !== 0) wrong('unknown bits');
  if (sb.isTarfs !== on(FEATURE.TARFS))
    wrong(`the image is ${sb.isTarfs ? '' : 'not '}tarfs, but the blob is${sb.isTarfs ? ' not' : ''}`);
  if (!on(FEATURE.ALIGNED) && !on(FEATURE.TARFS)) wrong('chunks are not aligned');
  if ((on(FEATURE.ZRAN) || on(FEATURE.BATCH) || on(FEATURE.ENCRYPTED)) && !on(FEATURE.CHUNK_INFO_V2)) {
    wrong('zran, batch and encrypted blobs need chunk info of version 2');
  }
  if (on(FEATURE.ZRAN) && on(FEATURE.BATCH)) wrong('zran and batch cannot be combined');
  if (on(FEATURE.ZRAN) && !on(FEATURE.SEPARATE)) wrong('a zran blob must have its chunk info in a separate file');
  if (on(FEATURE.TARFS) && (on(FEATURE.ZRAN) || on(FEATURE.BATCH) || on(FEATURE.ENCRYPTED))) {
    wrong('tarfs cannot be combined with zran, batch or encryption');
  }
  if (on(FEATURE.HAS_TOC) && !on(FEATURE.CAP_TAR_TOC)) wrong('a table of contents needs the capability CAP_TAR_TOC');
  if (on(FEATURE.INLINED_CHUNK_DIGEST) && !on(FEATURE.HAS_TOC))
    wrong('digests inside the blob need a table of contents');
  if (on(FEATURE.EXTERNAL) && on(FEATURE.INLINED_FS_META)) wrong('an external blob cannot contain a bootstrap');
}

/** Maximum number of entries of a table of contents. */
const MAX_TOC_ENTRIES = 5;

function checkSizes(bytes: Bytes, sb: CheckedSuperblock, blob: CheckedBlob): void {
  const { at } = blob;
  if (!(blob.compressedSize <= MAX_BLOB_COMPRESSED) || blob.compressedSize === 0) {
    bytes.error(ENTRY.compressedSize, at, `${blob.compressedSize} bytes are not a valid blob size`);
  }
  if (!(blob.uncompressedSize <= MAX_BLOB_UNCOMPRESSED) || blob.uncompressedSize === 0) {
    bytes.error(ENTRY.uncompressedSize, at, `${blob.uncompressedSize} bytes are not a valid device size`);
  } else if (blob.uncompressedSize % sb.block !== 0) {
    bytes.error(ENTRY.uncompressedSize, at, `${blob.uncompressedSize} bytes are not a whole number of blocks`);
  }
  if (blob.chunkCount > MAX_CHUNKS || blob.chunkCount === 0) {
    bytes.error(ENTRY.chunkCount, at, `${blob.chunkCount} is not a valid number of chunks`);
  }
  const entries = (blob.tocSize - TAR_HEADER.size) / TOC_ENTRY.size;
  if (blob.tocSize !== 0 && !(Number.isInteger(entries) && entries >= 1 && entries <= MAX_TOC_ENTRIES)) {
    bytes.error(ENTRY.tocSize, at, `${blob.tocSize} is not a valid size of a table of contents`);
  }
  if (blob.tocSize !== 0 && !has(blob, FEATURE.HAS_TOC)) {
    bytes.error(ENTRY.tocSize, at, `${blob.tocSize}, but the features name no table of contents`);
  }
  const isSeparate = has(blob, FEATURE.SEPARATE);
  if (!isSeparate && (blob.metaSize !== 0 || blob.metaDigest !== null)) {
    const { metaDigest, metaSize } = BLOB_META_FILE.fields;
    const field = blob.metaDigest === null ? metaSize : metaDigest;
    bytes.error(field, at + BLOB_VARIANT_AT, 'a blob with its chunk info inside cannot name a chunk info file');
  }
}

function checkChunkInfo(bytes: Bytes, blob: CheckedBlob): void {
  const { at, entrySize } = blob;
  if (has(blob, FEATURE.TARFS)) {
    if (blob.ciOffset !== 0) bytes.error(ENTRY.ciOffset, at, 'a tarfs blob must have no chunk info');
    if (blob.ciCompressedSize !== 0) bytes.error(ENTRY.ciCompressedSize, at, 'a tarfs blob must have no chunk info');
    if (blob.ciUncompressedSize !== 0)
      bytes.error(ENTRY.ciUncompressedSize, at, 'a tarfs blob must have no chunk info');
    return;
  }
  const entries = entrySize * blob.chunkCount;
  const hasContexts = has(blob, FEATURE.ZRAN) || has(blob, FEATURE.BATCH);
  const isExempt = has(blob, FEATURE.IS_CHUNKDICT_GENERATED);
  const plain = blob.ciUncompressedSize;
  if (!isExempt && !(hasContexts ? plain >= entries : plain === entries)) {
    bytes.error(
      ENTRY.ciUncompressedSize,
      at,
      `${plain} bytes do not match ${blob.chunkCount} chunks with ${entrySize} bytes each`,
    );
  }
  const stored = blob.ciCompressedSize;
  if (!(stored <= plain) || (blob.ciCompressor === 0 && stored !== plain)) {
    bytes.error(ENTRY.ciCompressedSize, at, `${stored} stored bytes do not match ${plain} plain bytes`);
  }
  const isSeparate = has(blob, FEATURE.SEPARATE);
  const end = isSeparate ? (blob.metaDigest === null ? null : blob.metaSize) : blob.compressedSize;
  if (end !== null && !(blob.ciOffset + stored + CI_HEADER_SIZE <= end)) {
    bytes.error(
      ENTRY.ciOffset,
      at,
      `${stored} bytes at offset ${blob.ciOffset} and the header exceed the file's ${end} bytes`,
    );
  }
}

function checkSlots(bytes: Bytes, sb: CheckedSuperblock, blobs: readonly CheckedBlob[]): void {
  const { findings } = bytes;
  let total = 0;
  let end = bytes.length / sb.block;
  for (const [i, blob] of blobs.entries()) {
    const slot = deviceSlotAt(i);
    if (SLOT.tag.read(bytes, slot) !== ENTRY.id.read(bytes, blob.at)) {
      findings.error('device tag', slot, 'differs from the blob id in the blob table');
    }
    const blocks = SLOT.blocks.read(bytes, slot);
    if (blocks !== Math.floor(blob.uncompressedSize / sb.block)) {
      findings.error(
        'device blocks',
        slot + SLOT.blocks.at,
        `${blocks} blocks do not match ${blob.uncompressedSize} bytes`,
      );
    }
    const mapped = SLOT.mapped.read(bytes, slot);
    if (mapped < end) {
      bytes.error(SLOT.mapped, slot, `block ${mapped} overlaps the device before it, which ends at block ${end}`);
    }
    end = mapped + blocks;
    total += blocks;
    bytes.reserved(DEVICE_SLOT, slot, 'reserved of a device slot');
  }
  // Old writers count the one block that the kernel needs when there are no devices.
  const isFine = blobs.length === 0 ? sb.blocks * sb.block <= bytes.length : sb.blocks === total;
  if (blobs.length === sb.extraDevices && !isFine) {
    bytes.error(SUPERBLOCK.fields.blocks, SUPERBLOCK_OFFSET, `${sb.blocks} blocks, but the devices have ${total}`);
  }
}

/** Checks the flags of the superblock that apply to all blobs. */
function checkImageFlags(bytes: Bytes, sb: CheckedSuperblock, blobs: readonly CheckedBlob[]): void {
  const wrong = (message: string) =>
    bytes.error(EXTENDED_SUPERBLOCK.fields.flags, EXTENDED_OFFSET, `0x${sb.flags.toString(16)}: ${message}`);
  const flag = (bit: number) => (sb.flags & bit) !== 0;
  if (blobs.length === 0) return;
  const encrypted = blobs.filter((blob) => has(blob, FEATURE.ENCRYPTED)).length;
  if (flag(FLAG.ENCRYPTION_AES_128_XTS) !== encrypted > 0)
    wrong(`the encryption flag is wrong: ${encrypted} blobs are encrypted`);
  const inlined = blobs.filter((blob) => has(blob, FEATURE.INLINED_CHUNK_DIGEST)).length;
  if (flag(FLAG.INLINED_CHUNK_DIGEST) && inlined < blobs.length) {
    wrong(`only ${inlined} of ${blobs.length} blobs contain their digests`);
  }
}
