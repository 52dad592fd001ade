/** Inodes and directories of a bootstrap → a FileTree. */
import type { ByteString, FileChunk, FileNode } from '../../tree/node.ts';
import { MAX_DEPTH, MAX_PATH } from '../../tree/path.ts';
import type { Reader } from './bytes.ts';
import { type ChunkIndex, INDEX_SIZE, readChunkIndex } from './chunks.ts';
import { type DirectoryEntry, decodeDirectoryBlock } from './dirent.ts';
import {
  CHUNK_FORMAT_BITS,
  CHUNK_FORMAT_INDEXES,
  type DecodedInode,
  decodeDevice,
  entryTypeOf,
  LAYOUT,
  readInode,
} from './inode.ts';
import { alignUp, BLOCK, BLOCK_BITS, SLOT } from './layout.ts';
import type { Superblock } from './superblock.ts';
import { readXattrs, xattrSizeOf } from './xattr.ts';

/** The chunk that an index entry means; null when there is none. */
export type FindChunk = (index: ChunkIndex) => FileChunk | null;

/** Reads the whole tree. Directories are reached once, other inodes as often as they have names. */
export function readTree(reader: Reader, superblock: Superblock, findChunk: FindChunk): FileNode {
  return new TreeReader(reader, superblock, findChunk).read();
}

/** A directory whose entries are still to be read. */
interface OpenDirectory {
  readonly node: FileNode;
  readonly inode: DecodedInode;
  readonly offset: number;
  readonly nid: number;
  readonly parentNid: number;
  readonly depth: number;
}

class TreeReader {
  readonly #reader: Reader;
  readonly #superblock: Superblock;
  readonly #findChunk: FindChunk;
  readonly #known = new Map<number, FileNode>();
  readonly #directories: OpenDirectory[] = [];
  /** Structures do not overlap, so all of them together are not longer than the file. */
  #budget: number;

  constructor(reader: Reader, superblock: Superblock, findChunk: FindChunk) {
    this.#reader = reader;
    this.#superblock = superblock;
    this.#findChunk = findChunk;
    this.#budget = reader.length;
  }

  read(): FileNode {
    const nid = this.#superblock.rootNid;
    const root = this.#node(nid, nid, 0);
    if (root.type !== 'dir') throw this.#reader.bad('root_nid', `the root is a ${root.type}`, this.#offsetOf(nid));
    // Grows while it is walked; no recursion, whatever the depth.
    for (const directory of this.#directories) this.#readEntries(directory);
    return root;
  }

  #offsetOf(nid: number): number {
    return this.#superblock.metaBlkaddr * BLOCK + nid * SLOT;
  }

  #spend(bytes: number, field: string, offset: number): void {
    this.#budget -= bytes;
    if (!(this.#budget >= 0)) throw this.#reader.bad(field, 'more metadata than the bootstrap is long', offset);
  }

  #node(nid: number, parentNid: number, depth: number): FileNode {
    const offset = this.#offsetOf(nid);
    const before = this.#known.get(nid);
    if (before?.type === 'dir') throw this.#reader.bad('nid', `directory ${nid} is reached twice`, offset);
    if (before !== undefined) return before;
    const inode = readInode(this.#reader, offset);
    const xattrSize = xattrSizeOf(inode.xattrCount);
    this.#spend(inode.inodeSize + xattrSize, 'inode', offset);
    const node: FileNode = {
      nid,
      type: inode.type,
      mode: inode.mode,
      uid: inode.uid,
      gid: inode.gid,
      mtime: inode.mtime,
      size: inode.type === 'reg' ? inode.size : 0,
      rdev: inode.type === 'char' || inode.type === 'block' ? decodeDevice(inode.union) : null,
      target: null,
      xattrs: readXattrs(this.#reader, offset + inode.inodeSize, xattrSize),
      children: inode.type === 'dir' ? new Map() : null,
      chunks: [],
    };
    this.#known.set(nid, node);
    if (inode.type === 'reg') node.chunks = this.#fileChunks(inode, offset);
    else if (inode.type === 'symlink') node.target = this.#target(inode, offset);
    else if (inode.type === 'dir') {
      if (depth > MAX_DEPTH) throw this.#reader.bad('nid', `deeper than ${MAX_DEPTH} directories`, offset);
      this.#directories.push({ node, inode, offset, nid, parentNid, depth });
    }
    return node;
  }

  #fileChunks(inode: DecodedInode, offset: number): FileChunk[] {
    const { chunkSize } = this.#superblock;
    if (inode.layout !== LAYOUT.CHUNK_BASED) {
      throw this.#reader.bad('i_format', 'a regular file that is not chunk-based', offset);
    }
    const at = alignUp(offset + inode.inodeSize + xattrSizeOf(inode.xattrCount), INDEX_SIZE);
    const count = Math.ceil(inode.size / chunkSize);
    this.#reader.check(at, count * INDEX_SIZE, 'chunk indexes');
    this.#spend(count * INDEX_SIZE, 'chunk indexes', at);
    const chunks: FileChunk[] = [];
    for (let i = 0; i < count; i++) {
      const index = readChunkIndex(this.#reader, at + i * INDEX_SIZE);
      const chunk = this.#findChunk(index);
      if (chunk === null) {
        const problem = `chunk ${index.index} of blob ${index.blobIndex} is not in the chunk table`;
        throw this.#reader.bad('chunk index', problem, at + i * INDEX_SIZE);
      }
      const wanted = Math.min(chunkSize, inode.size - i * chunkSize);
      if (chunk.uncompressedSize !== wanted) {
        throw this.#reader.bad(
          'chunk index',
          `${chunk.uncompressedSize} bytes where ${wanted} belong`,
          at + i * INDEX_SIZE,
        );
      }
      chunks.push(chunk);
    }
    this.#checkExtent(inode, chunks, offset);
    return chunks;
  }

  /** The kernel's view (one extent of the announced size per index entry) must be that of the chunks. */
  #checkExtent(inode: DecodedInode, chunks: readonly FileChunk[], offset: number): void {
    const { chunkSize } = this.#superblock;
    if ((inode.union & ~CHUNK_FORMAT_BITS) !== CHUNK_FORMAT_INDEXES) {
      throw this.#reader.bad('i_u.c.format', `0x${inode.union.toString(16)} is not an index format`, offset + 16);
    }
    // A power, not a shift: it may be 2^43.
    const extent = 2 ** (BLOCK_BITS + (inode.union & CHUNK_FORMAT_BITS));
    if (extent === chunkSize || chunks.length === 0) return;
    const [first] = chunks;
    const isOnePiece = chunks.every(
      (chunk, i) =>
        chunk.blob === first!.blob && chunk.uncompressedOffset === first!.uncompressedOffset + i * chunkSize,
    );
    if (extent < inode.size || !isOnePiece) {
      throw this.#reader.bad('i_u.c.format', `extents of ${extent} bytes do not fit the file's chunks`, offset + 16);
    }
  }

  #target(inode: DecodedInode, offset: number): ByteString {
    if (inode.size === 0 || inode.size >= MAX_PATH) {
      throw this.#reader.bad('i_size', `a symlink's target of ${inode.size} bytes`, offset + 8);
    }
    this.#spend(inode.size, 'symlink', offset);
    const [at] = this.#dataBlocks(inode, offset);
    const target = this.#reader.text(at!.at, inode.size, 'symlink');
    if (target.includes('\0')) throw this.#reader.bad('symlink', 'its target holds a NUL', at!.at);
    return target;
  }

  /** Where the data of a directory or symlink lies, block by block. */
  #dataBlocks(inode: DecodedInode, offset: number): Array<{ at: number; length: number }> {
    if (inode.layout === LAYOUT.CHUNK_BASED) throw this.#reader.bad('i_format', `a chunk-based ${inode.type}`, offset);
    const inlineAt = offset + inode.inodeSize + xattrSizeOf(inode.xattrCount);
    const pieces: Array<{ at: number; length: number }> = [];
    for (let start = 0; start < inode.size; start += BLOCK) {
      const length = Math.min(BLOCK, inode.size - start);
      const isInline = inode.layout === LAYOUT.INLINE && length < BLOCK;
      const at = isInline ? inlineAt : inode.union * BLOCK + start;
      if (isInline && (at % BLOCK) + length > BLOCK) {
        throw this.#reader.bad('i_size', 'inline data crosses a block', offset + 8);
      }
      this.#reader.check(at, length, `${inode.type} data`);
      pieces.push({ at, length });
    }
    return pieces;
  }

  #readEntries(directory: OpenDirectory): void {
    const { node, inode, offset } = directory;
    this.#spend(inode.size, 'directory', offset);
    const entries: DirectoryEntry[] = [];
    for (const { at, length } of this.#dataBlocks(inode, offset))
      decodeDirectoryBlock(this.#reader, at, length, entries);
    let previous = '';
    let dots = 0;
    for (const entry of entries) {
      // The kernel finds names by binary search, and a name twice would be two files in one place.
      if (entry.name <= previous) throw this.#reader.bad('name', 'directory entries are not sorted', offset);
      previous = entry.name;
      if (entry.name === '.' || entry.name === '..') {
        const wanted = entry.name === '.' ? directory.nid : directory.parentNid;
        if (entry.nid !== wanted) throw this.#reader.bad('nid', `"${entry.name}" leads to ${entry.nid}`, offset);
        dots++;
        continue;
      }
      const child = this.#node(entry.nid, directory.nid, directory.depth + 1);
      if (entry.type !== entryTypeOf(child.type)) {
        throw this.#reader.bad('file_type', `${entry.type} for a ${child.type}`, offset);
      }
      node.children!.set(entry.name, child);
    }
    if (dots !== 2) throw this.#reader.bad('directory', 'without "." and ".."', offset);
  }
}
