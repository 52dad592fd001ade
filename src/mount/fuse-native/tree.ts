/** The tree of an opened image as a path-based file system asks for it: nodes by path, numbers and attributes. */
import { encodeDevice } from '../../formats/rafs/inode.ts';
import type { FileNode, NodeType } from '../../tree/node.ts';
import { display } from '../../tree/node.ts';

/** File type bits of st_mode, stat(2). */
const TYPE_BITS: Readonly<Record<NodeType, number>> = {
  socket: 0o140000,
  symlink: 0o120000,
  reg: 0o100000,
  block: 0o060000,
  dir: 0o040000,
  char: 0o020000,
  fifo: 0o010000,
};

/** Attributes of stat(2) in fuse-native's form: times in milliseconds. */
export interface FuseStat {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly nlink: number;
  readonly ino: number;
  readonly rdev: number;
  readonly blksize: number;
  readonly blocks: number;
  readonly atime: number;
  readonly mtime: number;
  readonly ctime: number;
}

/**
 * Names are what the library can carry: UTF-8 text. A name of other bytes appears with U+FFFD in their place; of two
 * that would then be the same only the first is seen.
 */
export class FuseTree {
  readonly #root: FileNode;
  /** Number and names of every inode. */
  readonly #inodes = new Map<FileNode, { readonly ino: number; nlink: number }>();
  /** Directories that were looked into, by the names they are shown with. */
  readonly #shown = new WeakMap<FileNode, ReadonlyMap<string, FileNode>>();

  constructor(root: FileNode) {
    this.#root = root;
    this.#inodes.set(root, { ino: 1, nlink: 2 });
    const directories = [root];
    for (const directory of directories) {
      for (const node of directory.children!.values()) {
        const cached = this.#inodes.get(node);
        if (cached !== undefined) {
          cached.nlink += 1;
          continue;
        }
        this.#inodes.set(node, { ino: this.#inodes.size + 1, nlink: node.type === 'dir' ? 2 : 1 });
        if (node.type !== 'dir') continue;
        this.#inodes.get(directory)!.nlink += 1;
        directories.push(node);
      }
    }
  }

  get inodes(): number {
    return this.#inodes.size;
  }

  /** The node at an absolute path as it is shown; null when there is none. */
  find(path: string): FileNode | null {
    let node: FileNode | undefined = this.#root;
    for (const name of path.split('/')) {
      if (name === '') continue;
      if (node?.type !== 'dir') return null;
      node = this.#namesIn(node).get(name);
    }
    return node ?? null;
  }

  /** Names in a directory, without `.` and `..`. */
  names(directory: FileNode): string[] {
    return [...this.#namesIn(directory).keys()];
  }

  stat(node: FileNode): FuseStat {
    const { ino, nlink } = this.#inodes.get(node)!;
    // The library's times are unsigned milliseconds.
    const time = Math.max(0, node.mtime.sec * 1000 + Math.floor(node.mtime.nsec / 1e6));
    const size = node.type === 'symlink' ? node.target!.length : node.size;
    return {
      mode: TYPE_BITS[node.type] | node.mode,
      uid: node.uid,
      gid: node.gid,
      size,
      nlink,
      ino,
      rdev: node.rdev === null ? 0 : encodeDevice(node.rdev.major, node.rdev.minor),
      blksize: 4096,
      blocks: Math.ceil(size / 512),
      atime: time,
      mtime: time,
      ctime: time,
    };
  }

  #namesIn(directory: FileNode): ReadonlyMap<string, FileNode> {
    const cached = this.#shown.get(directory);
    if (cached !== undefined) return cached;
    const shown = new Map<string, FileNode>();
    for (const [name, node] of directory.children!) {
      const text = display(name);
      if (!shown.has(text)) shown.set(text, node);
    }
    this.#shown.set(directory, shown);
    return shown;
  }
}
