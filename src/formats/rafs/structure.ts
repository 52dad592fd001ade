/**
 * Checks a bootstrap before the kernel's EROFS mounts it: every inode, directory and chunk index that the kernel can reach
 * lies in the file and is of a kind that RAFS has. The first problem ends the check. It is as strict as the readers, and
 * needs one byte of memory for each inode slot, and the list of directories still to be read.
 */

import { Reader } from '../../binary/reader.ts';
import { MAX_DEPTH } from '../../tree/path.ts';
import { INDEX_SIZE, readChunkIndex } from './chunk-index.ts';
import { type DirectoryEntry, decodeDirectoryBlock } from './dirent.ts';
import { CHUNK_FORMAT_BITS, CHUNK_FORMAT_INDEXES, type DecodedInode, entryTypeOf, LAYOUT, readInode } from './inode.ts';
import { dataBlockAt, MetadataBudget } from './inode-data.ts';
import { alignUp, SLOT } from './layout.ts';
import { MAX_INODES } from './limits.ts';
import type { Superblock } from './superblock.ts';
import { readXattrs, xattrSizeOf } from './xattr.ts';

interface OpenDirectory {
  readonly nid: number;
  readonly parent: number;
  readonly depth: number;
}

/** Checks the structure. `blobs`: number of devices. Throws FormatError, or UNSUPPORTED, that names the field. */
export function checkStructure(bytes: Buffer, superblock: Superblock, blobs: number, subject: string): void {
  new StructureCheck(new Reader(bytes, subject, 'check bootstrap'), superblock, blobs).run();
}

class StructureCheck {
  readonly #reader: Reader;
  readonly #superblock: Superblock;
  readonly #blobs: number;
  readonly #blockSize: number;
  readonly #budget: MetadataBudget;
  /** file_type of the inode at each slot of the file; 0 until the walk reaches it. */
  readonly #types: Uint8Array;
  readonly #open: OpenDirectory[] = [];
  #inodes = 0;

  constructor(reader: Reader, superblock: Superblock, blobs: number) {
    this.#reader = reader;
    this.#superblock = superblock;
    this.#blobs = blobs;
    this.#blockSize = 2 ** superblock.blockBits;
    this.#budget = new MetadataBudget(reader, superblock.chunkSize);
    this.#types = new Uint8Array(Math.ceil(reader.length / SLOT));
  }

  run(): void {
    const { rootNid } = this.#superblock;
    const type = this.#visit(rootNid, rootNid, 0);
    if (type !== entryTypeOf('dir'))
      throw this.#reader.bad('root_nid', 'the root is not a directory', this.#offsetOf(rootNid));
    for (let directory = this.#open.pop(); directory !== undefined; directory = this.#open.pop()) {
      this.#readDirectory(directory);
    }
  }

  #offsetOf(nid: number): number {
    return this.#superblock.metaBlkaddr * this.#blockSize + nid * SLOT;
  }

  /** Visits the inode of a name and returns its file_type. The first visit checks the inode. */
  #visit(nid: number, parent: number, depth: number): number {
    const offset = this.#offsetOf(nid);
    const before = this.#types[offset / SLOT];
    if (before === entryTypeOf('dir')) throw this.#reader.bad('nid', `directory ${nid} is reached twice`, offset);
    if (before !== undefined && before > 0) return before;
    if (++this.#inodes > MAX_INODES) throw this.#reader.bad('nid', `more than ${MAX_INODES} inodes`, offset);
    const inode = readInode(this.#reader, offset);
    this.#types[offset / SLOT] = entryTypeOf(inode.type);
    this.#budget.pay(inode, offset);
    readXattrs(this.#reader, offset + inode.inodeSize, xattrSizeOf(inode.xattrCount));
    if (inode.type === 'dir') this.#enter({ nid, parent, depth }, offset);
    else if (inode.type === 'symlink') this.#checkData(inode, offset);
    else if (inode.type === 'reg') this.#checkFile(inode, offset);
    return entryTypeOf(inode.type);
  }

  #enter(directory: OpenDirectory, offset: number): void {
    if (directory.depth > MAX_DEPTH) throw this.#reader.bad('nid', `deeper than ${MAX_DEPTH} directories`, offset);
    this.#open.push(directory);
  }

  /** Checks that each block of data lies in the file. */
  #checkData(inode: DecodedInode, offset: number): void {
    for (let i = 0; i < Math.ceil(inode.size / this.#blockSize); i++) {
      dataBlockAt(this.#reader, inode, offset, this.#blockSize, i);
    }
  }

  #checkFile(inode: DecodedInode, offset: number): void {
    if (inode.size === 0) return;
    const { chunkSize, blockBits } = this.#superblock;
    if (inode.layout !== LAYOUT.CHUNK_BASED) {
      throw this.#reader.bad('i_format', 'a regular file must be chunk-based', offset);
    }
    if ((inode.union & ~CHUNK_FORMAT_BITS) !== CHUNK_FORMAT_INDEXES) {
      throw this.#reader.bad('i_u.c.format', `0x${inode.union.toString(16)} is not an index format`, offset + 16);
    }
    const start = alignUp(offset + inode.inodeSize + xattrSizeOf(inode.xattrCount), INDEX_SIZE);
    const end = start + Math.ceil(inode.size / chunkSize) * INDEX_SIZE;
    this.#reader.check(start, end - start, 'chunk indexes');
    for (let at = start; at < end; at += INDEX_SIZE) {
      const { blobIndex } = readChunkIndex(this.#reader, at, blockBits);
      if (blobIndex < 0 || blobIndex >= this.#blobs) {
        throw this.#reader.bad(
          'device_id',
          `device ${blobIndex + 1} does not exist: the image has ${this.#blobs}`,
          at + 2,
        );
      }
    }
  }

  #readDirectory({ nid, parent, depth }: OpenDirectory): void {
    const reader = this.#reader;
    const offset = this.#offsetOf(nid);
    const inode = readInode(reader, offset);
    const dots: Readonly<Record<string, number>> = { '.': nid, '..': parent };
    let [previous, seen] = ['', 0];
    for (let i = 0; i < Math.ceil(inode.size / this.#blockSize); i++) {
      const { at, length } = dataBlockAt(reader, inode, offset, this.#blockSize, i);
      const entries: DirectoryEntry[] = [];
      decodeDirectoryBlock(reader, at, length, entries);
      for (const { name, nid: target, type } of entries) {
        if (name <= previous) throw reader.bad('name', 'directory entries are not sorted', offset);
        previous = name;
        const expected = name === '.' || name === '..' ? dots[name] : undefined;
        if (expected === undefined) this.#follow(target, nid, depth, type, offset);
        else if (target !== expected) throw reader.bad('nid', `"${name}" is inode ${target}, not ${expected}`, offset);
        else seen++;
      }
    }
    if (seen !== 2) throw reader.bad('directory', 'the directory has no "." and ".."', offset);
  }

  #follow(target: number, nid: number, depth: number, type: number, offset: number): void {
    const found = this.#visit(target, nid, depth + 1);
    if (type !== found) throw this.#reader.bad('file_type', `${type} for an inode of type ${found}`, offset);
  }
}
