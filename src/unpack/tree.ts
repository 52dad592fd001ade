/** A tree in the order of its creation: directories, other inodes by their first name, and further names. */
import { FormatError } from '../errors.ts';
import type { ByteString, FileNode } from '../tree/node.ts';
import { MAX_PATH, quote } from '../tree/path.ts';

/** A path relative to the root, which is `''`. */
export interface Placed {
  readonly path: ByteString;
  readonly node: FileNode;
}

export interface TreePlan {
  /** Parents before children. */
  readonly directories: readonly Placed[];
  /** Inodes other than directories, by their first name in the order of paths. */
  readonly inodes: readonly Placed[];
  /** Further names of inodes. */
  readonly links: ReadonlyArray<{ readonly path: ByteString; readonly target: ByteString; readonly node: FileNode }>;
  /** The first name of every inode that is not a directory. */
  readonly names: ReadonlyMap<FileNode, ByteString>;
  /** Bytes of all regular files. */
  readonly bytes: number;
}

/** Goes through the tree once, names sorted. FORMAT for paths that are too long, and for a directory with two parents. */
export function planTree(root: FileNode, subject: string): TreePlan {
  const directories: Placed[] = [];
  const inodes: Placed[] = [];
  const links: Array<{ path: ByteString; target: ByteString; node: FileNode }> = [];
  const names = new Map<FileNode, ByteString>();
  const seen = new Set<FileNode>();
  let bytes = 0;
  // A stack instead of recursion: a tree may be two thousand deep.
  const stack: Placed[] = [{ path: '', node: root }];
  for (let here = stack.pop(); here !== undefined; here = stack.pop()) {
    const { path, node } = here;
    if (path.length >= MAX_PATH) throw new FormatError('path', `longer than ${MAX_PATH}: ${quote(path)}`, { subject });
    const before = names.get(node);
    if (node.children !== null) {
      if (seen.has(node)) throw new FormatError('tree', `the directory ${quote(path)} has two parents`, { subject });
      seen.add(node);
      directories.push(here);
      const sorted = [...node.children].sort(([a], [b]) => (a < b ? 1 : -1));
      for (const [name, child] of sorted) stack.push({ path: path === '' ? name : `${path}/${name}`, node: child });
    } else if (before !== undefined) {
      links.push({ path, target: before, node });
    } else {
      names.set(node, path);
      inodes.push(here);
      if (node.type === 'reg') bytes += node.size;
    }
  }
  return { directories, inodes, links, names, bytes };
}
