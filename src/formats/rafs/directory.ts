/**
 * The entries of a directory as a Map that reads itself: one is found by bisection, all are read when they are walked
 * or counted.
 */

import type { Reader } from '../../binary/reader.ts';
import type { ByteString, FileNode } from '../../tree/node.ts';
import { type DirectoryEntry, decodeDirectoryBlock } from './dirent.ts';

/** What a directory needs of the tree that it is in. `offset`: that of its inode. */
export interface DirectoryTree {
  readonly reader: Reader;
  /** How many blocks of entries there are. */
  blockCount(offset: number): number;
  blockAt(offset: number, index: number): { readonly at: number; readonly length: number };
  /** The node of an entry, whose type has been compared. */
  childOf(entry: DirectoryEntry, parent: number, depth: number, offset: number): FileNode;
}

/** Numbers of a directory, its parent and how deep it lies; `offset` of its inode. */
export interface DirectoryPlace {
  readonly offset: number;
  readonly nid: number;
  readonly parent: number;
  readonly depth: number;
}

/** Changing it changes nothing in the bootstrap. Every access can throw FormatError. */
export class RafsDirectory extends Map<ByteString, FileNode> {
  readonly #tree: DirectoryTree;
  readonly #place: DirectoryPlace;
  /** Nodes that were looked for before all were read; null from then on. */
  #found: Map<ByteString, FileNode> | null = new Map();

  constructor(tree: DirectoryTree, place: DirectoryPlace) {
    super();
    this.#tree = tree;
    this.#place = place;
  }

  override get(name: ByteString): FileNode | undefined {
    if (this.#found === null) return super.get(name);
    const before = this.#found.get(name);
    if (before !== undefined) return before;
    const entry = this.#lookFor(name);
    if (entry === undefined) return undefined;
    const node = this.#child(entry);
    this.#found.set(name, node);
    return node;
  }

  override has(name: ByteString): boolean {
    return this.get(name) !== undefined;
  }
  override get size(): number {
    this.#readAll();
    return super.size;
  }
  override set(name: ByteString, node: FileNode): this {
    // The constructor of Map calls nothing of this: it was given no entries.
    this.#readAll();
    return super.set(name, node);
  }
  override delete(name: ByteString): boolean {
    this.#readAll();
    return super.delete(name);
  }
  override clear(): void {
    this.#readAll();
    super.clear();
  }
  override keys(): MapIterator<ByteString> {
    this.#readAll();
    return super.keys();
  }
  override values(): MapIterator<FileNode> {
    this.#readAll();
    return super.values();
  }
  override entries(): MapIterator<[ByteString, FileNode]> {
    this.#readAll();
    return super.entries();
  }
  override [Symbol.iterator](): MapIterator<[ByteString, FileNode]> {
    return this.entries();
  }
  override forEach(each: (node: FileNode, name: ByteString, map: Map<ByteString, FileNode>) => void): void {
    this.#readAll();
    super.forEach(each);
  }

  #child(entry: DirectoryEntry): FileNode {
    const { nid, depth, offset } = this.#place;
    return this.#tree.childOf(entry, nid, depth + 1, offset);
  }

  #block(index: number): DirectoryEntry[] {
    const entries: DirectoryEntry[] = [];
    const { at, length } = this.#tree.blockAt(this.#place.offset, index);
    decodeDirectoryBlock(this.#tree.reader, at, length, entries);
    return entries;
  }

  /** As the kernel does (fs/erofs/namei.c): the last block whose first name is not behind `name`. */
  #lookFor(name: ByteString): DirectoryEntry | undefined {
    if (name === '.' || name === '..') return undefined;
    let low = 0;
    let high = this.#tree.blockCount(this.#place.offset) - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.#block(middle)[0]!.name <= name) low = middle;
      else high = middle - 1;
    }
    return high < 0 ? undefined : this.#block(low).find((entry) => entry.name === name);
  }

  #readAll(): void {
    if (this.#found === null) return;
    const { reader } = this.#tree;
    const { offset, nid, parent } = this.#place;
    const nodes: Array<[ByteString, FileNode]> = [];
    const blocks = this.#tree.blockCount(offset);
    let previous = '';
    let dots = 0;
    for (let i = 0; i < blocks; i++) {
      for (const entry of this.#block(i)) {
        // The kernel finds names by bisection, and a name twice would be two files in one place.
        if (entry.name <= previous) throw reader.bad('name', 'directory entries are not sorted', offset);
        previous = entry.name;
        if (entry.name === '.' || entry.name === '..') {
          const wanted = entry.name === '.' ? nid : parent;
          if (entry.nid !== wanted) throw reader.bad('nid', `"${entry.name}" leads to ${entry.nid}`, offset);
          dots++;
        } else {
          nodes.push([entry.name, this.#found.get(entry.name) ?? this.#child(entry)]);
        }
      }
    }
    if (dots !== 2) throw reader.bad('directory', 'without "." and ".."', offset);
    this.#found = null;
    for (const [name, node] of nodes) super.set(name, node);
  }
}
