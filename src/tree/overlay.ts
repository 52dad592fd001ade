/** Layers on top of each other → the one tree a container sees. */
import { FormatError } from '../errors.ts';
import { type DirectoryMarks, type HardLink, implicitDirectory, type LayerTree } from './layer.ts';
import type { ByteString, FileNode } from './node.ts';
import { MAX_DEPTH, quote } from './path.ts';
import { LinkBudget, lookup, resolveDirectory } from './resolve.ts';

/**
 * Merges layers, lowest first. The layers are not changed: directories are copied, all other nodes are shared, so
 * that two names of one inode still hold the same object. Throws FormatError for a hard link that leads nowhere.
 */
export function overlay(layers: readonly LayerTree[], subject = 'image'): FileNode {
  const root = implicitDirectory();
  const budget = new LinkBudget();
  for (const layer of layers) new Merge(root, layer, subject, budget).run();
  return root;
}

/** One layer going onto the tree of those below it. */
class Merge {
  readonly #root: FileNode;
  readonly #layer: LayerTree;
  readonly #subject: string;
  readonly #budget: LinkBudget;
  /** Placeholder → the inode it joins. Looked up before anything changes: the layer's own whiteouts do not matter. */
  readonly #joined = new Map<FileNode, FileNode>();

  constructor(root: FileNode, layer: LayerTree, subject: string, budget: LinkBudget) {
    this.#root = root;
    this.#layer = layer;
    this.#subject = subject;
    this.#budget = budget;
  }

  run(): void {
    for (const [placeholder, link] of this.#layer.links) this.#joined.set(placeholder, this.#join(link));
    this.#mergeDirectory(this.#root, this.#layer.root, []);
  }

  /** The inode a hard link means: a lower layer's; else one that this layer's tar brought only after the link. */
  #join({ name, target }: HardLink): FileNode {
    const found = lookup(this.#root, target, this.#subject, this.#budget) ?? this.#ownNode(target);
    if (found === null || found.type === 'dir') {
      const problem = found === null ? 'does not exist' : 'is a directory';
      throw new FormatError('tar link name', `hard link ${quote(name)} to ${quote(target)}, which ${problem}`, {
        subject: this.#subject,
      });
    }
    return found;
  }

  #ownNode(target: ByteString): FileNode | null {
    const found = lookup(this.#layer.root, target, this.#subject, this.#budget);
    return found !== null && this.#layer.links.has(found) ? null : found;
  }

  /** `path`: the components of `from`. */
  #mergeDirectory(into: FileNode, from: FileNode, path: ByteString[]): void {
    if (path.length > MAX_DEPTH) throw new FormatError('tree', `deeper than ${MAX_DEPTH}`, { subject: this.#subject });
    const marks = this.#layer.marks.get(from);
    if (!marks?.implicit) copyMetadata(from, into);
    if (marks !== undefined) hide(into, marks);
    for (const [name, child] of from.children!) {
      if (child.type !== 'dir') {
        into.children!.set(name, this.#joined.get(child) ?? child);
        continue;
      }
      path.push(name);
      this.#mergeDirectory(this.#directory(into, name, path, child), child, path);
      path.pop();
    }
  }

  /**
   * Where the layer's directory goes: the lower one, or a new one. Engines unpack each layer into a folder of its own, so
   * one that only `lib/x` tells of hides a lower `lib -> usr/lib` all the same; containerd gives it the attributes of
   * what the link leads to.
   */
  #directory(into: FileNode, name: ByteString, path: readonly ByteString[], from: FileNode): FileNode {
    const below = into.children!.get(name);
    if (below?.type === 'dir') return below;
    const made = implicitDirectory();
    // One with an entry of its own has its own attributes, wherever the link leads to: even in circles.
    const isImplied = below?.type === 'symlink' && this.#layer.marks.get(from)?.implicit === true;
    const meant = isImplied ? resolveDirectory(this.#root, path, () => null, this.#subject, this.#budget) : null;
    if (meant !== null) copyMetadata(meant, made);
    into.children!.set(name, made);
    return made;
  }
}

function copyMetadata(from: FileNode, into: FileNode): void {
  into.mode = from.mode;
  into.uid = from.uid;
  into.gid = from.gid;
  into.mtime = from.mtime;
  into.xattrs = from.xattrs;
}

function hide(directory: FileNode, marks: DirectoryMarks): void {
  if (marks.opaque) directory.children!.clear();
  for (const name of marks.whiteouts ?? []) directory.children!.delete(name);
}
