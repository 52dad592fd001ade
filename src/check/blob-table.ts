/** Claims of device slots and blob table, each by itself and one against the other. */
import { CIPHER_AES_128_XTS, decodeBlobEntry, HEX64, type RawBlobEntry } from '../formats/rafs/blobtable.ts';
import {
  BLOB_ENTRY_SIZE,
  DEVICE_SLOT_SIZE,
  DEVICE_TABLE_OFFSET,
  FEATURE,
  FLAG,
  NAMELESS_BLOB,
} from '../formats/rafs/layout.ts';
import { MAX_BLOB_COMPRESSED, MAX_BLOB_UNCOMPRESSED, MAX_CHUNKS } from '../formats/rafs/limits.ts';
import type { Bytes } from './bytes.ts';
import { type CheckedSuperblock, SB } from './superblock.ts';

/** An entry that was looked at; its numbers may still be wrong. */
export interface CheckedBlob extends RawBlobEntry {
  /** Place of the entry in the bootstrap. */
  readonly at: number;
  /** Whether {@link RawBlobEntry.id} is 64 hex digits, so that it may be a file's name. */
  readonly isNamed: boolean;
  /** Bytes of one chunk info entry. */
  readonly entrySize: number;
}

const has = (blob: RawBlobEntry, feature: number): boolean => (blob.features & feature) !== 0;

/** `outsideId`: the id of the blob that the bootstrap was taken out of. */
export function checkBlobTable(bytes: Bytes, sb: CheckedSuperblock, outsideId: string | null): CheckedBlob[] {
  const blobs = Array.from({ length: sb.blobs }, (_, i) => checkBlob(bytes, sb, i, outsideId));
  const first = new Map<string, number>();
  for (const [i, blob] of blobs.entries()) {
    const before = first.get(blob.id);
    if (before === undefined) first.set(blob.id, i);
    else bytes.findings.error('blob_id', blob.at, `blobs ${before} and ${i} are the same`);
  }
  checkSlots(bytes, sb, blobs);
  checkImageFlags(bytes, sb, blobs);
  return blobs;
}

function checkBlob(bytes: Bytes, sb: CheckedSuperblock, index: number, outsideId: string | null): CheckedBlob {
  const { findings } = bytes;
  const at = sb.blobTableOffset + index * BLOB_ENTRY_SIZE;
  const raw = decodeBlobEntry(bytes, at);
  const isNameless = raw.id === NAMELESS_BLOB;
  const id = isNameless ? (outsideId ?? raw.id) : raw.id;
  const isNamed = HEX64.test(id);
  if (!isNamed) {
    const hint = 'a bootstrap that was taken out of its blob does not know its id: name the file ID.boot';
    findings.error('blob_id', at, 'not 64 lower-case hex digits', isNameless ? { hint } : {});
  }
  bytes.expect(at + 64, bytes.u32(at + 64, 'blob_index'), index, 'blob_index');
  const entrySize = has(raw, FEATURE.CHUNK_INFO_V2) ? 24 : 16;
  const blob = { ...raw, id, at, isNamed, entrySize };
  checkKinds(bytes, sb, blob);
  checkFeatures(bytes, sb, blob);
  checkSizes(bytes, sb, blob);
  checkChunkInfo(bytes, blob);
  if (!has(blob, FEATURE.ENCRYPTED)) bytes.zeros(at + 208, 8, 'reserved of a blob entry');
  bytes.zeros(at + 220, 36, 'reserved of a blob entry');
  return blob;
}

function checkKinds(bytes: Bytes, sb: CheckedSuperblock, blob: CheckedBlob): void {
  const { findings } = bytes;
  const { at } = blob;
  const compressors: ReadonlyArray<readonly [number, string, number]> = [
    [blob.compressor, 'compression_algo', 76],
    [blob.ciCompressor, 'ci_compressor', 108],
  ];
  for (const [value, field, offset] of compressors) {
    if (value > 3) findings.error(field, at + offset, `unknown compressor ${value}`);
  }
  if (blob.digester > 1) findings.error('digest_algo', at + 80, `unknown digester ${blob.digester}`);
  else if ((sb.flags & (blob.digester === 0 ? FLAG.HASH_BLAKE3 : FLAG.HASH_SHA256)) === 0) {
    findings.error('digest_algo', at + 80, `${blob.digester} is not the hash of the superblock`);
  }
  if (blob.chunkSize !== sb.chunkSize) {
    findings.error('chunk_size', at + 68, `${blob.chunkSize}, and ${sb.chunkSize} in the superblock`);
  }
  const cipher = bytes.u32(at + 216, 'cipher_algo');
  bytes.expect(at + 216, cipher, has(blob, FEATURE.ENCRYPTED) ? CIPHER_AES_128_XTS : 0, 'cipher_algo');
}

/** Which features go together (nydus, rafs/src/metadata/layout/v6.rs, RafsV6Blob::validate). */
function checkFeatures({ findings }: Bytes, sb: CheckedSuperblock, blob: CheckedBlob): void {
  const known = Object.values(FEATURE).reduce((all, bit) => all | bit, 0);
  const wrong = (message: string) =>
    findings.error('features', blob.at + 84, `0x${blob.features.toString(16)}: ${message}`);
  const on = (feature: number) => has(blob, feature);
  if ((blob.features & ~known) !== 0) wrong('unknown bits');
  if (sb.isTarfs !== on(FEATURE.TARFS)) wrong(`the image is ${sb.isTarfs ? '' : 'not '}tarfs, the blob otherwise`);
  if (!on(FEATURE.ALIGNED) && !on(FEATURE.TARFS)) wrong('chunks are not aligned');
  if ((on(FEATURE.ZRAN) || on(FEATURE.BATCH) || on(FEATURE.ENCRYPTED)) && !on(FEATURE.CHUNK_INFO_V2)) {
    wrong('zran, batch and encrypted blobs need chunk info of version 2');
  }
  if (on(FEATURE.ZRAN) && on(FEATURE.BATCH)) wrong('zran and batch at once');
  if (on(FEATURE.ZRAN) && !on(FEATURE.SEPARATE)) wrong('the chunk info of a zran blob is a file of its own');
  if (on(FEATURE.TARFS) && (on(FEATURE.ZRAN) || on(FEATURE.BATCH) || on(FEATURE.ENCRYPTED))) {
    wrong('tarfs with chunks that are stored otherwise');
  }
  if (on(FEATURE.HAS_TOC) && !on(FEATURE.CAP_TAR_TOC)) wrong('a table of contents without the capability for it');
  if (on(FEATURE.INLINED_CHUNK_DIGEST) && !on(FEATURE.HAS_TOC))
    wrong('digests inside the blob, and no table to find them');
  if (on(FEATURE.EXTERNAL) && on(FEATURE.INLINED_FS_META)) wrong('an external blob with a bootstrap inside');
}

/** blob_toc_size is 512 bytes of tar header and entries of 128; there are five names. */
const TOC_SIZES = { header: 512, entry: 128, entries: 5 } as const;

function checkSizes({ findings }: Bytes, sb: CheckedSuperblock, blob: CheckedBlob): void {
  const { at } = blob;
  if (!(blob.compressedSize <= MAX_BLOB_COMPRESSED) || blob.compressedSize === 0) {
    findings.error('compressed_size', at + 88, `${blob.compressedSize} bytes are no size of a blob`);
  }
  if (!(blob.uncompressedSize <= MAX_BLOB_UNCOMPRESSED) || blob.uncompressedSize === 0) {
    findings.error('uncompressed_size', at + 96, `${blob.uncompressedSize} bytes are no size of a blob device`);
  } else if (blob.uncompressedSize % sb.block !== 0) {
    findings.error('uncompressed_size', at + 96, `${blob.uncompressedSize} bytes are not whole blocks`);
  }
  if (blob.chunkCount > MAX_CHUNKS || blob.chunkCount === 0) {
    findings.error('chunk_count', at + 72, `${blob.chunkCount} is no number of chunks`);
  }
  const entries = (blob.tocSize - TOC_SIZES.header) / TOC_SIZES.entry;
  if (blob.tocSize !== 0 && !(Number.isInteger(entries) && entries >= 1 && entries <= TOC_SIZES.entries)) {
    findings.error('blob_toc_size', at + 104, `${blob.tocSize} is no size of a table of contents`);
  }
  if (blob.tocSize !== 0 && !has(blob, FEATURE.HAS_TOC)) {
    findings.error('blob_toc_size', at + 104, `${blob.tocSize} bytes of a table that the features deny`);
  }
  const isSeparate = has(blob, FEATURE.SEPARATE);
  if (!isSeparate && (blob.metaSize !== 0 || blob.metaDigest !== null)) {
    const [field, offset] = blob.metaDigest === null ? ['blob_meta_size', 200] : ['blob_meta_digest', 168];
    findings.error(field as string, at + (offset as number), 'a file of chunk info for a blob that has its own inside');
  }
}

const CI_HEADER = 4096;

function checkChunkInfo({ findings }: Bytes, blob: CheckedBlob): void {
  const { at, entrySize } = blob;
  if (has(blob, FEATURE.TARFS)) {
    if (blob.ciOffset !== 0) findings.error('ci_offset', at + 112, 'chunk info in a tarfs blob');
    if (blob.ciCompressedSize !== 0) findings.error('ci_compressed_size', at + 120, 'chunk info in a tarfs blob');
    if (blob.ciUncompressedSize !== 0) findings.error('ci_uncompressed_size', at + 128, 'chunk info in a tarfs blob');
    return;
  }
  const entries = entrySize * blob.chunkCount;
  const hasContexts = has(blob, FEATURE.ZRAN) || has(blob, FEATURE.BATCH);
  const isExempt = has(blob, FEATURE.IS_CHUNKDICT_GENERATED);
  const plain = blob.ciUncompressedSize;
  if (!isExempt && !(hasContexts ? plain >= entries : plain === entries)) {
    findings.error('ci_uncompressed_size', at + 128, `${plain} bytes for ${blob.chunkCount} chunks of ${entrySize}`);
  }
  const stored = blob.ciCompressedSize;
  if (!(stored <= plain) || (blob.ciCompressor === 0 && stored !== plain)) {
    findings.error('ci_compressed_size', at + 120, `${stored} bytes for ${plain} plain ones`);
  }
  const isSeparate = has(blob, FEATURE.SEPARATE);
  const end = isSeparate ? (blob.metaDigest === null ? null : blob.metaSize) : blob.compressedSize;
  if (end !== null && !(blob.ciOffset + stored + CI_HEADER <= end)) {
    findings.error('ci_offset', at + 112, `${stored} bytes at ${blob.ciOffset} and a header run out of ${end}`);
  }
}

/** struct erofs_deviceslot: tag[64] · blocks u32 · mapped_blkaddr u32 · reserved[56] */
function checkSlots(bytes: Bytes, sb: CheckedSuperblock, blobs: readonly CheckedBlob[]): void {
  const { findings } = bytes;
  let total = 0;
  let end = bytes.length / sb.block;
  for (const [i, blob] of blobs.entries()) {
    const slot = DEVICE_TABLE_OFFSET + i * DEVICE_SLOT_SIZE;
    if (bytes.text(slot, 64, 'tag') !== bytes.text(blob.at, 64, 'blob_id')) {
      findings.error('device tag', slot, 'names another blob than the blob table');
    }
    const blocks = bytes.u32(slot + 64, 'blocks');
    if (blocks !== Math.floor(blob.uncompressedSize / sb.block)) {
      findings.error('device blocks', slot + 64, `${blocks} blocks for ${blob.uncompressedSize} bytes`);
    }
    const mapped = bytes.u32(slot + 68, 'mapped_blkaddr');
    if (mapped < end) {
      findings.error(
        'mapped_blkaddr',
        slot + 68,
        `block ${mapped} belongs to what lies before it, which ends at ${end}`,
      );
    }
    end = mapped + blocks;
    total += blocks;
    bytes.zeros(slot + 72, 56, 'reserved of a device slot');
  }
  // Without devices old writers count the one block that the kernel needs.
  const isFine = blobs.length === 0 ? sb.blocks * sb.block <= bytes.length : sb.blocks === total;
  if (blobs.length === sb.extraDevices && !isFine) {
    findings.error('blocks', SB.blocks, `${sb.blocks} blocks, the devices have ${total}`);
  }
}

/** What the superblock says of all blobs. */
function checkImageFlags({ findings }: Bytes, sb: CheckedSuperblock, blobs: readonly CheckedBlob[]): void {
  const wrong = (message: string) => findings.error('s_flags', SB.flags, `0x${sb.flags.toString(16)}: ${message}`);
  const flag = (bit: number) => (sb.flags & bit) !== 0;
  if (blobs.length === 0) return;
  const encrypted = blobs.filter((blob) => has(blob, FEATURE.ENCRYPTED)).length;
  if (flag(FLAG.ENCRYPTION_AES_128_XTS) !== encrypted > 0) wrong(`${encrypted} blobs are encrypted`);
  const inlined = blobs.filter((blob) => has(blob, FEATURE.INLINED_CHUNK_DIGEST)).length;
  if (flag(FLAG.INLINED_CHUNK_DIGEST) && inlined < blobs.length) {
    wrong(`digests are to be in the blobs, and are in ${inlined} of ${blobs.length}`);
  }
}
