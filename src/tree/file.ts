/** A regular file of a layer. A layer can have millions, so the class has no fields that only other types need. */
import type { ByteString, FileChunk, FileNode, Mtime } from './node.ts';
import type { TarEntry } from './tar.ts';

/** Creates the chunks of a layer's own blob. */
export interface ChunkSource {
  chunk(index: number): FileChunk;
}

/** A chunk of another blob, or the index of one of the layer's own. */
type Single = FileChunk | number;
/** A run of identical chunks, as in the holes of a sparse file. */
class Run {
  readonly single: Single;
  readonly count: number;

  constructor(single: Single, count: number) {
    this.single = single;
    this.count = count;
  }
}
type Content = Single | Run;

const NOTHING: readonly Content[] = [];

export class LayerFile implements FileNode {
  mode: number;
  uid: number;
  gid: number;
  size: number;
  xattrs: Map<ByteString, Buffer> | null;
  #sec: number;
  #nsec: number;
  #source: ChunkSource | null = null;
  /** Most files have one chunk, which needs no array. */
  #content: Content | readonly Content[] = NOTHING;

  /** `entry`: of a regular file, or of a hard link; the node is then a placeholder for the inode of its target. */
  constructor({ mode, uid, gid, size, xattrs, mtime }: TarEntry) {
    this.mode = mode;
    this.uid = uid;
    this.gid = gid;
    this.size = size;
    this.xattrs = xattrs;
    this.#sec = mtime.sec;
    this.#nsec = mtime.nsec;
  }

  get type() {
    return 'reg' as const;
  }
  get rdev() {
    return null;
  }
  get target() {
    return null;
  }
  get children() {
    return null;
  }
  get mtime(): Mtime {
    return { sec: this.#sec, nsec: this.#nsec };
  }
  set mtime({ sec, nsec }: Mtime) {
    this.#sec = sec;
    this.#nsec = nsec;
  }
  get chunks(): readonly FileChunk[] {
    const contents: readonly Content[] = isList(this.#content) ? this.#content : [this.#content];
    // The array has its full length from the start, since a growing array takes several times the memory.
    const chunks = new Array<FileChunk>(contents.reduce<number>((sum, content) => sum + countOf(content), 0));
    let at = 0;
    for (const content of contents) {
      const single = content instanceof Run ? content.single : content;
      const chunk = typeof single === 'number' ? this.#source!.chunk(single) : single;
      const end = at + countOf(content);
      chunks.fill(chunk, at, end);
      at = end;
    }
    return chunks;
  }
  set chunks(chunks: readonly FileChunk[]) {
    this.#content = NOTHING;
    for (const chunk of chunks) this.#add(chunk, 1);
  }

  /** Appends a chunk of another blob `count` times. */
  addChunk(chunk: FileChunk, count = 1): void {
    this.#add(chunk, count);
  }

  /** Appends a chunk of the layer's own blob `count` times. `source` must be the same in every call. */
  addOwnChunk(source: ChunkSource, index: number, count = 1): void {
    this.#source = source;
    this.#add(index, count);
  }

  /** Appends chunks. Identical neighbours become one run, so that gigabytes of zeros take the memory of one chunk. */
  #add(single: Single, count: number): void {
    const before = this.#content;
    const last = isList(before) ? before.at(-1) : before;
    const [lastSingle, lastCount] = last instanceof Run ? [last.single, last.count] : [last, 1];
    const isSame = lastSingle === single;
    const total = isSame ? lastCount + count : count;
    const content = total === 1 ? single : new Run(single, total);
    if (!isList(before)) this.#content = isSame ? content : [before, content];
    else if (before.length === 0) this.#content = content;
    else if (isSame) (before as Content[])[before.length - 1] = content;
    else (before as Content[]).push(content);
  }
}

const countOf = (content: Content): number => (content instanceof Run ? content.count : 1);

const isList = (content: Content | readonly Content[]): content is readonly Content[] => Array.isArray(content);
