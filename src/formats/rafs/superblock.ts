/** Superblock (struct erofs_super_block) and Nydus's extended superblock, bytes ⇄ object. */

import { bytes, type IntField, i64, u8, u16, u32, u64, zeros } from '../../binary/fields.ts';
import type { Reader } from '../../binary/reader.ts';
import { struct } from '../../binary/struct.ts';
import { MAX_CHUNK_SIZE } from '../../blob/table.ts';
import type { Mtime } from '../../tree/node.ts';
import { BLOB_ENTRY_SIZE } from './blob-entry.ts';
import { CHUNK_ENTRY_SIZE } from './chunk-entry.ts';
import { DEVICE_SLOT_OFFSET, deviceSlotAt } from './device-slot.ts';
import { MAX_NSEC } from './inode.ts';
import {
  BLOCK,
  BLOCK_BITS,
  COMPAT_RAFS_V6,
  DEVICE_TABLE_OFFSET,
  EROFS_H,
  EROFS_MAGIC,
  EXTENDED_OFFSET,
  FLAG,
  INCOMPAT,
  SUPERBLOCK_OFFSET,
  TARFS_BLOCK_BITS,
  V6_RS,
} from './layout.ts';
import { MAX_BLOBS, MAX_PREFETCH, MIN_CHUNK_SIZE } from './limits.ts';

/** Values of both superblocks. Offsets and sizes are in bytes. */
export interface Superblock {
  /** log2 of the block size, in which devices and the image's own data are addressed: 12, in tarfs 9. */
  readonly blockBits: number;
  /** Time of compact inodes, which store no time. */
  readonly buildTime: Mtime;
  /** Inode number of the root directory. */
  readonly rootNid: number;
  /** Number of path names, not of inodes. */
  readonly inos: number;
  /** Number of blocks of all devices together, without those of the bootstrap. */
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
  /** Maximum chunk size of the image. */
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

/** Superblock of EROFS: 128 bytes at offset 1024. */
export const SUPERBLOCK = struct('erofs_super_block', EROFS_H, 128, {
  magic: u32(0, 'magic', '', EROFS_MAGIC),
  checksum: u32(4, 'checksum', 'no checksum: its feature is off', 0),
  featureCompat: u32(8, 'feature_compat', 'RAFS_V6', COMPAT_RAFS_V6),
  blockBits: u8(12, 'blkszbits', `log2 of the block size: ${BLOCK_BITS}, in tarfs ${TARFS_BLOCK_BITS}`),
  extSlots: u8(13, 'sb_extslots', 'extension slots', 0),
  rootNid: u16(14, 'root_nid', 'inode of the root directory'),
  inos: u64(16, 'inos', 'path names, not inodes; at least 1'),
  buildTime: i64(24, 'build_time', 'seconds: the time of compact inodes'),
  buildTimeNsec: u32(32, 'build_time_nsec', `at most ${MAX_NSEC}`),
  blocks: u32(36, 'blocks', "of all devices together, the bootstrap's own not counted"),
  metaBlkaddr: u32(40, 'meta_blkaddr', 'block at which inode addresses begin'),
  xattrBlkaddr: u32(44, 'xattr_blkaddr', 'no shared attributes', 0),
  uuid: bytes(48, 16, 'uuid', 'zeros in RAFS'),
  volumeName: bytes(64, 16, 'volume_name', 'zeros in RAFS'),
  featureIncompat: u32(80, 'feature_incompat', 'CHUNKED_FILE and DEVICE_TABLE', INCOMPAT),
  comprAlgs: u16(84, 'available_compr_algs', '', 0),
  extraDevices: u16(86, 'extra_devices', `device slots; at most ${MAX_BLOBS}`),
  slotOffset: u16(88, 'devt_slotoff', 'of the device slots, in units of 128 bytes'),
  reserved: zeros(90, 38),
});

/** Extended superblock of Nydus: 256 bytes at offset 1152. */
export const EXTENDED_SUPERBLOCK = struct('RafsV6SuperBlockExt', V6_RS, DEVICE_TABLE_OFFSET - EXTENDED_OFFSET, {
  flags: u64(0, 's_flags', 'RafsSuperFlags: exactly one compression and one hash'),
  blobTableOffset: u64(8, 's_blob_table_offset', 'bytes'),
  blobTableSize: u32(16, 's_blob_table_size', 'bytes: an entry for each device slot'),
  chunkSize: u32(20, 's_chunk_size', 'bytes: a power of two of 4 KiB … 16 MiB'),
  chunkTableOffset: u64(24, 's_chunk_table_offset', 'bytes'),
  chunkTableSize: u64(32, 's_chunk_table_size', 'bytes, whole entries'),
  prefetchTableOffset: u64(40, 's_prefetch_table_offset', 'bytes; 0 where there is none'),
  prefetchTableSize: u32(48, 's_prefetch_table_size', `bytes: a u32 inode number each; at most ${MAX_PREFETCH}`),
  reserved: zeros(52, 204, 's_reserved'),
});

const { fields: SB } = SUPERBLOCK;
const { fields: EXT } = EXTENDED_SUPERBLOCK;

/** Writes both superblocks into a zeroed buffer. */
export function writeSuperblock(out: Buffer, { buildTime, ...sb }: Superblock): void {
  SUPERBLOCK.encode(out, SUPERBLOCK_OFFSET, {
    ...sb,
    buildTime: buildTime.sec,
    buildTimeNsec: buildTime.nsec,
    slotOffset: DEVICE_SLOT_OFFSET,
  });
  EXTENDED_SUPERBLOCK.encode(out, EXTENDED_OFFSET, sb);
}

/** Decodes both superblocks without checking values. Throws FormatError beyond the end. */
export function decodeSuperblock(reader: Reader): Superblock {
  const { blockBits, rootNid, inos, blocks, metaBlkaddr, extraDevices, ...rest } = SUPERBLOCK.decode(
    reader,
    SUPERBLOCK_OFFSET,
  );
  const extended = EXTENDED_SUPERBLOCK.decode(reader, EXTENDED_OFFSET);
  const buildTime = { sec: rest.buildTime, nsec: rest.buildTimeNsec };
  return { blockBits, buildTime, rootNid, inos, blocks, metaBlkaddr, extraDevices, ...extended };
}

/** Reads and checks both superblocks. Throws FormatError for invalid values, UNSUPPORTED for features that this version lacks. */
export function readSuperblock(reader: Reader): Superblock {
  const base = SUPERBLOCK_OFFSET;
  if (reader.length < BLOCK)
    throw reader.bad('bootstrap', `${reader.length} bytes are not a whole number of blocks`, 0);
  if (SB.magic.read(reader, base) !== EROFS_MAGIC) throw SB.magic.bad(reader, base, 'not an EROFS image');
  const ext = EXTENDED_OFFSET;
  const flags = EXT.flags.read(reader, ext);
  expect(reader, SB.featureCompat, COMPAT_RAFS_V6);
  expect(reader, SB.featureIncompat, INCOMPAT);
  checkFlags(reader, flags);
  const blockBits = (flags & FLAG.TARTFS_MODE) === 0 ? BLOCK_BITS : TARFS_BLOCK_BITS;
  expect(reader, SB.blockBits, blockBits);
  if (reader.length % 2 ** blockBits !== 0) {
    throw reader.bad('bootstrap', `${reader.length} bytes are not a whole number of blocks`, 0);
  }
  expect(reader, SB.extSlots, 0);
  expect(reader, SB.xattrBlkaddr, 0);
  const sb = decodeSuperblock(reader);
  const { nsec } = sb.buildTime;
  if (nsec > MAX_NSEC) throw SB.buildTimeNsec.bad(reader, base, `${nsec} ns is not below 10^9`);
  const size = sb.chunkSize;
  if (size < MIN_CHUNK_SIZE || size > MAX_CHUNK_SIZE || (size & (size - 1)) !== 0) {
    throw EXT.chunkSize.bad(reader, ext, `${size} is not a power of two of 4 KiB … 16 MiB`);
  }
  if (sb.inos === 0) throw SB.inos.bad(reader, base, 'the image has no inodes');
  checkTables(reader, sb);
  return sb;
}

/** Throws FormatError unless a field of the EROFS superblock has its only legal value. */
function expect(reader: Reader, field: IntField, wanted: number): void {
  const value = field.read(reader, SUPERBLOCK_OFFSET);
  if (value === wanted) return;
  throw field.bad(reader, SUPERBLOCK_OFFSET, `0x${value.toString(16)}, not 0x${wanted.toString(16)}`);
}

function checkFlags(reader: Reader, flags: number): void {
  const bad = (problem: string) => EXT.flags.bad(reader, EXTENDED_OFFSET, problem);
  const allFlags = Object.values(FLAG).reduce((all, bit) => all + bit, 0);
  if (flags > 0xffff_ffff || (flags & ~allFlags) >>> 0 !== 0) throw bad('unknown bits');
  const one = (mask: number) => (flags & mask) !== 0 && (flags & mask & ((flags & mask) - 1)) === 0;
  const compression = FLAG.COMPRESSION_NONE | FLAG.COMPRESSION_LZ4 | FLAG.COMPRESSION_GZIP | FLAG.COMPRESSION_ZSTD;
  if (!one(compression) || !one(FLAG.HASH_BLAKE3 | FLAG.HASH_SHA256)) {
    throw bad('must have exactly one compression and one hash');
  }
}

/** Checks that tables lie inside the file and do not overlap. Empty tables may point anywhere. */
function checkTables(reader: Reader, sb: Superblock): void {
  const ext = EXTENDED_OFFSET;
  if (sb.extraDevices > MAX_BLOBS) {
    throw SB.extraDevices.bad(
      reader,
      SUPERBLOCK_OFFSET,
      `${sb.extraDevices} devices exceed the maximum of ${MAX_BLOBS}`,
    );
  }
  if (sb.blobTableSize !== sb.extraDevices * BLOB_ENTRY_SIZE) {
    throw EXT.blobTableSize.bad(reader, ext, `${sb.blobTableSize} bytes do not match ${sb.extraDevices} devices`);
  }
  if (sb.chunkTableSize % CHUNK_ENTRY_SIZE !== 0) {
    throw EXT.chunkTableSize.bad(reader, ext, `not a multiple of ${CHUNK_ENTRY_SIZE}`);
  }
  if (sb.extraDevices > 0) expect(reader, SB.slotOffset, DEVICE_SLOT_OFFSET);
  const regions = [
    { field: SB.slotOffset.name, start: 0, size: deviceSlotAt(sb.extraDevices) },
    { field: EXT.blobTableOffset.name, start: sb.blobTableOffset, size: sb.blobTableSize },
    // Old writers give an empty prefetch table a size without an offset.
    {
      field: EXT.prefetchTableOffset.name,
      start: sb.prefetchTableOffset,
      size: sb.prefetchTableOffset === 0 ? 0 : sb.prefetchTableSize,
    },
    { field: EXT.chunkTableOffset.name, start: sb.chunkTableOffset, size: sb.chunkTableSize },
  ].filter(({ size }) => size > 0);
  regions.sort((a, b) => a.start - b.start);
  let end = 0;
  for (const { field, start, size } of regions) {
    reader.check(start, size, field);
    if (start < end) throw reader.bad(field, 'overlaps another table', start);
    end = start + size;
  }
  reader.check(sb.metaBlkaddr * 2 ** sb.blockBits, 0, SB.metaBlkaddr.name);
  if (sb.prefetchTableSize > 4 * MAX_PREFETCH) {
    throw EXT.prefetchTableSize.bad(reader, ext, `${sb.prefetchTableSize} bytes are too many`);
  }
}
