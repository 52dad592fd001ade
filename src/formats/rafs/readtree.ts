/**
 * Inodes and directories of a bootstrap as a FileTree that is read on access: a node is a view of its inode, and the entries
 * of a directory are read when they are used. So listing one directory reads only the directories on its path.
 */

import type { Reader } from '../../binary/reader.ts';
import type { ByteString, FileChunk, FileNode, Mtime, NodeType } from '../../tree/node.ts';
import { MAX_DEPTH } from '../../tree/path.ts';
import { type DirectoryTree, RafsDirectory } from './directory.ts';
import type { DirectoryEntry } from './dirent.ts';
import { type FindChunk, readFileChunks } from './filechunks.ts';
import { COMPACT_SIZE, type DecodedInode, decodeDevice, entryTypeOf, readInode } from './inode.ts';
import { dataBlockAt, MetadataBudget } from './inode-data.ts';
import { permute } from './keyed-hash.ts';
import { SLOT, TARFS_BLOCK_BITS } from './layout.ts';
import { MAX_INODES } from './limits.ts';
import type { Superblock } from './superblock.ts';
import { readXattrs, xattrSizeOf } from './xattr.ts';

const NO_CHUNKS: readonly FileChunk[] = [];

/** The nodes of a bootstrap by number. A directory must have one name; other inodes may have several. */
export class RafsTree implements DirectoryTree {
  readonly reader: Reader;
  readonly superblock: Superblock;
  readonly #findChunk: FindChunk;
  readonly #blockSize: number;
  /** Nodes by permuted nid. */
  readonly #nodes = new Map<number, RafsNode>();
  readonly #budget: MetadataBudget;
  #root: RafsNode | null = null;
  /** The inode decoded last, since the fields of a node are usually read one after another. */
  #last: { readonly offset: number; readonly inode: DecodedInode } | null = null;

  constructor(reader: Reader, superblock: Superblock, findChunk: FindChunk) {
    this.reader = reader;
    this.superblock = superblock;
    this.#findChunk = findChunk;
    this.#blockSize = 2 ** superblock.blockBits;
    this.#budget = new MetadataBudget(reader, superblock.chunkSize);
  }

  /** The root. Throws FormatError when it is not a directory. */
  root(): FileNode {
    const nid = this.superblock.rootNid;
    this.#root ??= this.#node(nid, nid, 0);
    if (this.#root.type !== 'dir') {
      throw this.reader.bad('root_nid', `the root is a ${this.#root.type}, not a directory`, this.offsetOf(nid));
    }
    return this.#root;
  }

  /** The node of an entry of the directory `parent`, whose inode lies at `offset`. */
  childOf(entry: DirectoryEntry, parent: number, depth: number, offset: number): RafsNode {
    const child = this.#node(entry.nid, parent, depth);
    if (entry.type !== entryTypeOf(child.type)) {
      throw this.reader.bad('file_type', `${entry.type} does not match a ${child.type}`, offset);
    }
    return child;
  }

  nidAt(offset: number): number {
    return (offset - this.offsetOf(0)) / SLOT;
  }

  offsetOf(nid: number): number {
    return this.superblock.metaBlkaddr * this.#blockSize + nid * SLOT;
  }

  #node(nid: number, parent: number, depth: number): RafsNode {
    const offset = this.offsetOf(nid);
    // A nid inside the file has less than 32 bits.
    this.reader.check(offset, 2, 'i_format');
    const key = permute(nid);
    const before = this.#nodes.get(key);
    if (before?.children != null) throw this.reader.bad('nid', `directory ${nid} is reached twice`, offset);
    if (before !== undefined) return before;
    if (this.#nodes.size >= MAX_INODES) throw this.reader.bad('nid', `more than ${MAX_INODES} inodes`, offset);
    const inode = this.inodeAt(offset);
    if (inode.type === 'dir' && depth > MAX_DEPTH) {
      throw this.reader.bad('nid', `deeper than ${MAX_DEPTH} directories`, offset);
    }
    this.#budget.pay(inode, offset);
    const children = inode.type === 'dir' ? new RafsDirectory(this, { offset, nid, parent, depth }) : null;
    const node = new RafsNode(this, offset, inode.type, children);
    this.#nodes.set(key, node);
    return node;
  }

  inodeAt(offset: number): DecodedInode {
    if (this.#last?.offset !== offset) this.#last = { offset, inode: readInode(this.reader, offset) };
    return this.#last.inode;
  }

  blockCount(offset: number): number {
    return Math.ceil(this.inodeAt(offset).size / this.#blockSize);
  }

  /** Range of block `index` of the data of a directory or symlink. */
  blockAt(offset: number, index: number): { at: number; length: number } {
    return dataBlockAt(this.reader, this.inodeAt(offset), offset, this.#blockSize, index);
  }

  chunksAt(offset: number): FileChunk[] {
    return readFileChunks(this.reader, this.superblock, this.#findChunk, this.inodeAt(offset), offset);
  }

  target(offset: number): ByteString {
    let target = '';
    for (let i = 0; i < this.blockCount(offset); i++) {
      const { at, length } = this.blockAt(offset, i);
      target += this.reader.text(at, length, 'symlink');
    }
    const nul = target.indexOf('\0');
    if (nul < 0) return target;
    // nydus-image overwrites the rest of a target between one and two blocks of 512 bytes with the next node. For the
    // kernel, a target ends at its NUL as well.
    if (this.superblock.blockBits === TARFS_BLOCK_BITS && nul > 0) return target.slice(0, nul);
    throw this.reader.bad('symlink', 'the target contains a NUL', offset);
  }
}

/** An inode of a bootstrap. Every field is read on access. */
class RafsNode implements FileNode {
  readonly tree: RafsTree;
  /** Offset of the inode in the bootstrap. */
  readonly offset: number;
  readonly type: NodeType;
  readonly children: RafsDirectory | null;
  #chunks: readonly FileChunk[] | null = null;

  constructor(tree: RafsTree, offset: number, type: NodeType, children: RafsDirectory | null) {
    this.tree = tree;
    this.offset = offset;
    this.type = type;
    this.children = children;
  }

  get #inode(): DecodedInode {
    return this.tree.inodeAt(this.offset);
  }
  get nid(): number {
    return this.tree.nidAt(this.offset);
  }
  get mode(): number {
    return this.#inode.mode;
  }
  get uid(): number {
    return this.#inode.uid;
  }
  get gid(): number {
    return this.#inode.gid;
  }
  get mtime(): Mtime {
    const { inodeSize, mtime } = this.#inode;
    return inodeSize === COMPACT_SIZE ? this.tree.superblock.buildTime : mtime;
  }
  get size(): number {
    return this.type === 'reg' ? this.#inode.size : 0;
  }
  get nlink(): number {
    return this.#inode.nlink;
  }
  get rdev(): FileNode['rdev'] {
    return this.type === 'char' || this.type === 'block' ? decodeDevice(this.#inode.union) : null;
  }
  get target(): ByteString | null {
    return this.type === 'symlink' ? this.tree.target(this.offset) : null;
  }
  get xattrs(): FileNode['xattrs'] {
    const { inodeSize, xattrCount } = this.#inode;
    return readXattrs(this.tree.reader, this.offset + inodeSize, xattrSizeOf(xattrCount));
  }
  get chunks(): readonly FileChunk[] {
    if (this.type !== 'reg' || this.#inode.size === 0) return this.#chunks ?? NO_CHUNKS;
    this.#chunks ??= this.tree.chunksAt(this.offset);
    return this.#chunks;
  }
  set chunks(chunks: readonly FileChunk[]) {
    this.#chunks = chunks;
  }
}
