/**
 * Constants of RAFS v6: an EROFS image (Linux, fs/erofs/erofs_fs.h) whose regular files are chunk-based and lie on
 * extra devices, plus what Nydus adds (nydus, rafs/src/metadata/layout/v6.rs). All integers little-endian.
 */
import type { Compressor, Digester } from '../../native/addon.ts';

/** Sources that define the structures: Linux, Nydus. */
export const EROFS_H = 'fs/erofs/erofs_fs.h';
export const V6_RS = 'nydus rafs/src/metadata/layout/v6.rs';
export const META_RS = 'nydus storage/src/meta';

export const BLOCK = 4096;
export const BLOCK_BITS = 12;
/** log2 of the block size of tarfs, whose devices are tar files. */
export const TARFS_BLOCK_BITS = 9;
/** Unit of inode addresses: nid = (offset − meta) / 32. */
export const SLOT = 32;

export const SUPERBLOCK_OFFSET = 1024;
export const EROFS_MAGIC = 0xe0f5e1e2;
export const EXTENDED_OFFSET = 1152;
export const DEVICE_TABLE_OFFSET = 1408;
/** Bytes of an entry of the prefetch table. */
export const PREFETCH_ENTRY_SIZE = 4;
/** Device addresses in the flat address space start at multiples of this. */
export const DEVICE_ALIGN = 512 * 1024;

/** RAFS_V6, the only feature_compat bit in use. */
export const COMPAT_RAFS_V6 = 0x4000_0000;
/** CHUNKED_FILE | DEVICE_TABLE. */
export const INCOMPAT = 0x4 | 0x8;

/** root_nid: the block before the root stays unused, so that no inode has number 0, which glibc's readdir hides. */
export const ROOT_NID = BLOCK / SLOT;

/** s_flags of the extended superblock (RafsSuperFlags). */
export const FLAG = {
  COMPRESSION_NONE: 0x1,
  COMPRESSION_LZ4: 0x2,
  HASH_BLAKE3: 0x4,
  HASH_SHA256: 0x8,
  EXPLICIT_UID_GID: 0x10,
  HAS_XATTR: 0x20,
  COMPRESSION_GZIP: 0x40,
  COMPRESSION_ZSTD: 0x80,
  INLINED_CHUNK_DIGEST: 0x100,
  TARTFS_MODE: 0x200,
  ENCRYPTION_NONE: 0x0100_0000,
  ENCRYPTION_AES_128_XTS: 0x0200_0000,
  /** PRESERVED_COMPAT_0…5 */
  COMPAT: 0xfc00_0000,
} as const;

export const COMPRESSION_FLAG: Readonly<Record<Compressor, number>> = {
  0: FLAG.COMPRESSION_NONE,
  1: FLAG.COMPRESSION_LZ4,
  2: FLAG.COMPRESSION_GZIP,
  3: FLAG.COMPRESSION_ZSTD,
};
export const HASH_FLAG: Readonly<Record<Digester, number>> = { 0: FLAG.HASH_BLAKE3, 1: FLAG.HASH_SHA256 };

/** Features of a blob (BlobFeatures). */
export const FEATURE = {
  ALIGNED: 0x1,
  INLINED_FS_META: 0x2,
  CHUNK_INFO_V2: 0x4,
  ZRAN: 0x8,
  SEPARATE: 0x10,
  INLINED_CHUNK_DIGEST: 0x20,
  TARFS: 0x40,
  BATCH: 0x80,
  ENCRYPTED: 0x100,
  IS_CHUNKDICT_GENERATED: 0x200,
  IS_SEPARATED_WITH_PREFETCH_FILES: 0x400,
  EXTERNAL: 0x800,
  HAS_TAR_HEADER: 0x1000_0000,
  HAS_TOC: 0x2000_0000,
  CAP_TAR_TOC: 0x4000_0000,
} as const;

/** Flags of a chunk info entry (BlobChunkFlags). */
export const CHUNK_FLAG = { COMPRESSED: 0x1, HOLE: 0x2, ENCRYPTED: 0x4, BATCH: 0x8, HAS_CRC32: 0x10 } as const;

/** Blob id in a bootstrap inside its own blob, which cannot contain the blob's hash. */
export const NAMELESS_BLOB = 'x'.repeat(64);

export const alignUp = (value: number, unit: number): number => Math.ceil(value / unit) * unit;
