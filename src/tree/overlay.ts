/** Merges layers into the tree that a container sees. */
import { FormatError } from '../errors.ts';
import { type DirectoryMarks, type HardLink, implicitDirectory, type LayerTree } from './layer.ts';
import type { ByteString, FileNode } from './node.ts';
import { MAX_DEPTH, quote } from './path.ts';
import { LinkBudget, lookup, resolveDirectory } from './resolve.ts';

/**
 * Merges layers, lowest first. The layers are not changed: directories are copied, all other nodes are shared, so
 * that two names of one inode still hold the same object. Throws FormatError for a hard link without a target.
 */
export function overlay(layers: readonly LayerTree[], subject = 'image'): FileNode {
  const root = implicitDirectory();
  const budget = new LinkBudget();
  for (const layer of layers) new Merge(root, layer, subject, budget).run();
  return root;
}

/** Merges one layer into the tree of the layers below it. */
class Merge {
  readonly #root: FileNode;
  readonly #layer: LayerTree;
  readonly #subject: string;
  readonly #budget: LinkBudget;
  /** Placeholder → inode of its target. Targets are resolved first, so that the layer's own whiteouts have no effect on them. */
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

  /** The inode of a hard link's target: that of a lower layer, else one that follows the link in this layer's tar. */
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
    if (path.length > MAX_DEPTH)
      throw new FormatError('tree', `deeper than ${MAX_DEPTH} directories`, { subject: this.#subject });
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
   * Finds or makes the directory that a layer's directory is merged into. Container engines unpack each layer into its own
   * folder, so an implicit directory (`lib` of `lib/x`) also replaces a lower symlink `lib -> usr/lib`; containerd gives it
   * the attributes of the link's target.
   */
  #directory(into: FileNode, name: ByteString, path: readonly ByteString[], from: FileNode): FileNode {
    const below = into.children!.get(name);
    if (below?.type === 'dir') return below;
    const made = implicitDirectory();
    // A directory with an entry of its own keeps its attributes. The link is not followed, since it may be a loop.
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
