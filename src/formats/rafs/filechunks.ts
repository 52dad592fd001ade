/** The chunk indexes of a regular file → its chunks. */

import type { Reader } from '../../binary/reader.ts';
import type { FileChunk } from '../../tree/node.ts';
import { type ChunkIndex, INDEX_SIZE, readChunkIndex } from './chunk-index.ts';
import { CHUNK_FORMAT_BITS, CHUNK_FORMAT_INDEXES, type DecodedInode, LAYOUT } from './inode.ts';
import { alignUp } from './layout.ts';
import type { Superblock } from './superblock.ts';
import { xattrSizeOf } from './xattr.ts';

/** Finds the chunk of an index entry; null when there is none. `size`: its bytes, for images without a chunk table. */
export type FindChunk = (index: ChunkIndex, size: number) => FileChunk | null;

/** The chunks of the inode at `offset`, which the budget covers. Throws FormatError when they do not match its size. */
export function readFileChunks(
  reader: Reader,
  superblock: Superblock,
  findChunk: FindChunk,
  inode: DecodedInode,
  offset: number,
): FileChunk[] {
  const { chunkSize, blockBits } = superblock;
  if (inode.layout !== LAYOUT.CHUNK_BASED) {
    throw reader.bad('i_format', 'a regular file must be chunk-based', offset);
  }
  const start = alignUp(offset + inode.inodeSize + xattrSizeOf(inode.xattrCount), INDEX_SIZE);
  const count = Math.ceil(inode.size / chunkSize);
  reader.check(start, count * INDEX_SIZE, 'chunk indexes');
  const chunks: FileChunk[] = [];
  for (let i = 0; i < count; i++) {
    const at = start + i * INDEX_SIZE;
    const index = readChunkIndex(reader, at, blockBits);
    const expectedSize = Math.min(chunkSize, inode.size - i * chunkSize);
    const chunk = findChunk(index, expectedSize);
    if (chunk === null) {
      const problem = `chunk ${index.index} of blob ${index.blobIndex} is not in the chunk table`;
      throw reader.bad('chunk index', problem, at);
    }
    if (chunk.uncompressedSize !== expectedSize) {
      throw reader.bad('chunk index', `the chunk has ${chunk.uncompressedSize} bytes, not ${expectedSize}`, at);
    }
    chunks.push(chunk);
  }
  checkExtent(reader, superblock, inode, chunks, offset);
  return chunks;
}

/** Checks that the extents that the kernel reads, one of the given size per index, are the chunks. */
function checkExtent(
  reader: Reader,
  { chunkSize, blockBits }: Superblock,
  inode: DecodedInode,
  chunks: readonly FileChunk[],
  offset: number,
): void {
  if ((inode.union & ~CHUNK_FORMAT_BITS) !== CHUNK_FORMAT_INDEXES) {
    throw reader.bad('i_u.c.format', `0x${inode.union.toString(16)} is not an index format`, offset + 16);
  }
  // The size can be 2^43, which a shift cannot compute.
  const extent = 2 ** (blockBits + (inode.union & CHUNK_FORMAT_BITS));
  if (extent === chunkSize || chunks.length === 0) return;
  const [first] = chunks;
  const isOnePiece = chunks.every(
    (chunk, i) => chunk.blob === first!.blob && chunk.uncompressedOffset === first!.uncompressedOffset + i * chunkSize,
  );
  if (extent < inode.size || !isOnePiece) {
    throw reader.bad('i_u.c.format', `extents of ${extent} bytes do not fit the file's chunks`, offset + 16);
  }
}
