/** Claims of a regular file's chunk index array against the chunk table, as Nydus and as the kernel read it. */
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
  /** Entries whose file_offset some file confirmed. */
  readonly confirmed: Set<TableEntry>;
}

/** The inode at `offset`, its array at `at`, which is in the file. */
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
    const wanted = Math.min(sb.chunkSize, inode.size - i * sb.chunkSize);
    if (sb.isTarfs) checkTarfs(bytes, context, index, place, wanted, path);
    else checkIndex(bytes, context, index, place, { wanted, offset, fileOffset: i * sb.chunkSize, path });
    isOnePiece &&=
      previous === null ||
      (index.blobIndex === previous.blobIndex &&
        index.uncompressedOffset === previous.uncompressedOffset + sb.chunkSize);
    previous = index;
  }
  checkExtent(bytes, sb, inode, offset, isOnePiece && count > 0, path);
}

interface Expected {
  /** Bytes that belong here. */
  readonly wanted: number;
  /** Of the inode. */
  readonly offset: number;
  readonly fileOffset: number;
  readonly path: string;
}

function checkIndex(bytes: Bytes, context: ChunkContext, index: ChunkIndex, at: number, expected: Expected): void {
  const { findings } = bytes;
  const { path, wanted } = expected;
  if (context.blobs[index.blobIndex] === undefined) {
    bytes.error(INDEX.device, at, `${index.blobIndex + 1} of ${context.blobs.length} devices`, { path });
    return;
  }
  const entry = context.chunks.use(index.blobIndex, index.index, path);
  if (entry === null) {
    const problem = `chunk ${index.index} of blob ${index.blobIndex} is not in the chunk table`;
    findings.error('chunk index', at, problem, { path });
    return;
  }
  if (entry.uncompressedOffset !== index.uncompressedOffset) {
    const problem = `the kernel reads at ${index.uncompressedOffset}, chunk ${index.index} lies at ${entry.uncompressedOffset}`;
    bytes.error(INDEX.block, at, problem, { path });
  }
  if (entry.uncompressedSize !== wanted) {
    const problem = `${wanted} bytes belong into its chunk at ${expected.fileOffset}, which has ${entry.uncompressedSize}`;
    bytes.error(SIZE, expected.offset, problem, { path });
  }
  if (entry.fileOffset === expected.fileOffset) context.confirmed.add(entry);
}

/** tarfs: a block of the tar, no chunk. */
function checkTarfs(
  bytes: Bytes,
  { blobs }: ChunkContext,
  index: ChunkIndex,
  at: number,
  wanted: number,
  path: string,
): void {
  const blob = blobs[index.blobIndex];
  if (blob === undefined) {
    bytes.error(INDEX.device, at, `${index.blobIndex + 1} of ${blobs.length} devices`, { path });
  } else if (!(index.uncompressedOffset + wanted <= blob.uncompressedSize)) {
    bytes.error(INDEX.block, at, `${wanted} bytes run out of the tar`, { path });
  }
}

/** The size of an extent that the kernel is told: a chunk, or one power of two that the whole file fits in. */
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
    findings.error('i_u.c.format', offset + UNION.at, `0x${format.toString(16)} is no index format`, { path });
    return;
  }
  // A power, not a shift: it may be 2^43.
  const extent = sb.block * 2 ** (format & CHUNK_FORMAT_BITS);
  if (extent === sb.chunkSize || inode.size === 0) return;
  if (extent < inode.size || !isOnePiece) {
    findings.error('i_u.c.format', offset + UNION.at, `extents of ${extent} bytes do not fit the file's chunks`, {
      path,
    });
  }
}
