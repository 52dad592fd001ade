/**
 * Walks the tree of a bootstrap from its root and checks every inode, directory and name. Each directory is entered once,
 * however many names lead to it, and the bytes that are read are limited to the length of the file.
 */
import { INDEX_SIZE } from '../formats/rafs/chunk-index.ts';
import { DIRENT } from '../formats/rafs/dirent.ts';
import {
  COMPACT_INODE,
  COMPACT_SIZE,
  decodeInode,
  EXTENDED_INODE,
  entryTypeOf,
  INODE_SIZE,
  isKnownLayout,
  LAYOUT,
  MAX_NSEC,
  type RawInode,
} from '../formats/rafs/inode.ts';
import { permute } from '../formats/rafs/keyed-hash.ts';
import { alignUp, SLOT, SUPERBLOCK_OFFSET } from '../formats/rafs/layout.ts';
import { SUPERBLOCK } from '../formats/rafs/superblock.ts';
import { xattrSizeOf } from '../formats/rafs/xattr.ts';
import { display, type NodeType } from '../tree/node.ts';
import { MAX_DEPTH, MAX_PATH } from '../tree/path.ts';
import type { ByteOwnership } from './byte-ownership.ts';
import type { Bytes } from './bytes.ts';
import { type CheckedEntry, checkDirectoryBlock, shown } from './directory.ts';
import { type ChunkContext, checkFileChunks } from './file-chunks.ts';
import { checkXattrs } from './xattrs.ts';

/** Fields of extended inodes. Those up to i_ino are at the same offsets in compact inodes. */
const { fields: INODE } = EXTENDED_INODE;
const FILE_TYPE = DIRENT.fields.type;
/** Offsets of fields of the superblock in the bootstrap. */
const ROOT_NID = SUPERBLOCK_OFFSET + SUPERBLOCK.fields.rootNid.at;
const META_BLKADDR = SUPERBLOCK_OFFSET + SUPERBLOCK.fields.metaBlkaddr.at;

/** A visited inode. */
interface Visited {
  readonly type: NodeType | null;
  readonly nlink: number;
  /** Offset of i_nlink in the bootstrap. */
  readonly nlinkAt: number;
  readonly path: string;
  /** Number of names of the inode; of a directory, number of its subdirectories. */
  links: number;
}

interface OpenDirectory {
  readonly inode: RawInode;
  readonly offset: number;
  readonly nid: number;
  readonly parentNid: number;
  readonly depth: number;
  readonly path: string;
}

export interface TreeFacts {
  readonly inodes: number;
  readonly names: number;
  readonly hasXattrs: boolean;
  /** False when parts could not be walked; counts are not meaningful then. */
  readonly isWhole: boolean;
  isInode(nid: number): boolean;
}

export function checkTree(bytes: Bytes, context: ChunkContext, ownership: ByteOwnership): TreeFacts {
  return new TreeCheck(bytes, context, ownership).run();
}

class TreeCheck {
  readonly #bytes: Bytes;
  readonly #context: ChunkContext;
  readonly #ownership: ByteOwnership;
  /** Visited inodes by permuted nid. */
  readonly #visited = new Map<number, Visited>();
  readonly #directories: OpenDirectory[] = [];
  #budget: number;
  #names = 1;
  #hasXattrs = false;
  #isWhole = true;

  constructor(bytes: Bytes, context: ChunkContext, ownership: ByteOwnership) {
    this.#bytes = bytes;
    this.#context = context;
    this.#ownership = ownership;
    this.#budget = bytes.length;
  }

  run(): TreeFacts {
    const { rootNid } = this.#context.sb;
    const root = this.#visit(rootNid, rootNid, 0, '/', { field: 'root_nid', at: ROOT_NID });
    if (root !== null && root !== 'dir') this.#error('root_nid', ROOT_NID, `the root is a ${root}`, '/');
    // The loop adds directories to the list while it walks it, so that deep trees need no recursion.
    for (const directory of this.#directories) this.#readDirectory(directory);
    if (this.#isWhole) this.#checkLinks();
    return {
      inodes: this.#visited.size,
      names: this.#names,
      hasXattrs: this.#hasXattrs,
      isWhole: this.#isWhole,
      isInode: (nid) => this.#visited.has(permute(nid)),
    };
  }

  #error(field: string, at: number, message: string, path: string): void {
    this.#bytes.findings.error(field, at, message, { path });
  }

  /** Records a problem that keeps a part of the tree from being walked. */
  #broken(field: string, at: number, message: string, path: string): null {
    this.#isWhole = false;
    this.#error(field, at, message, path);
    return null;
  }

  #spend(bytes: number, at: number, path: string): boolean {
    const before = this.#budget;
    this.#budget -= bytes;
    if (this.#budget >= 0) return true;
    if (before >= 0)
      this.#broken('inode', at, 'the metadata exceeds the length of the bootstrap: structures overlap', path);
    this.#isWhole = false;
    return false;
  }

  /** Visits the inode of a name; `from` is the field with its number. Null when the inode cannot be read. */
  #visit(
    nid: number,
    parentNid: number,
    depth: number,
    path: string,
    from: { field: string; at: number },
  ): NodeType | null {
    const { sb } = this.#context;
    const bytes = this.#bytes;
    const offset = sb.metaBlkaddr * sb.block + nid * SLOT;
    const isInside = bytes.has(offset, COMPACT_SIZE);
    const size = isInside && (INODE.format.read(bytes, offset) & 1) === 1 ? INODE_SIZE : COMPACT_SIZE;
    if (!isInside || !bytes.has(offset, size)) {
      const field = nid === sb.rootNid && sb.metaBlkaddr * sb.block > bytes.length ? 'meta_blkaddr' : from.field;
      const at = field === 'meta_blkaddr' ? META_BLKADDR : from.at;
      return this.#broken(field, at, `inode ${nid} at offset ${offset} exceeds the file's ${bytes.length} bytes`, path);
    }
    // A nid inside the file has less than 32 bits.
    const before = this.#visited.get(permute(nid));
    if (before?.type === 'dir') {
      return this.#broken(from.field, from.at, `directory ${nid} already has the path ${before.path}`, path);
    }
    if (before !== undefined) {
      before.links++;
      return before.type;
    }
    const inode = decodeInode(bytes, offset);
    const nlinkAt = offset + structureOf(inode).fields.nlink.at;
    this.#visited.set(permute(nid), {
      type: inode.type,
      nlink: inode.nlink,
      nlinkAt,
      path,
      links: inode.type === 'dir' ? 0 : 1,
    });
    if (!this.#spend(size, offset, path)) return inode.type;
    const behind = this.#checkInode(inode, offset, path);
    if (behind === null) return inode.type;
    if (inode.type === 'dir') {
      if (depth > MAX_DEPTH) this.#broken('nid', from.at, `deeper than ${MAX_DEPTH} directories`, path);
      else this.#directories.push({ inode, offset, nid, parentNid, depth, path });
    } else if (inode.type === 'reg') this.#checkFile(inode, offset, behind, path);
    else if (inode.type === 'symlink') this.#checkSymlink(inode, offset, path);
    else if (inode.type !== null) this.#checkSpecial(inode, offset, behind, path);
    return inode.type;
  }

  /** Checks the fields that all inodes have. Returns the offset of the data that follows; null when the attributes exceed the file. */
  #checkInode(inode: RawInode, offset: number, path: string): number | null {
    const bytes = this.#bytes;
    if (!isKnownLayout(inode.layout)) {
      this.#broken('i_format', offset, `unknown data layout ${inode.layout}`, path);
    }
    if (inode.type === null) {
      this.#broken(
        'i_mode',
        offset + INODE.mode.at,
        `0${INODE.mode.read(bytes, offset).toString(8)} is not a valid file type`,
        path,
      );
    }
    if (!Number.isSafeInteger(inode.mtime.sec))
      this.#error('i_mtime', offset + INODE.mtime.at, 'beyond 2^53 seconds', path);
    if (inode.mtime.nsec > MAX_NSEC) {
      this.#error('i_mtime_nsec', offset + INODE.mtimeNsec.at, `${inode.mtime.nsec} ns is not below 10^9`, path);
    }
    bytes.reserved(structureOf(inode), offset, 'reserved of an inode', path);
    const size = xattrSizeOf(inode.xattrCount);
    const at = offset + inode.inodeSize;
    if (size === 0) return at;
    this.#hasXattrs = true;
    if (!bytes.has(at, size)) {
      return this.#broken(
        'i_xattr_icount',
        offset + INODE.xattrCount.at,
        `${size} bytes of attributes exceed the file`,
        path,
      );
    }
    if (!this.#spend(size, offset, path)) return null;
    checkXattrs(bytes, at, size, path);
    return at + size;
  }

  #checkFile(inode: RawInode, offset: number, behind: number, path: string): void {
    if (inode.layout !== LAYOUT.CHUNK_BASED) {
      this.#error('i_format', offset, 'a regular file must be chunk-based', path);
      return;
    }
    const at = alignUp(behind, INDEX_SIZE);
    const length = Math.ceil(inode.size / this.#context.sb.chunkSize) * INDEX_SIZE;
    if (!this.#bytes.has(at, length)) {
      this.#error('i_size', offset + INODE.size.at, `the chunk indexes of ${inode.size} bytes exceed the file`, path);
      return;
    }
    this.#ownership.claim(offset, at + length - offset, 'i_size', offset + INODE.size.at, path);
    if (this.#spend(length, offset, path)) checkFileChunks(this.#bytes, this.#context, inode, offset, at, path);
  }

  #checkSymlink(inode: RawInode, offset: number, path: string): void {
    if (inode.size === 0 || inode.size >= MAX_PATH) {
      this.#error('i_size', offset + INODE.size.at, `a target of ${inode.size} bytes is not allowed`, path);
      return;
    }
    const pieces = this.#data(inode, offset, path);
    // In tarfs, Nydus lets later inodes overwrite a target of more than one block. This is a known fault of Nydus.
    if (this.#context.sb.isTarfs && inode.size > this.#context.sb.block) return;
    for (const { at, length } of pieces) {
      const nul = this.#bytes.bytes.subarray(at, at + length).indexOf(0);
      if (nul >= 0) this.#error('symlink', at + nul, 'the target contains a NUL', path);
    }
  }

  #checkSpecial(inode: RawInode, offset: number, behind: number, path: string): void {
    if (inode.size !== 0)
      this.#error('i_size', offset + INODE.size.at, `${inode.size}, but a ${inode.type} has no content`, path);
    const isDevice = inode.type === 'char' || inode.type === 'block';
    if (!isDevice && inode.union !== 0)
      this.#error('i_u', offset + INODE.union.at, `a ${inode.type} cannot have a device number`, path);
    this.#ownership.claim(offset, behind - offset, 'i_xattr_icount', offset + INODE.xattrCount.at, path);
  }

  /** Ranges of the data of a directory or symlink that lie in the file. Claims the bytes of the inode too. */
  #data(inode: RawInode, offset: number, path: string): Array<{ at: number; length: number }> {
    const { block } = this.#context.sb;
    const behind = offset + inode.inodeSize + xattrSizeOf(inode.xattrCount);
    const tail = inode.layout === LAYOUT.INLINE ? inode.size % block : 0;
    const whole = inode.size - tail;
    const isDirectory = inode.type === 'dir';
    this.#ownership.claim(
      offset,
      behind + (this.#bytes.has(behind, tail) ? tail : 0) - offset,
      'i_size',
      offset + INODE.size.at,
      path,
    );
    if (inode.layout !== LAYOUT.PLAIN && inode.layout !== LAYOUT.INLINE) {
      if (isDirectory) this.#isWhole = false;
      if (isKnownLayout(inode.layout)) this.#error('i_format', offset, `a ${inode.type} cannot be chunk-based`, path);
      return [];
    }
    if (!this.#spend(inode.size, offset, path)) return [];
    const pieces: Array<{ at: number; length: number }> = [];
    if (whole > 0) {
      const start = inode.union * block;
      if (!this.#bytes.has(start, whole)) {
        this.#isWhole &&= !isDirectory;
        this.#error(
          'i_u',
          offset + INODE.union.at,
          `${whole} bytes at offset ${start} exceed the file's ${this.#bytes.length} bytes`,
          path,
        );
      } else {
        this.#ownership.claim(start, alignUp(whole, block), 'i_u', offset + INODE.union.at, path);
        for (let at = 0; at < whole; at += block) pieces.push({ at: start + at, length: Math.min(block, whole - at) });
      }
    }
    if (tail > 0) {
      if (!this.#bytes.has(behind, tail) || (behind % block) + tail > block) {
        this.#isWhole &&= !isDirectory;
        this.#error('i_size', offset + INODE.size.at, `${tail} bytes of inline data cross a block boundary`, path);
      } else pieces.push({ at: behind, length: tail });
    }
    return pieces;
  }

  #readDirectory(directory: OpenDirectory): void {
    const { inode, offset, path } = directory;
    if (inode.size === 0) {
      this.#broken('i_size', offset + INODE.size.at, 'the directory has no "." and ".."', path);
    }
    const entries: CheckedEntry[] = [];
    const before = this.#bytes.findings.errors;
    for (const { at, length } of this.#data(inode, offset, path)) {
      checkDirectoryBlock(this.#bytes, at, length, path, entries);
    }
    if (this.#bytes.findings.errors > before) this.#isWhole = false;
    this.#checkNames(directory, entries);
    for (const entry of entries) {
      if (entry.name !== '.' && entry.name !== '..') this.#follow(directory, entry);
    }
  }

  #checkNames({ inode, offset, nid, parentNid, path }: OpenDirectory, entries: readonly CheckedEntry[]): void {
    let previous = '';
    const dots = { '.': nid, '..': parentNid };
    const seen = new Set<string>();
    for (const { name, nid: target, at, nameAt, fileType } of entries) {
      // The kernel finds names by binary search, and a duplicate name would be two files at one path.
      if (name === previous) this.#error('name', nameAt, `duplicate name ${shown(name)}`, path);
      else if (name < previous)
        this.#error('name', nameAt, `not sorted: ${shown(name)} follows ${shown(previous)}`, path);
      else previous = name;
      if (name !== '.' && name !== '..') continue;
      seen.add(name);
      if (target !== dots[name]) this.#error('nid', at, `"${name}" is inode ${target}, not ${dots[name]}`, path);
      if (fileType !== entryTypeOf('dir'))
        this.#error('file_type', at + FILE_TYPE.at, `${fileType} for "${name}"`, path);
    }
    if (seen.size !== 2 && inode.size > 0) this.#error('directory', offset, 'the directory has no "." and ".."', path);
  }

  #follow({ nid, depth, path }: OpenDirectory, entry: CheckedEntry): void {
    this.#names++;
    // The path is used in messages only, so one that no system call accepts is not built.
    const child = path.length > MAX_PATH ? path : `${path === '/' ? '' : path}/${display(entry.name)}`;
    const type = this.#visit(entry.nid, nid, depth + 1, child, { field: 'nid', at: entry.at });
    if (type === null) return;
    if (type === 'dir') this.#visited.get(permute(nid))!.links++;
    if (entry.fileType !== entryTypeOf(type)) {
      this.#error('file_type', entry.at + FILE_TYPE.at, `${entry.fileType} for a ${type}`, child);
    }
  }

  #checkLinks(): void {
    for (const { type, nlink, nlinkAt, path, links } of this.#visited.values()) {
      const expected = type === 'dir' ? links + 2 : links;
      if (nlink !== expected) this.#error('i_nlink', nlinkAt, `${nlink}, but the tree has ${expected}`, path);
    }
  }
}

const structureOf = ({ inodeSize }: RawInode) => (inodeSize === INODE_SIZE ? EXTENDED_INODE : COMPACT_INODE);
