/**
 * Limits of RAFS images. Each is checked before anything is read or allocated by the value. The length of a bootstrap is a
 * further limit, since structures that do not overlap cannot exceed it.
 */

/** Maximum bytes of a bootstrap: millions of files, of which each takes about 100 bytes and each chunk 80. */
export const MAX_BOOTSTRAP_SIZE = 512 * 1024 * 1024;
/** Maximum number of inodes of a bootstrap. */
export const MAX_INODES = 2 ** 24;
/** Maximum number of extended attributes of an inode, which Linux can list (XATTR_LIST_MAX, 64 KiB of `user.x` and a NUL). */
export const MAX_XATTRS = 8192;
/** Maximum number of blobs: a chunk index has one byte for the device, and Nydus reserves the last number. */
export const MAX_BLOBS = 254;
/** Maximum number of chunks of a blob, whose chunk numbers have 24 bits. */
export const MAX_CHUNKS = 0xff_ffff;
/** Minimum chunk size in bytes. `blob/table.ts` has the maximum for chunks and units. */
export const MIN_CHUNK_SIZE = 4096;
/** Maximum number of blocks, whose addresses have 32 bits. */
export const MAX_BLOCKS = 0xffff_ffff;
/** Maximum bytes of a blob as stored, and of its uncompressed address space. */
export const MAX_BLOB_COMPRESSED = 2 ** 40;
export const MAX_BLOB_UNCOMPRESSED = 2 ** 44;
/**
 * Maximum plain bytes of chunk info with contexts and windows, of all blobs of an image that need it together: 11 million
 * chunks, or the windows of 8 GiB of layers.
 */
export const MAX_META_SIZE = 256 * 1024 * 1024;
/** Maximum bytes of a bootstrap layer's tar: its members, and some for headers and small files that tools add. */
export const MAX_BOOTSTRAP_LAYER = MAX_BOOTSTRAP_SIZE + MAX_META_SIZE + 16 * 1024 * 1024;
/** Maximum window in bytes: plain text before a span of a deflate stream that the span can refer to (RFC 1951). */
export const MAX_WINDOW = 32 * 1024;
/** Maximum bytes of a blob's table of contents with its tar header, as in Nydus. */
export const MAX_TOC_SIZE = 4096;
/** Maximum number of members that are read from the end of a blob; five names exist. */
export const MAX_MEMBERS = 8;
/** Maximum number of entries of the prefetch table. */
export const MAX_PREFETCH = 2 ** 20;
