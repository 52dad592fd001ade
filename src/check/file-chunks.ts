/** Checks of a regular file's chunk indexes against the chunk table, as Nydus and as the kernel read them. */
import { CHUNK_INDEX, type ChunkIndex, INDEX_SIZE, readChunkIndex } from '../formats/rafs/chunk-index.ts';
import { CHUNK_FORMAT_BITS, CHUNK_FORMAT_INDEXES, EXTENDED_INODE, type RawInode } from '../formats/rafs/inode.ts';
import type { CheckedBlob } from './blob-table.ts';
import type { Bytes } from './bytes.ts';
import type { CheckedChunks, TableEntry } from './chunk-table.ts';
import type { CheckedSuperblock } from './superblock.ts';

const { fields: INDEX } = CHUNK_INDEX;
/** Both forms of inodes have these in the same places. */
const { union: UNION, size: SIZE } = EXTENDED_INODE.fields;

export interface ChunkContext {
  readonly sb: CheckedSuperblock;
  readonly blobs: readonly CheckedBlob[];
  readonly chunks: CheckedChunks;
  /** Entries whose file_offset matches that of a file. */
  readonly confirmed: Set<TableEntry>;
}

/** Checks the chunk indexes at `at`, which lie in the bootstrap, of the inode at `offset`. */
export function checkFileChunks(
  bytes: Bytes,
  context: ChunkContext,
  inode: RawInode,
  offset: number,
  at: number,
  path: string,
): void {
  const { sb } = context;
  const count = Math.ceil(inode.size / sb.chunkSize);
  let isOnePiece = true;
  let previous: ChunkIndex | null = null;
  for (let i = 0; i < count; i++) {
    const place = at + i * INDEX_SIZE;
    const index = readChunkIndex(bytes, place, Math.log2(sb.block));
    const expectedSize = Math.min(sb.chunkSize, inode.size - i * sb.chunkSize);
    if (sb.isTarfs) checkTarfs(bytes, context, index, place, expectedSize, path);
    else checkIndex(bytes, context, index, place, { size: expectedSize, offset, fileOffset: i * sb.chunkSize, path });
    isOnePiece &&=
      previous === null ||
      (index.blobIndex === previous.blobIndex &&
        index.uncompressedOffset === previous.uncompressedOffset + sb.chunkSize);
    previous = index;
  }
  checkExtent(bytes, sb, inode, offset, isOnePiece && count > 0, path);
}

interface Expected {
  /** Bytes of file content in the chunk. */
  readonly size: number;
  /** Offset of the inode in the bootstrap. */
  readonly offset: number;
  readonly fileOffset: number;
  readonly path: string;
}

function checkIndex(bytes: Bytes, context: ChunkContext, index: ChunkIndex, at: number, expected: Expected): void {
  const { findings } = bytes;
  const { path, size } = expected;
  if (context.blobs[index.blobIndex] === undefined) {
    bytes.error(
      INDEX.device,
      at,
      `device ${index.blobIndex + 1} does not exist: the image has ${context.blobs.length}`,
      { path },
    );
    return;
  }
  const entry = context.chunks.use(index.blobIndex, index.index, path);
  if (entry === null) {
    const problem = `chunk ${index.index} of blob ${index.blobIndex} is not in the chunk table`;
    findings.error('chunk index', at, problem, { path });
    return;
  }
  if (entry.uncompressedOffset !== index.uncompressedOffset) {
    const problem = `the kernel reads at ${index.uncompressedOffset}, but chunk ${index.index} is at ${entry.uncompressedOffset}`;
    bytes.error(INDEX.block, at, problem, { path });
  }
  if (entry.uncompressedSize !== size) {
    const problem = `the chunk at file offset ${expected.fileOffset} has ${entry.uncompressedSize} bytes, not ${size}`;
    bytes.error(SIZE, expected.offset, problem, { path });
  }
  if (entry.fileOffset === expected.fileOffset) context.confirmed.add(entry);
}

/** Checks an index of tarfs, which is a block of the tar and not a chunk. */
function checkTarfs(
  bytes: Bytes,
  { blobs }: ChunkContext,
  index: ChunkIndex,
  at: number,
  size: number,
  path: string,
): void {
  const blob = blobs[index.blobIndex];
  if (blob === undefined) {
    bytes.error(INDEX.device, at, `device ${index.blobIndex + 1} does not exist: the image has ${blobs.length}`, {
      path,
    });
  } else if (!(index.uncompressedOffset + size <= blob.uncompressedSize)) {
    bytes.error(INDEX.block, at, `${size} bytes exceed the tar`, { path });
  }
}

/** Checks the extent size that the kernel reads: a chunk, or a power of two that holds the whole file. */
function checkExtent(
  { findings }: Bytes,
  sb: CheckedSuperblock,
  inode: RawInode,
  offset: number,
  isOnePiece: boolean,
  path: string,
): void {
  const format = inode.union;
  if ((format & ~CHUNK_FORMAT_BITS) !== CHUNK_FORMAT_INDEXES) {
    findings.error('i_u.c.format', offset + UNION.at, `0x${format.toString(16)} is not an index format`, { path });
    return;
  }
  // The size can be 2^43, which a shift cannot compute.
  const extent = sb.block * 2 ** (format & CHUNK_FORMAT_BITS);
  if (extent === sb.chunkSize || inode.size === 0) return;
  if (extent < inode.size || !isOnePiece) {
    findings.error('i_u.c.format', offset + UNION.at, `extents of ${extent} bytes do not fit the file's chunks`, {
      path,
    });
  }
}
