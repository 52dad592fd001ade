/** A tree counted: paths by type, and what its files share. */
import type { FileChunk, FileNode } from '../tree/node.ts';

/** Sizes in bytes. */
export interface InspectedTree {
  /** Paths by type. */
  readonly regularFiles: number;
  /** Number of directories. */
  readonly directories: number;
  /** Number of symbolic links. */
  readonly symlinks: number;
  /** Number of devices, FIFOs and sockets. */
  readonly others: number;
  /** Number of inodes: names of one hard-linked file count once. */
  readonly inodes: number;
  /** Sum of the sizes of all regular inodes. */
  readonly bytes: number;
  /** Chunks that files refer to, of how many different ones, and the bytes that are stored once instead of again. */
  readonly chunkReferences: number;
  /** Number of distinct chunks. */
  readonly chunks: number;
  /** Plain bytes that are stored once instead of again. */
  readonly sharedBytes: number;
  /** Bytes that files have for each byte that is stored for them, plain; 1 where nothing is shared. */
  readonly dedupRatio: number;
}

/** Reads every inode once, and keeps of it only what has several names. */
export function describeTree(root: FileNode): InspectedTree {
  const counts = { reg: 0, dir: 0, symlink: 0, char: 0, block: 0, fifo: 0, socket: 0 };
  const linked = new Set<FileNode>();
  const chunks = new ChunkCount();
  let [inodes, bytes] = [0, 0];
  const todo = [root];
  for (let node = todo.pop(); node !== undefined; node = todo.pop()) {
    counts[node.type]++;
    for (const child of node.children?.values() ?? []) todo.push(child);
    if (node.nlink !== 1 && node.type !== 'dir') {
      if (linked.has(node)) continue;
      linked.add(node);
    }
    inodes++;
    bytes += node.size;
    chunks.add(node.chunks);
  }
  const { references, distinct, shared } = chunks;
  return {
    regularFiles: counts.reg,
    directories: counts.dir,
    symlinks: counts.symlink,
    others: counts.char + counts.block + counts.fifo + counts.socket,
    inodes,
    bytes,
    chunkReferences: references,
    chunks: distinct,
    sharedBytes: shared,
    dedupRatio: bytes === 0 ? 1 : bytes / (bytes - shared),
  };
}

class ChunkCount {
  references = 0;
  distinct = 0;
  shared = 0;
  /** Blob → places in it that were seen: numbers, since there may be millions. */
  readonly #seen = new Map<string, Set<number>>();

  add(chunks: readonly FileChunk[]): void {
    for (const { blob, uncompressedOffset, uncompressedSize } of chunks) {
      this.references++;
      const seen = this.#seen.get(blob) ?? new Set();
      this.#seen.set(blob, seen);
      if (seen.has(uncompressedOffset)) {
        this.shared += uncompressedSize;
      } else {
        this.distinct++;
        seen.add(uncompressedOffset);
      }
    }
  }
}
