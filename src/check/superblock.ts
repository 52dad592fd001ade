/** Claims of both superblocks that stand for themselves; counts of other structures are recomputed where these are walked. */
import { MAX_CHUNK_SIZE } from '../blob/table.ts';
import {
  alignUp,
  BLOB_ENTRY_SIZE,
  BLOCK,
  BLOCK_BITS,
  CHUNK_ENTRY_SIZE,
  COMPAT_RAFS_V6,
  DEVICE_SLOT_OFFSET,
  DEVICE_SLOT_SIZE,
  DEVICE_TABLE_OFFSET,
  EROFS_MAGIC,
  EXTENDED_OFFSET,
  FLAG,
  INCOMPAT,
  SUPERBLOCK_OFFSET,
} from '../formats/rafs/layout.ts';
import { MAX_BLOBS, MIN_CHUNK_SIZE } from '../formats/rafs/limits.ts';
import { decodeSuperblock, type Superblock } from '../formats/rafs/superblock.ts';
import type { Areas } from './areas.ts';
import type { Bytes } from './bytes.ts';

/** Places of fields that are named in several files. */
export const SB = {
  rootNid: SUPERBLOCK_OFFSET + 14,
  inos: SUPERBLOCK_OFFSET + 16,
  blocks: SUPERBLOCK_OFFSET + 36,
  metaBlkaddr: SUPERBLOCK_OFFSET + 40,
  extraDevices: SUPERBLOCK_OFFSET + 86,
  flags: EXTENDED_OFFSET,
} as const;

const TARFS_BLOCK_BITS = 9;

export interface CheckedSuperblock extends Superblock {
  /** 4096, or 512 for tarfs. */
  readonly block: number;
  readonly isTarfs: boolean;
  /** Entries of the blob table and of the chunk table that there is room for. */
  readonly blobs: number;
  readonly chunks: number;
}

/** Null when the bytes are no RAFS v6 bootstrap at all, which is then the one problem. */
export function checkSuperblock(bytes: Bytes, areas: Areas): CheckedSuperblock | null {
  const { findings } = bytes;
  const base = SUPERBLOCK_OFFSET;
  if (!bytes.has(0, BLOCK)) {
    findings.error('bootstrap', 0, `${bytes.length} bytes, less than the superblocks take`);
    return null;
  }
  const isErofs = bytes.u32(base, 'magic') === EROFS_MAGIC;
  if (!isErofs && bytes.u32(base + 8, 'feature_compat') !== COMPAT_RAFS_V6) {
    findings.error('magic', base, 'neither the magic number of EROFS nor the feature of RAFS v6: not a bootstrap');
    return null;
  }
  if (bytes.length % BLOCK !== 0) {
    findings.error('bootstrap', bytes.length, `${bytes.length} bytes are not whole blocks: it was cut or extended`);
  }
  const sb = decodeSuperblock(bytes);
  const isTarfs = (sb.flags & FLAG.TARTFS_MODE) !== 0;
  const block = checkPlainFields(bytes, isTarfs);
  checkFlags(bytes, sb.flags);
  checkExtended(bytes, sb);
  areas.add(0, DEVICE_TABLE_OFFSET, 'superblock', 0);
  const room = checkTables(bytes, sb, areas);
  return { ...sb, isTarfs, block, ...room };
}

/** Fields of the EROFS superblock with one legal value. Returns the size of a block. */
function checkPlainFields(bytes: Bytes, isTarfs: boolean): number {
  const base = SUPERBLOCK_OFFSET;
  bytes.zeros(0, base, 'boot area');
  bytes.expect(base, bytes.u32(base, 'magic'), EROFS_MAGIC, 'magic');
  bytes.expect(base + 4, bytes.u32(base + 4, 'checksum'), 0, 'checksum');
  bytes.expect(base + 8, bytes.u32(base + 8, 'feature_compat'), COMPAT_RAFS_V6, 'feature_compat');
  const bits = isTarfs ? TARFS_BLOCK_BITS : BLOCK_BITS;
  bytes.expect(base + 12, bytes.u8(base + 12, 'blkszbits'), bits, 'blkszbits');
  bytes.expect(base + 13, bytes.u8(base + 13, 'sb_extslots'), 0, 'sb_extslots');
  if (!Number.isSafeInteger(bytes.i64(base + 24, 'build_time'))) {
    bytes.findings.error('build_time', base + 24, 'beyond 2^53 seconds');
  }
  if (bytes.u32(base + 32, 'build_time_nsec') > 999_999_999) {
    bytes.findings.error('build_time_nsec', base + 32, 'not below a second');
  }
  bytes.expect(base + 44, bytes.u32(base + 44, 'xattr_blkaddr'), 0, 'xattr_blkaddr');
  bytes.expect(base + 80, bytes.u32(base + 80, 'feature_incompat'), INCOMPAT, 'feature_incompat');
  bytes.expect(base + 84, bytes.u16(base + 84, 'available_compr_algs'), 0, 'available_compr_algs');
  bytes.zeros(base + 90, EXTENDED_OFFSET - base - 90, 'reserved of the superblock');
  return 2 ** bits;
}

const COMPRESSIONS = FLAG.COMPRESSION_NONE | FLAG.COMPRESSION_LZ4 | FLAG.COMPRESSION_GZIP | FLAG.COMPRESSION_ZSTD;

function checkFlags({ findings }: Bytes, flags: number): void {
  const known = Object.values(FLAG).reduce((all, bit) => all + bit, 0);
  const wrong = (message: string) => findings.error('s_flags', SB.flags, `0x${flags.toString(16)}: ${message}`);
  if (flags > 0xffff_ffff || (flags & ~known) !== 0) wrong('unknown bits, which readers refuse');
  if (!isOne(flags & COMPRESSIONS)) wrong('not exactly one compression');
  if (!isOne(flags & (FLAG.HASH_BLAKE3 | FLAG.HASH_SHA256))) wrong('not exactly one hash');
  // Images of before encryption was known have neither bit.
  const ciphers = flags & (FLAG.ENCRYPTION_NONE | FLAG.ENCRYPTION_AES_128_XTS);
  if (ciphers !== 0 && !isOne(ciphers)) wrong('encrypted and not encrypted');
}

const isOne = (bits: number): boolean => bits !== 0 && (bits & (bits - 1)) === 0;

function checkExtended(bytes: Bytes, sb: Superblock): void {
  const ext = EXTENDED_OFFSET;
  const size = sb.chunkSize;
  if (size < MIN_CHUNK_SIZE || size > MAX_CHUNK_SIZE || !isOne(size)) {
    bytes.findings.error('s_chunk_size', ext + 20, `${size} is not a power of two of 4 KiB … 16 MiB`);
  }
  bytes.zeros(ext + 52, DEVICE_TABLE_OFFSET - ext - 52, 'reserved of the extended superblock');
}

/** Where the tables are, and how many entries of them there is room for. */
function checkTables(bytes: Bytes, sb: Superblock, areas: Areas): { blobs: number; chunks: number } {
  const { findings } = bytes;
  const ext = EXTENDED_OFFSET;
  const devices = sb.extraDevices;
  const slots = Math.floor((bytes.length - DEVICE_TABLE_OFFSET) / DEVICE_SLOT_SIZE);
  if (devices > MAX_BLOBS || devices > slots) {
    findings.error('extra_devices', SB.extraDevices, `${devices} devices; at most ${Math.min(MAX_BLOBS, slots)} fit`);
  }
  const shown = Math.min(devices, MAX_BLOBS, slots);
  if (devices > 0) {
    const at = SUPERBLOCK_OFFSET + 88;
    bytes.expect(at, bytes.u16(at, 'devt_slotoff'), DEVICE_SLOT_OFFSET, 'devt_slotoff');
    areas.add(DEVICE_TABLE_OFFSET, shown * DEVICE_SLOT_SIZE, 'devt_slotoff', at);
  }
  if (sb.blobTableSize !== devices * BLOB_ENTRY_SIZE) {
    findings.error('s_blob_table_size', ext + 16, `${sb.blobTableSize} bytes for ${devices} devices`);
  }
  if (sb.chunkTableSize % CHUNK_ENTRY_SIZE !== 0) {
    const problem = `${sb.chunkTableSize} bytes are no multiple of ${CHUNK_ENTRY_SIZE}`;
    findings.error('s_chunk_table_size', ext + 32, problem);
  }
  if (sb.prefetchTableSize % 4 !== 0) {
    findings.error('s_prefetch_table_size', ext + 48, `${sb.prefetchTableSize} bytes are no multiple of 4`);
  }
  const blobs = room(bytes, areas, sb.blobTableOffset, sb.blobTableSize, ext + 8, 's_blob_table');
  const chunks = room(bytes, areas, sb.chunkTableOffset, sb.chunkTableSize, ext + 24, 's_chunk_table');
  return { blobs: Math.min(shown, Math.floor(blobs / BLOB_ENTRY_SIZE)), chunks: Math.floor(chunks / CHUNK_ENTRY_SIZE) };
}

/** Bytes of a table that lie in the file; 0 for one that is empty and may point anywhere. */
function room(bytes: Bytes, areas: Areas, start: number, size: number, at: number, table: string): number {
  const field = `${table}_offset`;
  if (size === 0) {
    if (!bytes.has(start, 0)) bytes.findings.error(field, at, `an empty table at ${start}, behind the end`);
    return 0;
  }
  if (start !== alignUp(start, BLOCK)) bytes.findings.error(field, at, `${start} is not a multiple of ${BLOCK}`);
  if (!bytes.has(start, size)) {
    bytes.findings.error(field, at, `${size} bytes at ${start} run out of ${bytes.length}`);
    return bytes.has(start, 0) ? bytes.length - start : 0;
  }
  areas.add(start, size, field, at);
  return size;
}
