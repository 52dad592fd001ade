/**
 * Walks the tree of a bootstrap from its root and holds every inode, directory and name against what it claims. A
 * directory is entered once, whatever leads to it, and what is read is paid for out of a budget of the file's length.
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
import type { Areas } from './areas.ts';
import type { Bytes } from './bytes.ts';
import { type CheckedEntry, checkDirectoryBlock, shown } from './directory.ts';
import { type ChunkContext, checkFileChunks } from './file-chunks.ts';
import { checkXattrs } from './xattrs.ts';

/** Fields up to i_ino, and what follows i_gid of extended inodes alone. */
const { fields: INODE } = EXTENDED_INODE;
const FILE_TYPE = DIRENT.fields.type;
/** Places of fields of the superblock. */
const ROOT_NID = SUPERBLOCK_OFFSET + SUPERBLOCK.fields.rootNid.at;
const META_BLKADDR = SUPERBLOCK_OFFSET + SUPERBLOCK.fields.metaBlkaddr.at;

/** What is remembered of an inode. */
interface Known {
  readonly type: NodeType | null;
  readonly nlink: number;
  /** Place of i_nlink. */
  readonly nlinkAt: number;
  readonly path: string;
  /** Names that lead to it; of a directory its subdirectories. */
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
  /** False when parts could not be walked, so that counts of the whole mean nothing. */
  readonly isWhole: boolean;
  isInode(nid: number): boolean;
}

export function checkTree(bytes: Bytes, context: ChunkContext, areas: Areas): TreeFacts {
  return new TreeCheck(bytes, context, areas).run();
}

class TreeCheck {
  readonly #bytes: Bytes;
  readonly #context: ChunkContext;
  readonly #areas: Areas;
  /** By permuted nid. */
  readonly #known = new Map<number, Known>();
  readonly #directories: OpenDirectory[] = [];
  #budget: number;
  #names = 1;
  #hasXattrs = false;
  #isWhole = true;

  constructor(bytes: Bytes, context: ChunkContext, areas: Areas) {
    this.#bytes = bytes;
    this.#context = context;
    this.#areas = areas;
    this.#budget = bytes.length;
  }

  run(): TreeFacts {
    const { rootNid } = this.#context.sb;
    const root = this.#visit(rootNid, rootNid, 0, '/', { field: 'root_nid', at: ROOT_NID });
    if (root !== null && root !== 'dir') this.#error('root_nid', ROOT_NID, `the root is a ${root}`, '/');
    // Grows while it is walked; no recursion, whatever the depth.
    for (const directory of this.#directories) this.#readDirectory(directory);
    if (this.#isWhole) this.#checkLinks();
    return {
      inodes: this.#known.size,
      names: this.#names,
      hasXattrs: this.#hasXattrs,
      isWhole: this.#isWhole,
      isInode: (nid) => this.#known.has(permute(nid)),
    };
  }

  #error(field: string, at: number, message: string, path: string): void {
    this.#bytes.findings.error(field, at, message, { path });
  }

  /** What cannot be followed leaves a hole in the tree. */
  #broken(field: string, at: number, message: string, path: string): null {
    this.#isWhole = false;
    this.#error(field, at, message, path);
    return null;
  }

  #spend(bytes: number, at: number, path: string): boolean {
    const before = this.#budget;
    this.#budget -= bytes;
    if (this.#budget >= 0) return true;
    if (before >= 0) this.#broken('inode', at, 'more metadata than the bootstrap is long: structures overlap', path);
    this.#isWhole = false;
    return false;
  }

  /** An inode that a name leads to; `from` is the field that says so. Null for one that cannot be read. */
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
      return this.#broken(field, at, `inode ${nid} would lie at ${offset}, the file has ${bytes.length} bytes`, path);
    }
    // Within the file a nid has less than 32 bits.
    const before = this.#known.get(permute(nid));
    if (before?.type === 'dir') {
      return this.#broken(from.field, from.at, `directory ${nid} is ${before.path} already`, path);
    }
    if (before !== undefined) {
      before.links++;
      return before.type;
    }
    const inode = decodeInode(bytes, offset);
    const nlinkAt = offset + structureOf(inode).fields.nlink.at;
    this.#known.set(permute(nid), {
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

  /** What all inodes have. Returns where data follows, null when the attributes run out of the file. */
  #checkInode(inode: RawInode, offset: number, path: string): number | null {
    const bytes = this.#bytes;
    if (!isKnownLayout(inode.layout)) {
      this.#broken('i_format', offset, `unknown data layout ${inode.layout}`, path);
    }
    if (inode.type === null) {
      this.#broken(
        'i_mode',
        offset + INODE.mode.at,
        `0${INODE.mode.read(bytes, offset).toString(8)} is no file type`,
        path,
      );
    }
    if (!Number.isSafeInteger(inode.mtime.sec))
      this.#error('i_mtime', offset + INODE.mtime.at, 'beyond 2^53 seconds', path);
    if (inode.mtime.nsec > MAX_NSEC) {
      this.#error('i_mtime_nsec', offset + INODE.mtimeNsec.at, `${inode.mtime.nsec} is not below a second`, path);
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
        `${size} bytes of attributes run out of the file`,
        path,
      );
    }
    if (!this.#spend(size, offset, path)) return null;
    checkXattrs(bytes, at, size, path);
    return at + size;
  }

  #checkFile(inode: RawInode, offset: number, behind: number, path: string): void {
    if (inode.layout !== LAYOUT.CHUNK_BASED) {
      this.#error('i_format', offset, 'a regular file that is not chunk-based', path);
      return;
    }
    const at = alignUp(behind, INDEX_SIZE);
    const length = Math.ceil(inode.size / this.#context.sb.chunkSize) * INDEX_SIZE;
    if (!this.#bytes.has(at, length)) {
      this.#error('i_size', offset + INODE.size.at, `the indexes of ${inode.size} bytes run out of the file`, path);
      return;
    }
    this.#areas.add(offset, at + length - offset, 'i_size', offset + INODE.size.at, path);
    if (this.#spend(length, offset, path)) checkFileChunks(this.#bytes, this.#context, inode, offset, at, path);
  }

  #checkSymlink(inode: RawInode, offset: number, path: string): void {
    if (inode.size === 0 || inode.size >= MAX_PATH) {
      this.#error('i_size', offset + INODE.size.at, `a target of ${inode.size} bytes`, path);
      return;
    }
    const pieces = this.#data(inode, offset, path);
    // Nydus lays a target of more than one block of tarfs out in a way that later inodes overwrite: its own fault, and known.
    if (this.#context.sb.isTarfs && inode.size > this.#context.sb.block) return;
    for (const { at, length } of pieces) {
      const nul = this.#bytes.bytes.subarray(at, at + length).indexOf(0);
      if (nul >= 0) this.#error('symlink', at + nul, 'its target has a NUL', path);
    }
  }

  #checkSpecial(inode: RawInode, offset: number, behind: number, path: string): void {
    if (inode.size !== 0) this.#error('i_size', offset + INODE.size.at, `${inode.size} bytes of a ${inode.type}`, path);
    const isDevice = inode.type === 'char' || inode.type === 'block';
    if (!isDevice && inode.union !== 0)
      this.#error('i_u', offset + INODE.union.at, `a device number of a ${inode.type}`, path);
    this.#areas.add(offset, behind - offset, 'i_xattr_icount', offset + INODE.xattrCount.at, path);
  }

  /** Where the data of a directory or symlink lies, as far as it is in the file. The inode's area is claimed with it. */
  #data(inode: RawInode, offset: number, path: string): Array<{ at: number; length: number }> {
    const { block } = this.#context.sb;
    const behind = offset + inode.inodeSize + xattrSizeOf(inode.xattrCount);
    const tail = inode.layout === LAYOUT.INLINE ? inode.size % block : 0;
    const whole = inode.size - tail;
    const isDirectory = inode.type === 'dir';
    this.#areas.add(
      offset,
      behind + (this.#bytes.has(behind, tail) ? tail : 0) - offset,
      'i_size',
      offset + INODE.size.at,
      path,
    );
    if (inode.layout !== LAYOUT.PLAIN && inode.layout !== LAYOUT.INLINE) {
      if (isDirectory) this.#isWhole = false;
      if (isKnownLayout(inode.layout)) this.#error('i_format', offset, `a chunk-based ${inode.type}`, path);
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
          `${whole} bytes at ${start} run out of ${this.#bytes.length}`,
          path,
        );
      } else {
        this.#areas.add(start, alignUp(whole, block), 'i_u', offset + INODE.union.at, path);
        for (let at = 0; at < whole; at += block) pieces.push({ at: start + at, length: Math.min(block, whole - at) });
      }
    }
    if (tail > 0) {
      if (!this.#bytes.has(behind, tail) || (behind % block) + tail > block) {
        this.#isWhole &&= !isDirectory;
        this.#error('i_size', offset + INODE.size.at, `an inline end of ${tail} bytes crosses a block`, path);
      } else pieces.push({ at: behind, length: tail });
    }
    return pieces;
  }

  #readDirectory(directory: OpenDirectory): void {
    const { inode, offset, path } = directory;
    if (inode.size === 0) {
      this.#broken('i_size', offset + INODE.size.at, 'a directory without "." and ".."', path);
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
      // The kernel finds names by binary search, and a name twice would be two files in one place.
      if (name === previous) this.#error('name', nameAt, `${shown(name)} twice`, path);
      else if (name < previous)
        this.#error('name', nameAt, `${shown(name)} behind ${shown(previous)}: not sorted`, path);
      else previous = name;
      if (name !== '.' && name !== '..') continue;
      seen.add(name);
      if (target !== dots[name]) this.#error('nid', at, `"${name}" leads to ${target}, not ${dots[name]}`, path);
      if (fileType !== entryTypeOf('dir'))
        this.#error('file_type', at + FILE_TYPE.at, `${fileType} for "${name}"`, path);
    }
    if (seen.size !== 2 && inode.size > 0) this.#error('directory', offset, 'without "." and ".."', path);
  }

  #follow({ nid, depth, path }: OpenDirectory, entry: CheckedEntry): void {
    this.#names++;
    // Only for messages: a path that no system call takes is not put together.
    const child = path.length > MAX_PATH ? path : `${path === '/' ? '' : path}/${display(entry.name)}`;
    const type = this.#visit(entry.nid, nid, depth + 1, child, { field: 'nid', at: entry.at });
    if (type === null) return;
    if (type === 'dir') this.#known.get(permute(nid))!.links++;
    if (entry.fileType !== entryTypeOf(type)) {
      this.#error('file_type', entry.at + FILE_TYPE.at, `${entry.fileType} for a ${type}`, child);
    }
  }

  #checkLinks(): void {
    for (const { type, nlink, nlinkAt, path, links } of this.#known.values()) {
      const wanted = type === 'dir' ? links + 2 : links;
      if (nlink !== wanted) this.#error('i_nlink', nlinkAt, `${nlink}, there are ${wanted}`, path);
    }
  }
}

const structureOf = ({ inodeSize }: RawInode) => (inodeSize === INODE_SIZE ? EXTENDED_INODE : COMPACT_INODE);
