/** Superblock (struct erofs_super_block) and Nydus's extended superblock, bytes ⇄ object. */

import { MAX_CHUNK_SIZE } from '../../blob/table.ts';
import type { Mtime } from '../../tree/node.ts';
import { putI64, putU64, type Reader } from './bytes.ts';
import { MAX_NSEC } from './inode.ts';
import {
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
  TARFS_BLOCK_BITS,
} from './layout.ts';
import { MAX_BLOBS, MAX_PREFETCH, MIN_CHUNK_SIZE } from './limits.ts';

/** Both superblocks. Offsets and sizes in bytes. */
export interface Superblock {
  /** log2 of the block size, in which devices and the image's own data are addressed: 12, in tarfs 9. */
  readonly blockBits: number;
  /** The time of inodes that have none of their own. */
  readonly buildTime: Mtime;
  /** Inode number of the root directory. */
  readonly rootNid: number;
  /** Path names, not inodes. */
  readonly inos: number;
  /** Blocks of all devices together; the bootstrap's own do not count. */
  readonly blocks: number;
  /** First block of the inode area. */
  readonly metaBlkaddr: number;
  /** Number of blob devices beside the bootstrap. */
  readonly extraDevices: number;
  /** Bits of {@link FLAG}. */
  readonly flags: number;
  /** First byte of the blob table. */
  readonly blobTableOffset: number;
  /** Length of the blob table. */
  readonly blobTableSize: number;
  /** Largest chunk of the image. */
  readonly chunkSize: number;
  /** First byte of the chunk table. */
  readonly chunkTableOffset: number;
  /** Length of the chunk table. */
  readonly chunkTableSize: number;
  /** First byte of the prefetch table. */
  readonly prefetchTableOffset: number;
  /** Length of the prefetch table. */
  readonly prefetchTableSize: number;
}

/** Writes both into a zeroed buffer. */
export function writeSuperblock(out: Buffer, sb: Superblock): void {
  const base = SUPERBLOCK_OFFSET;
  out.writeUInt32LE(EROFS_MAGIC, base); // magic
  out.writeUInt32LE(COMPAT_RAFS_V6, base + 8); // feature_compat
  out[base + 12] = sb.blockBits; // blkszbits
  out.writeUInt16LE(sb.rootNid, base + 14); // root_nid
  putU64(out, sb.inos, base + 16); // inos
  putI64(out, sb.buildTime.sec, base + 24); // build_time
  out.writeUInt32LE(sb.buildTime.nsec, base + 32); // build_time_nsec
  out.writeUInt32LE(sb.blocks, base + 36); // blocks
  out.writeUInt32LE(sb.metaBlkaddr, base + 40); // meta_blkaddr
  out.writeUInt32LE(INCOMPAT, base + 80); // feature_incompat
  out.writeUInt16LE(sb.extraDevices, base + 86); // extra_devices
  out.writeUInt16LE(DEVICE_SLOT_OFFSET, base + 88); // devt_slotoff

  const ext = EXTENDED_OFFSET;
  putU64(out, sb.flags, ext); // s_flags
  putU64(out, sb.blobTableOffset, ext + 8); // s_blob_table_offset
  out.writeUInt32LE(sb.blobTableSize, ext + 16); // s_blob_table_size
  out.writeUInt32LE(sb.chunkSize, ext + 20); // s_chunk_size
  putU64(out, sb.chunkTableOffset, ext + 24); // s_chunk_table_offset
  putU64(out, sb.chunkTableSize, ext + 32); // s_chunk_table_size
  putU64(out, sb.prefetchTableOffset, ext + 40); // s_prefetch_table_offset
  out.writeUInt32LE(sb.prefetchTableSize, ext + 48); // s_prefetch_table_size
}

/** Both as they are, nothing checked but that they are there. */
export function decodeSuperblock(reader: Reader): Superblock {
  const [base, ext] = [SUPERBLOCK_OFFSET, EXTENDED_OFFSET];
  return {
    blockBits: reader.u8(base + 12, 'blkszbits'),
    buildTime: { sec: reader.i64(base + 24, 'build_time'), nsec: reader.u32(base + 32, 'build_time_nsec') },
    rootNid: reader.u16(base + 14, 'root_nid'),
    inos: reader.u64(base + 16, 'inos'),
    blocks: reader.u32(base + 36, 'blocks'),
    metaBlkaddr: reader.u32(base + 40, 'meta_blkaddr'),
    extraDevices: reader.u16(base + 86, 'extra_devices'),
    flags: reader.u64(ext, 's_flags'),
    blobTableOffset: reader.u64(ext + 8, 's_blob_table_offset'),
    blobTableSize: reader.u32(ext + 16, 's_blob_table_size'),
    chunkSize: reader.u32(ext + 20, 's_chunk_size'),
    chunkTableOffset: reader.u64(ext + 24, 's_chunk_table_offset'),
    chunkTableSize: reader.u64(ext + 32, 's_chunk_table_size'),
    prefetchTableOffset: reader.u64(ext + 40, 's_prefetch_table_offset'),
    prefetchTableSize: reader.u32(ext + 48, 's_prefetch_table_size'),
  };
}

/** Reads and checks both. FormatError for what cannot be, UNSUPPORTED for what this version does not read. */
export function readSuperblock(reader: Reader): Superblock {
  const base = SUPERBLOCK_OFFSET;
  if (reader.length < BLOCK)
    throw reader.bad('bootstrap', `${reader.length} bytes are not a whole number of blocks`, 0);
  if (reader.u32(base, 'magic') !== EROFS_MAGIC) throw reader.bad('magic', 'not an EROFS image', base);
  const ext = EXTENDED_OFFSET;
  const flags = reader.u64(ext, 's_flags');
  expect(reader, base + 8, reader.u32(base + 8, 'feature_compat'), COMPAT_RAFS_V6, 'feature_compat');
  expect(reader, base + 80, reader.u32(base + 80, 'feature_incompat'), INCOMPAT, 'feature_incompat');
  checkFlags(reader, flags, ext);
  const blockBits = (flags & FLAG.TARTFS_MODE) === 0 ? BLOCK_BITS : TARFS_BLOCK_BITS;
  expect(reader, base + 12, reader.u8(base + 12, 'blkszbits'), blockBits, 'blkszbits');
  if (reader.length % 2 ** blockBits !== 0) {
    throw reader.bad('bootstrap', `${reader.length} bytes are not a whole number of blocks`, 0);
  }
  expect(reader, base + 13, reader.u8(base + 13, 'sb_extslots'), 0, 'sb_extslots');
  expect(reader, base + 44, reader.u32(base + 44, 'xattr_blkaddr'), 0, 'xattr_blkaddr');
  const sb = decodeSuperblock(reader);
  const { nsec } = sb.buildTime;
  if (nsec > MAX_NSEC) throw reader.bad('build_time_nsec', `${nsec} is not below a second`, base + 32);
  const size = sb.chunkSize;
  if (size < MIN_CHUNK_SIZE || size > MAX_CHUNK_SIZE || (size & (size - 1)) !== 0) {
    throw reader.bad('s_chunk_size', `${size} is not a power of two of 4 KiB … 16 MiB`, ext + 20);
  }
  if (sb.inos === 0) throw reader.bad('inos', 'no inodes', base + 16);
  checkTables(reader, sb);
  return sb;
}

function expect(reader: Reader, offset: number, value: number, wanted: number, field: string): void {
  if (value !== wanted) throw reader.bad(field, `0x${value.toString(16)}, not 0x${wanted.toString(16)}`, offset);
}

function checkFlags(reader: Reader, flags: number, offset: number): void {
  const known = Object.values(FLAG).reduce((all, bit) => all + bit, 0);
  if (flags > 0xffff_ffff || (flags & ~known) >>> 0 !== 0) throw reader.bad('s_flags', 'unknown bits', offset);
  const one = (mask: number) => (flags & mask) !== 0 && (flags & mask & ((flags & mask) - 1)) === 0;
  const compression = FLAG.COMPRESSION_NONE | FLAG.COMPRESSION_LZ4 | FLAG.COMPRESSION_GZIP | FLAG.COMPRESSION_ZSTD;
  if (!one(compression) || !one(FLAG.HASH_BLAKE3 | FLAG.HASH_SHA256)) {
    throw reader.bad('s_flags', 'not exactly one compression and one hash', offset);
  }
}

/** Tables lie inside the file, whole, and do not overlap. Empty ones may point anywhere. */
function checkTables(reader: Reader, sb: Superblock): void {
  const ext = EXTENDED_OFFSET;
  if (sb.extraDevices > MAX_BLOBS) {
    throw reader.bad('extra_devices', `${sb.extraDevices}, at most ${MAX_BLOBS}`, SUPERBLOCK_OFFSET + 86);
  }
  if (sb.blobTableSize !== sb.extraDevices * BLOB_ENTRY_SIZE) {
    throw reader.bad('s_blob_table_size', `${sb.blobTableSize} bytes for ${sb.extraDevices} devices`, ext + 16);
  }
  if (sb.chunkTableSize % CHUNK_ENTRY_SIZE !== 0) {
    throw reader.bad('s_chunk_table_size', `not a multiple of ${CHUNK_ENTRY_SIZE}`, ext + 32);
  }
  const slotOffset = reader.u16(SUPERBLOCK_OFFSET + 88, 'devt_slotoff');
  if (sb.extraDevices > 0) expect(reader, SUPERBLOCK_OFFSET + 88, slotOffset, DEVICE_SLOT_OFFSET, 'devt_slotoff');
  const regions = [
    { field: 'devt_slotoff', start: 0, size: DEVICE_TABLE_OFFSET + sb.extraDevices * DEVICE_SLOT_SIZE },
    { field: 's_blob_table_offset', start: sb.blobTableOffset, size: sb.blobTableSize },
    // Old writers give an empty prefetch table a size without an offset.
    {
      field: 's_prefetch_table_offset',
      start: sb.prefetchTableOffset,
      size: sb.prefetchTableOffset === 0 ? 0 : sb.prefetchTableSize,
    },
    { field: 's_chunk_table_offset', start: sb.chunkTableOffset, size: sb.chunkTableSize },
  ].filter(({ size }) => size > 0);
  regions.sort((a, b) => a.start - b.start);
  let end = 0;
  for (const { field, start, size } of regions) {
    reader.check(start, size, field);
    if (start < end) throw reader.bad(field, 'overlaps another table', start);
    end = start + size;
  }
  reader.check(sb.metaBlkaddr * 2 ** sb.blockBits, 0, 'meta_blkaddr');
  if (sb.prefetchTableSize > 4 * MAX_PREFETCH) {
    throw reader.bad('s_prefetch_table_size', `${sb.prefetchTableSize} bytes are too many`, ext + 48);
  }
}
