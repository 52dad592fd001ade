/** Checks of both superblocks by themselves. Counts of other structures are checked where those are walked. */
import type { FieldPlace } from '../binary/fields.ts';
import { MAX_CHUNK_SIZE } from '../blob/table.ts';
import { BLOB_ENTRY_SIZE } from '../formats/rafs/blob-entry.ts';
import { CHUNK_ENTRY_SIZE } from '../formats/rafs/chunk-entry.ts';
import { DEVICE_SLOT, DEVICE_SLOT_OFFSET } from '../formats/rafs/device-slot.ts';
import { MAX_NSEC } from '../formats/rafs/inode.ts';
import {
  alignUp,
  BLOCK,
  BLOCK_BITS,
  COMPAT_RAFS_V6,
  DEVICE_TABLE_OFFSET,
  EROFS_MAGIC,
  EXTENDED_OFFSET,
  FLAG,
  SUPERBLOCK_OFFSET,
  TARFS_BLOCK_BITS,
} from '../formats/rafs/layout.ts';
import { MAX_BLOBS, MIN_CHUNK_SIZE } from '../formats/rafs/limits.ts';
import { decodeSuperblock, EXTENDED_SUPERBLOCK, SUPERBLOCK, type Superblock } from '../formats/rafs/superblock.ts';
import type { ByteOwnership } from './byte-ownership.ts';
import type { Bytes } from './bytes.ts';

const { fields: SB } = SUPERBLOCK;
const { fields: EXT } = EXTENDED_SUPERBLOCK;

export interface CheckedSuperblock extends Superblock {
  /** 4096, or 512 for tarfs. */
  readonly block: number;
  readonly isTarfs: boolean;
  /** Entries of the blob table and of the chunk table that lie in the file. */
  readonly blobs: number;
  readonly chunks: number;
}

/** Checks both superblocks. Null when the bytes are not a RAFS v6 bootstrap, which is then the only problem. */
export function checkSuperblock(bytes: Bytes, ownership: ByteOwnership): CheckedSuperblock | null {
  const { findings } = bytes;
  const base = SUPERBLOCK_OFFSET;
  if (!bytes.has(0, BLOCK)) {
    findings.error('bootstrap', 0, `${bytes.length} bytes are too short for the superblocks`);
    return null;
  }
  const isErofs = SB.magic.read(bytes, base) === EROFS_MAGIC;
  if (!isErofs && SB.featureCompat.read(bytes, base) !== COMPAT_RAFS_V6) {
    bytes.error(SB.magic, base, 'not a bootstrap: it has neither the EROFS magic number nor the RAFS v6 feature');
    return null;
  }
  if (bytes.length % BLOCK !== 0) {
    findings.error(
      'bootstrap',
      bytes.length,
      `${bytes.length} bytes are not a whole number of blocks: the file is truncated or extended`,
    );
  }
  const sb = decodeSuperblock(bytes);
  const isTarfs = (sb.flags & FLAG.TARTFS_MODE) !== 0;
  const block = checkPlainFields(bytes, isTarfs);
  checkFlags(bytes, sb.flags);
  checkExtended(bytes, sb);
  ownership.claim(0, DEVICE_TABLE_OFFSET, 'superblock', 0);
  const counts = checkTables(bytes, sb, ownership);
  return { ...sb, isTarfs, block, ...counts };
}

/** Fields of the EROFS superblock with one legal value. Returns the size of a block. */
function checkPlainFields(bytes: Bytes, isTarfs: boolean): number {
  const base = SUPERBLOCK_OFFSET;
  bytes.zeros(0, base, 'boot area');
  const bits = isTarfs ? TARFS_BLOCK_BITS : BLOCK_BITS;
  for (const field of [SB.magic, SB.checksum, SB.featureCompat]) bytes.expectOnly(field, base);
  bytes.expectField(SB.blockBits, base, bits);
  bytes.expectOnly(SB.extSlots, base);
  if (!Number.isSafeInteger(SB.buildTime.read(bytes, base))) bytes.error(SB.buildTime, base, 'beyond 2^53 seconds');
  if (SB.buildTimeNsec.read(bytes, base) > MAX_NSEC) bytes.error(SB.buildTimeNsec, base, 'not below 10^9 ns');
  for (const field of [SB.xattrBlkaddr, SB.featureIncompat, SB.comprAlgs]) bytes.expectOnly(field, base);
  bytes.reserved(SUPERBLOCK, base, 'reserved of the superblock');
  return 2 ** bits;
}

const COMPRESSIONS = FLAG.COMPRESSION_NONE | FLAG.COMPRESSION_LZ4 | FLAG.COMPRESSION_GZIP | FLAG.COMPRESSION_ZSTD;

function checkFlags(bytes: Bytes, flags: number): void {
  const allFlags = Object.values(FLAG).reduce((all, bit) => all + bit, 0);
  const wrong = (message: string) => bytes.error(EXT.flags, EXTENDED_OFFSET, `0x${flags.toString(16)}: ${message}`);
  if (flags > 0xffff_ffff || (flags & ~allFlags) !== 0) wrong('unknown bits, which readers reject');
  if (!isOne(flags & COMPRESSIONS)) wrong('must have exactly one compression bit');
  if (!isOne(flags & (FLAG.HASH_BLAKE3 | FLAG.HASH_SHA256))) wrong('must have exactly one hash bit');
  // Images from before Nydus had encryption have neither bit.
  const ciphers = flags & (FLAG.ENCRYPTION_NONE | FLAG.ENCRYPTION_AES_128_XTS);
  if (ciphers !== 0 && !isOne(ciphers)) wrong('both encryption bits are set');
}

const isOne = (bits: number): boolean => bits !== 0 && (bits & (bits - 1)) === 0;

function checkExtended(bytes: Bytes, sb: Superblock): void {
  const ext = EXTENDED_OFFSET;
  const size = sb.chunkSize;
  if (size < MIN_CHUNK_SIZE || size > MAX_CHUNK_SIZE || !isOne(size)) {
    bytes.error(EXT.chunkSize, ext, `${size} is not a power of two of 4 KiB … 16 MiB`);
  }
  bytes.reserved(EXTENDED_SUPERBLOCK, ext, 'reserved of the extended superblock');
}

/** Checks the position of the tables, and returns how many of their entries lie in the file. */
function checkTables(bytes: Bytes, sb: Superblock, ownership: ByteOwnership): { blobs: number; chunks: number } {
  const ext = EXTENDED_OFFSET;
  const base = SUPERBLOCK_OFFSET;
  const devices = sb.extraDevices;
  const slots = Math.floor((bytes.length - DEVICE_TABLE_OFFSET) / DEVICE_SLOT.size);
  if (devices > MAX_BLOBS || devices > slots) {
    bytes.error(SB.extraDevices, base, `${devices} devices exceed the maximum of ${Math.min(MAX_BLOBS, slots)}`);
  }
  const shown = Math.min(devices, MAX_BLOBS, slots);
  if (devices > 0) {
    bytes.expectField(SB.slotOffset, base, DEVICE_SLOT_OFFSET);
    ownership.claim(DEVICE_TABLE_OFFSET, shown * DEVICE_SLOT.size, SB.slotOffset.name, base + SB.slotOffset.at);
  }
  if (sb.blobTableSize !== devices * BLOB_ENTRY_SIZE) {
    bytes.error(EXT.blobTableSize, ext, `${sb.blobTableSize} bytes do not match ${devices} devices`);
  }
  if (sb.chunkTableSize % CHUNK_ENTRY_SIZE !== 0) {
    const problem = `${sb.chunkTableSize} bytes are not a multiple of ${CHUNK_ENTRY_SIZE}`;
    bytes.error(EXT.chunkTableSize, ext, problem);
  }
  if (sb.prefetchTableSize % 4 !== 0) {
    bytes.error(EXT.prefetchTableSize, ext, `${sb.prefetchTableSize} bytes are not a multiple of 4`);
  }
  const blobs = tableSize(bytes, ownership, sb.blobTableOffset, sb.blobTableSize, EXT.blobTableOffset);
  const chunks = tableSize(bytes, ownership, sb.chunkTableOffset, sb.chunkTableSize, EXT.chunkTableOffset);
  return { blobs: Math.min(shown, Math.floor(blobs / BLOB_ENTRY_SIZE)), chunks: Math.floor(chunks / CHUNK_ENTRY_SIZE) };
}

/** Bytes of a table that lie in the file; 0 for an empty one, which may point anywhere. */
function tableSize(bytes: Bytes, ownership: ByteOwnership, start: number, size: number, field: FieldPlace): number {
  const at = EXTENDED_OFFSET;
  if (size === 0) {
    if (!bytes.has(start, 0)) bytes.error(field, at, `an empty table at offset ${start}, beyond the end of the file`);
    return 0;
  }
  if (start !== alignUp(start, BLOCK)) bytes.error(field, at, `${start} is not a multiple of ${BLOCK}`);
  if (!bytes.has(start, size)) {
    bytes.error(field, at, `${size} bytes at offset ${start} exceed the file's ${bytes.length} bytes`);
    return bytes.has(start, 0) ? bytes.length - start : 0;
  }
  ownership.claim(start, size, field.name, at + field.at);
  return size;
}
