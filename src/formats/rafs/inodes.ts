/**
 * The inodes of a bootstrap that is being planned. There can be millions, so what each has lies in columns, and what few
 * have in maps. An inode's number here is its place among {@link Inodes.nodes}; its i_ino is one more.
 */
import type { FileNode } from '../../tree/node.ts';
import type { DirectoryLayout } from './dirent.ts';
import { INODE_SIZE } from './inode.ts';
import { SLOT } from './layout.ts';
import { xattrSize } from './xattr.ts';

export interface PlannedDirectory {
  readonly layout: DirectoryLayout;
  /** Numbers of the inodes that its names lead to, in their order. */
  readonly targets: Uint32Array;
}

export class Inodes {
  /** Breadth-first, every inode once, the root first. */
  readonly nodes: readonly FileNode[];
  readonly directories: ReadonlyMap<number, PlannedDirectory>;
  /** Those that are written, of the inodes that have some. */
  readonly xattrs: ReadonlyMap<number, NonNullable<FileNode['xattrs']>>;
  /** i_nlink: how many names lead to each, `.` and `..` included. */
  readonly nlinks: Uint32Array;
  /** i_datalayout, once it is placed. */
  readonly layouts: Uint8Array;
  /** Byte offsets of the whole blocks of those directories and symlinks that have some, once they are placed. */
  readonly blockOffsets = new Map<number, number>();
  /** Offsets in slots. */
  readonly #slots: Uint32Array;

  /** Nothing has its place yet. */
  constructor({ nodes, directories, xattrs }: Pick<Inodes, 'nodes' | 'directories' | 'xattrs'>) {
    this.nodes = nodes;
    this.directories = directories;
    this.xattrs = xattrs;
    this.nlinks = new Uint32Array(nodes.length);
    this.layouts = new Uint8Array(nodes.length);
    this.#slots = new Uint32Array(nodes.length);
    for (const { targets } of directories.values()) for (const number of targets) this.nlinks[number]! += 1;
  }

  get count(): number {
    return this.nodes.length;
  }

  /** Path names, the root's among them. */
  get names(): number {
    let names = 1;
    for (const { targets } of this.directories.values()) names += targets.length - 2;
    return names;
  }

  /** Byte offset from the start of the bootstrap, once it is placed. */
  offset(number: number): number {
    return this.#slots[number]! * SLOT;
  }

  /** `offset`: a multiple of a slot. */
  put(number: number, layout: number, offset: number): void {
    this.layouts[number] = layout;
    this.#slots[number] = offset / SLOT;
  }

  /** Bytes of its attributes. */
  xattrSize(number: number): number {
    return xattrSize(this.xattrs.get(number) ?? null);
  }

  /** Offset after an inode and its attributes. */
  behindXattrs(number: number): number {
    return this.offset(number) + INODE_SIZE + this.xattrSize(number);
  }

  /** i_size. */
  size(number: number): number {
    const node = this.nodes[number]!;
    return this.directories.get(number)?.layout.size ?? node.target?.length ?? node.size;
  }

  /** The number by which directory entries and the superblock name it, in a metadata area that begins at `metaOffset`. */
  nid(number: number, metaOffset: number): number {
    return this.#slots[number]! - metaOffset / SLOT;
  }
}
