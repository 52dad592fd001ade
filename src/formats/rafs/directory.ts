/**
 * The entries of a directory as a Map that reads them on access: `get` bisects, and iterating or counting reads all of
 * them.
 */

import type { Reader } from '../../binary/reader.ts';
import type { ByteString, FileNode } from '../../tree/node.ts';
import { type DirectoryEntry, decodeDirectoryBlock } from './dirent.ts';

/** The part of a tree that its directories use. `offset`: that of a directory's inode. */
export interface DirectoryTree {
  readonly reader: Reader;
  /** Number of blocks with entries. */
  blockCount(offset: number): number;
  blockAt(offset: number, index: number): { readonly at: number; readonly length: number };
  /** The node of an entry. Throws FormatError when its type differs from that of the entry. */
  childOf(entry: DirectoryEntry, parent: number, depth: number, offset: number): FileNode;
}

/** Inode numbers of a directory and its parent, its depth, and the `offset` of its inode. */
export interface DirectoryPlace {
  readonly offset: number;
  readonly nid: number;
  readonly parent: number;
  readonly depth: number;
}

/** The entries of a directory. Changes do not affect the bootstrap. Every access can throw FormatError. */
export class RafsDirectory extends Map<ByteString, FileNode> {
  readonly #tree: DirectoryTree;
  readonly #place: DirectoryPlace;
  /** Nodes of single lookups; null as soon as all entries are read. */
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
    // The constructor of Map calls no method of this class, since it gets no entries.
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

  /** Looks in the last block whose first name is not greater than `name`, as the kernel does (fs/erofs/namei.c). */
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
        // The kernel finds names by bisection, and a duplicate name would be two files at one path.
        if (entry.name <= previous) throw reader.bad('name', 'directory entries are not sorted', offset);
        previous = entry.name;
        if (entry.name === '.' || entry.name === '..') {
          const expected = entry.name === '.' ? nid : parent;
          if (entry.nid !== expected)
            throw reader.bad('nid', `"${entry.name}" is inode ${entry.nid}, not ${expected}`, offset);
          dots++;
        } else {
          nodes.push([entry.name, this.#found.get(entry.name) ?? this.#child(entry)]);
        }
      }
    }
    if (dots !== 2) throw reader.bad('directory', 'the directory has no "." and ".."', offset);
    this.#found = null;
    for (const [name, node] of nodes) super.set(name, node);
  }
}
