/**
 * Builds the tree of one layer from its tar entries, with marks for its effect on lower layers (whiteouts, opaque
 * directories, hard links to names of lower layers). `overlay.ts` merges the layers.
 */
import { FormatError } from '../errors.ts';
import { TreeBudget } from './budget.ts';
import { LayerFile } from './file.ts';
import { type ByteString, byteString, bytesOf, type FileNode } from './node.ts';
import { quote, WHITEOUT } from './path.ts';
import { componentsOf, lookup, resolveDirectory } from './resolve.ts';
import type { TarEntry } from './tar.ts';

/** Name of an opaque whiteout (OCI image-spec, layer.md, "Opaque Whiteout"). */
export const OPAQUE = '.wh..wh..opq';
/** Prefix of AUFS bookkeeping, which old Docker layers contain and which is not content. */
const AUFS = '.wh..wh.';
/** Folder of AUFS bookkeeping whose files are targets of hard links. */
const AUFS_LINKS = '.wh..wh.plnk/';

/** Effects of a layer's directory on the same directory of lower layers. */
export interface DirectoryMarks {
  /** Whether the directory has no entry of its own, so that the metadata of a lower layer stays. */
  implicit: boolean;
  /** Whether the directory hides all content of lower layers. */
  opaque: boolean;
  /** Names of the lower layers that are hidden here. */
  whiteouts: Set<ByteString> | null;
}

/** A hard link whose target is not in the layer, or comes later in its tar. */
export interface HardLink {
  readonly name: ByteString;
  readonly target: ByteString;
}

export interface LayerTree {
  readonly root: FileNode;
  /** Marks of directories; a directory without an effect has none. */
  readonly marks: ReadonlyMap<FileNode, DirectoryMarks>;
  /** Placeholders for inodes of lower layers at the path `target`; `name` is the first such link. */
  readonly links: ReadonlyMap<FileNode, HardLink>;
}

/** A directory without an entry of its own: mode 0755, owned by root, time 0. */
export const implicitDirectory = (): FileNode => ({
  type: 'dir',
  mode: 0o755,
  uid: 0,
  gid: 0,
  mtime: { sec: 0, nsec: 0 },
  size: 0,
  rdev: null,
  target: null,
  xattrs: null,
  children: new Map(),
  chunks: [],
});

/** Builds a layer's tree from its entries in tar order. Later entries win. */
export class LayerBuilder {
  readonly #subject: string;
  readonly #budget: TreeBudget;
  readonly #root = implicitDirectory();
  readonly #marks = new Map<FileNode, DirectoryMarks>();
  readonly #links = new Map<FileNode, HardLink>();
  /** Files in {@link AUFS_LINKS}. */
  readonly #aufs = new Map<ByteString, LayerFile>();
  /** Tar entries come directory by directory, so the last parent is nearly always the next one. */
  #lastParent: { path: ByteString; node: FileNode } | null = null;

  /** `budget`: memory limit of all layers of the image. */
  constructor(subject = 'layer', budget = new TreeBudget()) {
    this.#subject = subject;
    this.#budget = budget;
    this.#marksOf(this.#root).implicit = true;
  }

  /**
   * Adds an entry. Returns the node of a regular file, whose content follows in the tar, so that the caller can set
   * its chunks; null for everything else. Throws FormatError for invalid names.
   */
  add(found: TarEntry): LayerFile | null {
    this.#budget.entry(found, this.#subject);
    const entry = withoutOverlayXattrs(found);
    const slash = entry.name.lastIndexOf('/');
    const name = entry.name.slice(slash + 1);
    const parentPath = slash < 0 ? '' : entry.name.slice(0, slash);
    if (isAufs(entry.name, name)) return this.#aufsFile(entry);
    if (entry.name === '') {
      // An entry that is not a directory cannot replace the root, and is skipped as containerd does.
      if (entry.type === 'dir') this.#describe(this.#root, entry);
      return null;
    }
    const parent = this.#parent(parentPath);
    if (name === OPAQUE) this.#marksOf(parent).opaque = true;
    else if (name.startsWith(WHITEOUT)) this.#whiteout(parent, name.slice(WHITEOUT.length));
    else if (entry.type === 'hardlink') this.#hardLink(parent, name, entry);
    else if (entry.type === 'dir') this.#directory(parent, name, entry);
    else if (isOverlayWhiteout(entry)) {
      if (parent.children!.delete(name)) this.#lastParent = null;
      this.#whiteout(parent, name);
    } else {
      const node = nodeOf(entry);
      this.#put(parent, name, node);
      return node instanceof LayerFile ? node : null;
    }
    return null;
  }

  /** The layer; the builder must not be used after it. */
  finish(): LayerTree {
    return { root: this.#root, marks: this.#marks, links: this.#links };
  }

  #aufsFile(entry: TarEntry): LayerFile | null {
    if (entry.type !== 'reg' || !entry.name.startsWith(AUFS_LINKS)) return null;
    const node = new LayerFile(entry);
    this.#aufs.set(entry.name, node);
    return node;
  }

  #parent(path: ByteString): FileNode {
    if (this.#lastParent?.path === path) return this.#lastParent.node;
    const make = (parent: FileNode, name: ByteString) => {
      this.#budget.directory(this.#subject);
      const made = implicitDirectory();
      this.#marksOf(made).implicit = true;
      this.#put(parent, name, made);
      return made;
    };
    const node = resolveDirectory(this.#root, componentsOf(path), make, this.#subject, this.#budget.links)!;
    this.#lastParent = { path, node };
    return node;
  }

  #put(parent: FileNode, cut: ByteString, node: FileNode): void {
    // The name is copied, since a substring would keep its whole path in memory.
    const name = byteString(bytesOf(cut));
    const before = parent.children!.get(name);
    // Replacing a directory or symlink changes the nodes that paths through it lead to.
    if (before?.type === 'dir' || before?.type === 'symlink') this.#lastParent = null;
    parent.children!.set(name, node);
  }

  #directory(parent: FileNode, name: ByteString, entry: TarEntry): void {
    let node = parent.children!.get(name);
    if (node?.type !== 'dir') {
      node = implicitDirectory();
      this.#put(parent, name, node);
    }
    this.#describe(node, entry);
  }

  #describe(directory: FileNode, entry: TarEntry): void {
    directory.mode = entry.mode;
    directory.uid = entry.uid;
    directory.gid = entry.gid;
    directory.mtime = entry.mtime;
    directory.xattrs = entry.xattrs;
    const marks = this.#marks.get(directory);
    if (marks !== undefined) marks.implicit = false;
  }

  #whiteout(parent: FileNode, hidden: ByteString): void {
    if (hidden === '' || hidden === '.' || hidden === '..') {
      throw this.#bad(`a whiteout cannot hide ${quote(hidden)}`);
    }
    const marks = this.#marksOf(parent);
    marks.whiteouts ??= new Set();
    marks.whiteouts.add(hidden);
  }

  #hardLink(parent: FileNode, name: ByteString, entry: TarEntry): void {
    const target = entry.linkName!;
    let node = this.#aufs.get(target) ?? lookup(this.#root, target, this.#subject, this.#budget.links);
    if (node?.type === 'dir' && !this.#marks.get(node)?.implicit) {
      throw this.#bad(`hard link ${quote(entry.name)} leads to the directory ${quote(target)}`);
    }
    if (node === null || node.type === 'dir') {
      node = nodeOf(entry);
      this.#links.set(node, { name: entry.name, target });
    } else if (!this.#links.has(node)) {
      takeMetadata(node, entry);
    }
    this.#put(parent, name, node);
  }

  #marksOf(directory: FileNode): DirectoryMarks {
    let marks = this.#marks.get(directory);
    if (marks === undefined) {
      marks = { implicit: false, opaque: false, whiteouts: null };
      this.#marks.set(directory, marks);
    }
    return marks;
  }

  #bad(problem: string): FormatError {
    return new FormatError('tar name', problem, { subject: this.#subject });
  }
}

/** Sets the metadata of a hard link's entry on its target's inode, as container engines do. Attributes are added to it. */
function takeMetadata(node: FileNode, { mode, uid, gid, mtime, xattrs }: TarEntry): void {
  if (node.type !== 'symlink') node.mode = mode;
  node.uid = uid;
  node.gid = gid;
  node.mtime = mtime;
  if (node.xattrs === null) node.xattrs = xattrs;
  else for (const [key, value] of xattrs ?? []) node.xattrs.set(key, value);
}

/** Prefix of attributes that overlayfs uses and hides; containerd does not unpack them. */
const OVERLAY_XATTRS = 'trusted.overlay.';

/** Whether overlayfs would treat the entry as a whiteout: a character device 0:0. */
const isOverlayWhiteout = ({ type, rdev }: TarEntry): boolean =>
  type === 'char' && rdev!.major === 0 && rdev!.minor === 0;

function withoutOverlayXattrs(entry: TarEntry): TarEntry {
  const { xattrs } = entry;
  if (xattrs === null || ![...xattrs.keys()].some((key) => key.startsWith(OVERLAY_XATTRS))) return entry;
  const kept = [...xattrs].filter(([key]) => !key.startsWith(OVERLAY_XATTRS));
  return { ...entry, xattrs: kept.length === 0 ? null : new Map(kept) };
}

/** Whether the entry is AUFS bookkeeping, or lies in a directory of it. */
function isAufs(path: ByteString, name: ByteString): boolean {
  if (!path.includes(AUFS)) return false;
  const parents = path.slice(0, path.length - name.length);
  return parents.startsWith(AUFS) || parents.includes(`/${AUFS}`) || (name.startsWith(AUFS) && name !== OPAQUE);
}

/** A new node that is not a directory; for a hard link, a placeholder for the inode of its target. */
function nodeOf(entry: TarEntry): FileNode {
  const { type, uid, gid, mtime, rdev, xattrs } = entry;
  if (type === 'reg' || type === 'hardlink') return new LayerFile(entry);
  const isLink = type === 'symlink';
  const own = { type, mode: isLink ? 0o777 : entry.mode, target: isLink ? entry.linkName : null };
  return { ...own, uid, gid, mtime, size: 0, rdev, xattrs, children: null, chunks: NO_CHUNKS };
}

const NO_CHUNKS: FileNode['chunks'] = [];
