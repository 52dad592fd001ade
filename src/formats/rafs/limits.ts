/**
 * How much a RAFS image may claim before it is not believed: the one list of bounds, each checked before anything is
 * read, sized or allocated by it. What else bounds a bootstrap is its own length: structures that do not overlap cannot
 * exceed it.
 */

/** Bytes of a bootstrap. Some 100 a file and 80 a chunk: this is an image of millions of files. */
export const MAX_BOOTSTRAP_SIZE = 512 * 1024 * 1024;
/** Inodes of a bootstrap. */
export const MAX_INODES = 2 ** 24;
/** Extended attributes of an inode: as many names as Linux lists (XATTR_LIST_MAX, 64 KiB of `user.x` and a NUL). */
export const MAX_XATTRS = 8192;
/** An index entry names its device in one byte, and Nydus keeps the last number for itself. */
export const MAX_BLOBS = 254;
/** Chunk numbers of a blob have 24 bits. */
export const MAX_CHUNKS = 0xff_ffff;
/** Bytes of a chunk at least; at most, as of a unit, what `blob/table.ts` says. */
export const MIN_CHUNK_SIZE = 4096;
/** Block addresses have 32 bits. */
export const MAX_BLOCKS = 0xffff_ffff;
/** Bytes of a blob as stored, and of its uncompressed address space. */
export const MAX_BLOB_COMPRESSED = 2 ** 40;
export const MAX_BLOB_UNCOMPRESSED = 2 ** 44;
/**
 * Plain bytes of chunk info with its contexts and windows, of all blobs of an image whose chunks are found with it:
 * 11 million chunks, or the windows of 8 GiB of layers.
 */
export const MAX_META_SIZE = 256 * 1024 * 1024;
/** Bytes of a bootstrap layer's tar: what it may hold, and room for headers and small files that tools add. */
export const MAX_BOOTSTRAP_LAYER = MAX_BOOTSTRAP_SIZE + MAX_META_SIZE + 16 * 1024 * 1024;
/** Plain text before a span of a deflate stream that it can refer to (RFC 1951). */
export const MAX_WINDOW = 32 * 1024;
/** Bytes of a blob's table of contents with its tar header; Nydus's reader fetches no more. */
export const MAX_TOC_SIZE = 4096;
/** Members that are looked for from the end of a blob; five names exist. */
export const MAX_MEMBERS = 8;
/** Entries of the prefetch table. */
export const MAX_PREFETCH = 2 ** 20;
