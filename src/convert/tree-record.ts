/**
 * The tree of a layer as lines of JSON, a node each, a directory before what is in it. Nothing of it is lost: neither
 * whiteouts and hard links, which a bootstrap has no place for, nor the order of the tar.
 */
import { FormatError } from '../errors.ts';
import type { TreeBudget } from '../tree/budget.ts';
import { LayerFile } from '../tree/file.ts';
import { type DirectoryMarks, type HardLink, implicitDirectory, type LayerTree } from '../tree/layer.ts';
import type { ByteString, FileNode } from '../tree/node.ts';
import { MAX_DEPTH, MAX_NAME, MAX_PATH } from '../tree/path.ts';
import { MAX_SPARSE_CHUNKS } from './assembly.ts';
import type { BlobChunks } from './blob-chunks.ts';

const FLAG = { implicit: 1, opaque: 2 } as const;
const LETTERS = { reg: 'f', symlink: 'l', char: 'c', block: 'b', fifo: 'p', socket: 's' } as const;
const TYPES = { l: 'symlink', c: 'char', b: 'block', p: 'fifo', s: 'socket' } as const;

type Value = string | number | null | readonly Value[];

/** Lines, or null for a layer whose files lie in other blobs than its own, too. */
export function* encodeTree({ root, marks, links }: LayerTree, blob: string): Generator<string, boolean> {
  const seen = new Map<FileNode, number>();
  const todo: Array<readonly [name: ByteString, node: FileNode]> = [['', root]];
  for (let next = todo.pop(); next !== undefined; next = todo.pop()) {
    const [name, node] = next;
    const before = seen.get(node);
    if (before !== undefined) {
      yield line(['h', name, before]);
      continue;
    }
    if (node.chunks.some((chunk) => chunk.blob !== blob)) return false;
    if (node.type !== 'dir') seen.set(node, seen.size);
    yield line([...head(node, name), ...rest(node, marks, links)]);
    // From the end, because the last one is taken first.
    for (const child of [...(node.children ?? [])].reverse()) todo.push(child);
  }
  return true;
}

const line = (fields: readonly Value[]): string => `${JSON.stringify(fields)}\n`;

function head(node: FileNode, name: ByteString): Value[] {
  const letter = node.type === 'dir' ? 'd' : LETTERS[node.type];
  const xattrs = [...(node.xattrs ?? [])].map(([key, value]) => [key, value.toString('latin1')]);
  return [letter, name, node.mode, node.uid, node.gid, node.mtime.sec, node.mtime.nsec, node.xattrs && xattrs];
}

function rest(node: FileNode, marks: LayerTree['marks'], links: LayerTree['links']): Value[] {
  if (node.type === 'reg') {
    const link = links.get(node);
    return [node.size, runsOf(node), link === undefined ? null : [link.name, link.target]];
  }
  if (node.type !== 'dir') return [node.target, node.rdev === null ? null : [node.rdev.major, node.rdev.minor]];
  const mark = marks.get(node);
  if (mark === undefined) return [node.children!.size, null];
  const flags = (mark.implicit ? FLAG.implicit : 0) | (mark.opaque ? FLAG.opaque : 0);
  return [node.children!.size, [flags, mark.whiteouts === null ? null : [...mark.whiteouts]]];
}

/**
 * Numbers of a file's chunks: the first of each run and how many follow each other; below zero, how often that one comes,
 * as in the holes of a sparse file.
 */
function runsOf({ chunks }: FileNode): number[] {
  const runs: number[] = [];
  let first = -1;
  let count = 0;
  for (const { index } of chunks) {
    if (count > 0 && first + count === index) count += 1;
    else if (first === index && (count === 1 || count < 0)) count = count === 1 ? -2 : count - 1;
    else {
      if (count !== 0) runs.push(first, count);
      [first, count] = [index, 1];
    }
  }
  return count === 0 ? runs : [...runs, first, count];
}

/** The tree of these lines. FormatError for what {@link encodeTree} does not write. */
export function decodeTree(lines: Iterable<string>, layer: DecodedLayer): LayerTree {
  return new TreeReader(layer).read(lines);
}

/** The layer whose tree is read. */
export interface DecodedLayer {
  readonly chunks: BlobChunks;
  readonly chunkSize: number;
  /** Memory budget for the trees of all layers of the image. */
  readonly budget: TreeBudget;
  readonly subject: string;
}

class TreeReader {
  readonly #chunks: BlobChunks;
  readonly #chunkSize: number;
  readonly #budget: TreeBudget;
  readonly #subject: string;
  /** Repeated chunks that files may still have. */
  #repeatsLeft = MAX_SPARSE_CHUNKS;
  readonly #marks = new Map<FileNode, DirectoryMarks>();
  readonly #links = new Map<FileNode, HardLink>();
  /** Nodes other than directories, for further names of them. */
  readonly #nodes: FileNode[] = [];
  /** Directories that are not complete, the innermost last, with the number of entries to come. */
  readonly #open: Array<{ readonly node: FileNode; left: number }> = [];
  #root: FileNode | null = null;
  #fields: readonly unknown[] = [];
  #count = 0;

  constructor({ chunks, chunkSize, budget, subject }: DecodedLayer) {
    this.#chunks = chunks;
    this.#chunkSize = chunkSize;
    this.#budget = budget;
    this.#subject = subject;
  }

  read(lines: Iterable<string>): LayerTree {
    for (const text of lines) {
      this.#fields = this.#parse(text);
      this.#count++;
      this.#add();
    }
    if (this.#root === null || this.#open.length > 0) throw this.#bad('truncated');
    return { root: this.#root, marks: this.#marks, links: this.#links };
  }

  #parse(text: string): readonly unknown[] {
    try {
      const fields: unknown = JSON.parse(text);
      if (Array.isArray(fields)) return fields;
    } catch {
      // A line that is not JSON is not a list either.
    }
    throw this.#bad('not a list');
  }

  #add(): void {
    const name = this.#text(1, MAX_NAME);
    const letter = this.#fields[0];
    const node = letter === 'h' ? this.#named() : letter === 'd' ? this.#directory() : this.#node(letter);
    if (this.#root === null) {
      if (letter !== 'd' || name !== '') throw this.#bad('does not begin with a root');
      this.#root = node;
    } else {
      this.#put(name, node);
    }
    if (letter === 'd') this.#open.push({ node, left: this.#number(8) });
    if (this.#open.length > MAX_DEPTH) throw this.#bad('too deep');
    while (this.#open.at(-1)?.left === 0) this.#open.pop();
  }

  #put(name: ByteString, node: FileNode): void {
    const parent = this.#open.at(-1);
    if (parent === undefined) throw this.#bad('more than one root');
    if (name === '' || name === '.' || name === '..' || /[/\0]/.test(name)) throw this.#bad('invalid name');
    if (parent.node.children!.has(name)) throw this.#bad('duplicate name');
    parent.node.children!.set(name, node);
    parent.left -= 1;
  }

  #named(): FileNode {
    const node = this.#nodes[this.#number(2)];
    if (node === undefined) throw this.#bad('a further name of an unknown node');
    this.#pay('fifo', null, null);
    return node;
  }

  #directory(): FileNode {
    const { size: _, ...metadata } = this.#metadata();
    this.#pay('dir', metadata.xattrs, null);
    const node = { ...implicitDirectory(), ...metadata };
    const marks = this.#fields[9];
    if (marks === null) return node;
    if (!Array.isArray(marks) || typeof marks[0] !== 'number') throw this.#bad('invalid marks');
    const hidden: unknown = marks[1];
    const whiteouts = hidden === null ? null : new Set(this.#texts(hidden));
    for (const name of whiteouts ?? [])
      if (name === '' || name === '.' || name === '..') throw this.#bad('invalid whiteout');
    const [flags] = marks as [number];
    this.#marks.set(node, {
      implicit: (flags & FLAG.implicit) !== 0,
      opaque: (flags & FLAG.opaque) !== 0,
      whiteouts,
    });
    return node;
  }

  #node(letter: unknown): FileNode {
    const node = letter === 'f' ? this.#file() : this.#special(letter);
    this.#nodes.push(node);
    return node;
  }

  #file(): FileNode {
    const size = this.#number(8);
    const entry = { ...this.#metadata(), size, name: '', type: 'reg', linkName: null, rdev: null } as const;
    this.#pay('reg', entry.xattrs, null);
    const node = new LayerFile(entry);
    this.#fill(node, size);
    if (this.#fields[10] !== null) this.#links.set(node, this.#link(this.#fields[10]));
    return node;
  }

  #link(value: unknown): HardLink {
    const [name, target] = this.#texts(value);
    if (name === undefined || target === undefined || Math.max(name.length, target.length) > MAX_PATH) {
      throw this.#bad('invalid hard link');
    }
    return { name, target };
  }

  /** Gives a file its chunks, whose sizes must be those of its content. */
  #fill(node: LayerFile, size: number): void {
    const runs = this.#fields[9];
    if (!Array.isArray(runs) || runs.length % 2 !== 0) throw this.#bad('chunks');
    let left = size;
    for (let i = 0; i < runs.length; i += 2) {
      const [first, count] = [runs[i], runs[i + 1]] as [unknown, unknown];
      if (!isCount(first) || !Number.isSafeInteger(count)) throw this.#bad('chunks');
      if ((count as number) < 0) {
        left -= this.#repeat(node, first, -(count as number), left);
        continue;
      }
      for (let nth = 0; nth < (count as number); nth++) {
        const size = Math.min(left, this.#chunkSize);
        if (size === 0 || this.#chunks.at(first + nth)?.uncompressedSize !== size) throw this.#bad('chunks');
        node.addOwnChunk(this.#chunks, first + nth);
        left -= size;
      }
    }
    // A hard link to what a lower layer has brings no content.
    if (left !== 0 && this.#fields[10] === null) throw this.#bad('chunks');
  }

  /** Adds a chunk `count` times; returns their bytes. Only whole chunks repeat. */
  #repeat(node: LayerFile, index: number, count: number, left: number): number {
    this.#repeatsLeft -= count;
    const size = count * this.#chunkSize;
    const isWhole = this.#chunks.at(index)?.uncompressedSize === this.#chunkSize;
    if (!isWhole || !(size <= left) || this.#repeatsLeft < 0) throw this.#bad('chunks');
    node.addOwnChunk(this.#chunks, index, count);
    return size;
  }

  #special(letter: unknown): FileNode {
    if (typeof letter !== 'string' || !Object.hasOwn(TYPES, letter)) throw this.#bad('unknown type');
    const type = TYPES[letter as keyof typeof TYPES];
    const target = this.#fields[8] === null ? null : this.#text(8, MAX_PATH);
    const device = this.#fields[9];
    if ((type === 'symlink') !== (target !== null)) throw this.#bad('invalid link target');
    if (device !== null && !(Array.isArray(device) && isCount(device[0]) && isCount(device[1]))) {
      throw this.#bad('device');
    }
    const rdev = device === null ? null : { major: device[0] as number, minor: device[1] as number };
    const metadata = this.#metadata();
    this.#pay('fifo', metadata.xattrs, target);
    return { type, ...metadata, target, rdev, children: null, chunks: [] };
  }

  /** As for the entry of a tar; of what has no others in it the type does not matter. */
  #pay(type: 'dir' | 'reg' | 'fifo', xattrs: FileNode['xattrs'], linkName: ByteString | null): void {
    this.#budget.entry({ type, name: this.#text(1, MAX_NAME), linkName, xattrs }, this.#subject);
  }

  #metadata() {
    const mode = this.#number(2);
    const [sec, nsec] = [this.#fields[5], this.#number(6)];
    if (mode > 0o7777 || nsec >= 1e9 || !Number.isSafeInteger(sec)) throw this.#bad('metadata');
    return {
      ...{ mode, uid: this.#number(3), gid: this.#number(4), size: 0 },
      ...{ mtime: { sec: sec as number, nsec }, xattrs: this.#xattrs() },
    };
  }

  #xattrs(): FileNode['xattrs'] {
    const pairs = this.#fields[7];
    if (pairs === null) return null;
    if (!Array.isArray(pairs)) throw this.#bad('xattrs');
    return new Map(
      pairs.map((pair): [ByteString, Buffer] => {
        const [key, value] = this.#texts(pair);
        if (key === undefined || value === undefined) throw this.#bad('xattrs');
        return [key, Buffer.from(value, 'latin1')];
      }),
    );
  }

  #texts(value: unknown): ByteString[] {
    if (Array.isArray(value) && value.every(isByteString)) return value;
    throw this.#bad('text');
  }

  #text(field: number, max: number): ByteString {
    const value = this.#fields[field];
    if (isByteString(value) && value.length <= max) return value;
    throw this.#bad('text');
  }

  #number(field: number): number {
    const value = this.#fields[field];
    if (isCount(value)) return value;
    throw this.#bad('number');
  }

  #bad(problem: string): FormatError {
    return new FormatError(`node ${this.#count}`, problem, { op: 'read layer record', subject: this.#subject });
  }
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

const isByteString = (value: unknown): value is ByteString => typeof value === 'string' && /^[\0-\xff]*$/.test(value);
