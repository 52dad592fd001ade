/**
 * Plans a tree as a plain EROFS image: one device, no device table, no structures of Nydus, all content uncompressed. Such
 * an image needs no other file, and every reader of EROFS accepts it, the kernel since 4.19. Identical content is stored
 * once; only a file that is not contiguous then needs chunk indexes (Linux 5.15). Only the positions of content are planned,
 * and no content is read.
 */
import { createHash } from 'node:crypto';
import { LacunaError } from '../../errors.ts';
import type { FileChunk, FileNode } from '../../tree/node.ts';
import { INDEX_SIZE, writeDeviceIndex } from './chunk-index.ts';
import { CHUNK_FORMAT_INDEXES, INODE_SIZE, LAYOUT } from './inode.ts';
import type { Inodes } from './inodes.ts';
import { alignUp, BLOCK, BLOCK_BITS, ROOT_NID, SUPERBLOCK_OFFSET } from './layout.ts';
import { MAX_BLOCKS } from './limits.ts';
import { type OnDropped, placeIndexed, placeInline, walkTree } from './plan.ts';
import { Space } from './space.ts';
import { SUPERBLOCK } from './superblock.ts';
import { writePlannedInode } from './writeinode.ts';

/** EROFS_FEATURE_INCOMPAT_CHUNKED_FILE */
const INCOMPAT_CHUNKED_FILE = 0x4;

/** A chunk and the offset of its plain bytes in the image; zeros pad its last block. */
export interface PlacedChunk {
  readonly chunk: FileChunk;
  /** Offset in bytes, a whole number of blocks. */
  readonly offset: number;
}

export interface PlainImage {
  /** Superblock, inodes, directories: the first bytes of the image, whole blocks. */
  readonly metadata: Buffer;
  /** Every distinct chunk, by its blob and its offset there, in the order of the image. */
  readonly chunks: readonly PlacedChunk[];
  /** Length of the whole image in bytes. */
  readonly size: number;
}

/** Plans the image of a lazy image's tree; the same tree gives the same bytes. Throws UNSUPPORTED beyond the limits of EROFS. */
export function planPlain(root: FileNode, onDropped?: OnDropped): PlainImage {
  const { inodes } = walkTree(root, onDropped);
  const places = placeChunks(inodes.nodes);
  const space = new Space(BLOCK);
  for (let number = 0; number < inodes.count; number++) placeInode(inodes, number, space, places);
  const metadataSize = alignUp(space.end, BLOCK);
  const size = metadataSize + places.size;
  if (size / BLOCK > MAX_BLOCKS) {
    throw new LacunaError('UNSUPPORTED', `the image of ${size} bytes exceeds the maximum of EROFS, 16 TiB`, {
      op: 'export',
    });
  }
  const metadata = Buffer.alloc(metadataSize);
  for (let number = 0; number < inodes.count; number++) writeInodeAndIndexes(metadata, inodes, number, places);
  writeSuperblock(metadata, inodes.count, size, inodes.layouts.includes(LAYOUT.CHUNK_BASED));
  return {
    metadata,
    size,
    chunks: places.chunks.map(({ chunk, offset }) => ({ chunk, offset: metadataSize + offset })),
  };
}

interface Places {
  /** Placed chunks by their content; offsets count from the start of the content. */
  readonly byContent: ReadonlyMap<string, number>;
  readonly chunks: readonly PlacedChunk[];
  readonly size: number;
}

/** Key of a chunk's content: its digest, which is verified before writing. A chunk without a digest is unique. */
const contentOf = ({ blob, digest, digester, uncompressedOffset, uncompressedSize }: FileChunk): string =>
  digest.length === 0
    ? `${blob} ${uncompressedOffset}+${uncompressedSize}`
    : `${digester}${uncompressedSize}:${digest.toString('latin1')}`;

/** Places chunks in the order of the blobs, so that each blob is read once in order, and files stay contiguous. */
function placeChunks(nodes: readonly FileNode[]): Places {
  const distinct = new Map<string, FileChunk>();
  for (const { chunks } of nodes) {
    for (const chunk of chunks) {
      const key = contentOf(chunk);
      if (!distinct.has(key)) distinct.set(key, chunk);
    }
  }
  const order = new Map<string, number>();
  for (const { blob } of distinct.values()) if (!order.has(blob)) order.set(blob, order.size);
  const sorted = [...distinct].sort(
    ([, a], [, b]) => order.get(a.blob)! - order.get(b.blob)! || a.uncompressedOffset - b.uncompressedOffset,
  );
  const byContent = new Map<string, number>();
  const chunks: PlacedChunk[] = [];
  let size = 0;
  for (const [key, chunk] of sorted) {
    byContent.set(key, size);
    chunks.push({ chunk, offset: size });
    size += alignUp(chunk.uncompressedSize, BLOCK);
  }
  return { byContent, chunks, size };
}

function placeInode(inodes: Inodes, number: number, space: Space, places: Places): void {
  const node = inodes.nodes[number]!;
  if (node.type !== 'reg') placeInline(inodes, number, space);
  // A contiguous file needs only its first address.
  else if (isOnePiece(node, places))
    inodes.put(number, LAYOUT.PLAIN, space.take(INODE_SIZE + inodes.xattrSize(number)));
  else placeIndexed(inodes, number, space);
}

function isOnePiece({ chunks }: FileNode, { byContent }: Places): boolean {
  let next: number | null = null;
  return chunks.every((chunk) => {
    const offset = byContent.get(contentOf(chunk))!;
    const follows = next === null || offset === next;
    next = offset + chunk.uncompressedSize;
    return follows;
  });
}

function writeInodeAndIndexes(metadata: Buffer, inodes: Inodes, number: number, { byContent }: Places): void {
  const { chunks } = inodes.nodes[number]!;
  const [first] = chunks;
  const blockOf = (chunk: FileChunk): number => (metadata.length + byContent.get(contentOf(chunk))!) / BLOCK;
  if (first === undefined || inodes.layouts[number] !== LAYOUT.CHUNK_BASED) {
    writePlannedInode(metadata, inodes, number, 0, first === undefined ? 0 : blockOf(first));
    return;
  }
  const format = CHUNK_FORMAT_INDEXES | (Math.log2(first.uncompressedSize) - BLOCK_BITS);
  writePlannedInode(metadata, inodes, number, 0, format);
  const at = alignUp(inodes.behindXattrs(number), INDEX_SIZE);
  for (const [i, chunk] of chunks.entries()) writeDeviceIndex(metadata, at + i * INDEX_SIZE, blockOf(chunk));
}

function writeSuperblock(metadata: Buffer, inodes: number, size: number, hasChunks: boolean): void {
  SUPERBLOCK.encode(metadata, SUPERBLOCK_OFFSET, {
    featureCompat: 0,
    blockBits: BLOCK_BITS,
    rootNid: ROOT_NID,
    inos: inodes,
    blocks: size / BLOCK,
    featureIncompat: hasChunks ? INCOMPAT_CHUNKED_FILE : 0,
  });
  // The UUID, for `mount UUID=…`, depends on the metadata only: a version 8 UUID (RFC 9562).
  const uuid = createHash('sha256').update(metadata).digest().subarray(0, 16);
  uuid[6] = (uuid[6]! & 0x0f) | 0x80;
  uuid[8] = (uuid[8]! & 0x3f) | 0x80;
  SUPERBLOCK.fields.uuid.write(metadata, SUPERBLOCK_OFFSET, uuid);
}
