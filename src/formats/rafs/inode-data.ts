/** Data of inodes: a budget for the bytes that they may claim, and the location of directory and symlink data. */

import type { Reader } from '../../binary/reader.ts';
import { MAX_PATH } from '../../tree/path.ts';
import { INDEX_SIZE } from './chunk-index.ts';
import { type DecodedInode, LAYOUT } from './inode.ts';
import { xattrSizeOf } from './xattr.ts';

/** Budget of metadata bytes: structures do not overlap, so their total cannot exceed the file. */
export class MetadataBudget {
  readonly #reader: Reader;
  readonly #chunkSize: number;
  #left: number;

  constructor(reader: Reader, chunkSize: number) {
    this.#reader = reader;
    this.#chunkSize = chunkSize;
    this.#left = reader.length;
  }

  /** Charges the inode at `offset` and its data before they are read. Throws FormatError beyond the budget. */
  pay(inode: DecodedInode, offset: number): void {
    this.#spend(inode.inodeSize + xattrSizeOf(inode.xattrCount), 'inode', offset);
    if (inode.type === 'dir') this.#spend(inode.size, 'directory', offset);
    if (inode.type === 'reg') {
      this.#spend(Math.ceil(inode.size / this.#chunkSize) * INDEX_SIZE, 'chunk indexes', offset);
    }
    if (inode.type === 'symlink') {
      if (inode.size === 0 || inode.size >= MAX_PATH) {
        throw this.#reader.bad('i_size', `a symlink target of ${inode.size} bytes is not allowed`, offset + 8);
      }
      this.#spend(inode.size, 'symlink', offset);
    }
  }

  #spend(bytes: number, field: string, offset: number): void {
    this.#left -= bytes;
    if (!(this.#left >= 0)) throw this.#reader.bad(field, 'the metadata exceeds the length of the bootstrap', offset);
  }
}

/** Range of block `index` of the data of the directory or symlink at `offset`. Throws FormatError. */
export function dataBlockAt(
  reader: Reader,
  inode: DecodedInode,
  offset: number,
  blockSize: number,
  index: number,
): { at: number; length: number } {
  if (inode.layout === LAYOUT.CHUNK_BASED)
    throw reader.bad('i_format', `a ${inode.type} cannot be chunk-based`, offset);
  const length = Math.min(blockSize, inode.size - index * blockSize);
  const isInline = inode.layout === LAYOUT.INLINE && length < blockSize;
  const inlineAt = offset + inode.inodeSize + xattrSizeOf(inode.xattrCount);
  const at = isInline ? inlineAt : (inode.union + index) * blockSize;
  if (isInline && (at % blockSize) + length > blockSize) {
    throw reader.bad('i_size', 'inline data crosses a block boundary', offset + 8);
  }
  reader.check(at, length, `${inode.type} data`);
  return { at, length };
}
