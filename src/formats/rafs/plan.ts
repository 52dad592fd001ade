/** The plan of a bootstrap: every inode, directory block, chunk and table gets its place; no byte is written. */
import { LacunaError } from '../../errors.ts';
import { type ByteString, display, type FileChunk, type FileNode } from '../../tree/node.ts';
import { MAX_NAME, MAX_PATH } from '../../tree/path.ts';
import { resolvePath } from '../../tree/resolve.ts';
import type { RafsBlob } from './blob.ts';
import { INDEX_SIZE } from './chunks.ts';
import { type DirectoryLayout, planDirectory } from './dirent.ts';
import { INODE_SIZE, LAYOUT } from './inode.ts';
import {
  alignUp,
  BLOB_ENTRY_SIZE,
  BLOCK,
  CHUNK_ENTRY_SIZE,
  DEVICE_SLOT_SIZE,
  DEVICE_TABLE_OFFSET,
  PREFETCH_ENTRY_SIZE,
} from './layout.ts';
import { MAX_BLOBS } from './limits.ts';
import { Space } from './space.ts';
import { isStorable, xattrSize } from './xattr.ts';

/** One inode and where it goes. Offsets in bytes from the start of the bootstrap. */
export interface PlannedInode {
  readonly node: FileNode;
  /** i_ino: number in breadth-first order, from 1. */
  readonly ino: number;
  /** Where a directory's ".." leads; the root's to itself. */
  readonly parent: PlannedInode | null;
  /** What the names of {@link directory} lead to, in their order. */
  readonly targets: PlannedInode[] | null;
  readonly directory: DirectoryLayout | null;
  /** Those that are written. */
  readonly xattrs: FileNode['xattrs'];
  readonly xattrSize: number;
  nlink: number;
  layout: number;
  offset: number;
  /** Of the whole blocks of a directory or symlink; 0 when there are none. */
  blocksOffset: number;
}

/** A chunk in the chunk info table. */
export interface PlannedChunk {
  readonly chunk: FileChunk;
  readonly blobIndex: number;
  readonly fileOffset: number;
}

export interface Plan {
  /** Breadth-first, every inode once, the root first. */
  readonly inodes: readonly PlannedInode[];
  /** Path names. */
  readonly names: number;
  /** Blobs in order of first use. */
  readonly blobs: readonly RafsBlob[];
  readonly blobIndexes: ReadonlyMap<string, number>;
  /** Sorted by digest; equal chunks of a blob once. */
  readonly chunks: readonly PlannedChunk[];
  /** Those to be fetched first. */
  readonly prefetch: readonly PlannedInode[];
  readonly blobTableOffset: number;
  readonly prefetchTableOffset: number;
  readonly metaOffset: number;
  readonly chunkTableOffset: number;
  /** Whole blocks. */
  readonly size: number;
}

/** Told of an extended attribute that cannot be stored: the name of its file, its own, and its length in bytes. */
export type OnDropped = (dropped: {
  readonly file: ByteString;
  readonly xattr: ByteString;
  readonly size: number;
}) => void;

export interface PlanOptions {
  readonly chunkSize: number;
  readonly prefetch?: readonly ByteString[];
  readonly onDropped?: OnDropped;
}

export function planBootstrap(root: FileNode, blobs: readonly RafsBlob[], options: PlanOptions): Plan {
  const { known, ...walk } = walkTree(root, options.onDropped);
  const used = planChunks(walk.inodes, blobs, options.chunkSize);
  const count = used.blobs.length;
  const prefetch = count === 0 ? [] : planPrefetch(root, options.prefetch ?? [], known);
  const blobTableOffset = alignUp(DEVICE_TABLE_OFFSET + count * DEVICE_SLOT_SIZE, BLOCK);
  // Without blobs the kernel's address 0 of the metadata is the file's, and the root's block is the first free one.
  const prefetchTableOffset = blobTableOffset + count * BLOB_ENTRY_SIZE;
  const metaOffset = count === 0 ? 0 : alignUp(prefetchTableOffset + prefetch.length * PREFETCH_ENTRY_SIZE, BLOCK);
  const space = new Space(metaOffset + BLOCK);
  for (const inode of walk.inodes) place(inode, space);
  const chunkTableOffset = alignUp(space.end, BLOCK);
  return {
    ...walk,
    ...used,
    prefetch,
    blobTableOffset,
    prefetchTableOffset,
    metaOffset,
    chunkTableOffset,
    size: alignUp(chunkTableOffset + used.chunks.length * CHUNK_ENTRY_SIZE, BLOCK),
  };
}

/** The inodes of the paths that are there, each once. */
function planPrefetch(
  root: FileNode,
  paths: readonly ByteString[],
  known: ReadonlyMap<FileNode, PlannedInode>,
): PlannedInode[] {
  const nodes = paths.map(
    (path) => resolvePath(root, path, true, `prefetch of ${JSON.stringify(display(path))}`)?.node,
  );
  return [...new Set(nodes)].flatMap((node) => (node === undefined ? [] : [known.get(node)!]));
}

export const cannot = (what: string): LacunaError => new LacunaError('UNSUPPORTED', what, { op: 'write bootstrap' });
const wrong = (what: string): LacunaError => new LacunaError('INTERNAL', what, { op: 'write bootstrap' });

/** Every inode of a tree once, breadth-first, the root first; nothing has its place yet. */
export function walkTree(
  root: FileNode,
  onDropped: OnDropped = refuse,
): { inodes: PlannedInode[]; names: number; known: ReadonlyMap<FileNode, PlannedInode> } {
  const inodes: PlannedInode[] = [];
  const known = new Map<FileNode, PlannedInode>();
  const add = (node: FileNode, parent: PlannedInode | null, name: ByteString): PlannedInode => {
    const before = known.get(node);
    if (before !== undefined) {
      if (node.type === 'dir') throw wrong(`directory ${JSON.stringify(display(name))} has two names`);
      before.nlink++;
      return before;
    }
    checkNode(node, name);
    const xattrs = storableXattrs(node, name, onDropped);
    if (node.type === 'dir' && parent !== null) parent.nlink++;
    const inode: PlannedInode = {
      node,
      ino: inodes.length + 1,
      parent,
      targets: node.type === 'dir' ? [] : null,
      directory: node.type === 'dir' ? planDirectory(node.children!.keys()) : null,
      xattrs,
      xattrSize: xattrSize(xattrs),
      nlink: node.type === 'dir' ? 2 : 1,
      layout: LAYOUT.PLAIN,
      offset: 0,
      blocksOffset: 0,
    };
    known.set(node, inode);
    inodes.push(inode);
    return inode;
  };
  if (root.type !== 'dir') throw wrong('the root is not a directory');
  add(root, null, '/');
  let names = 1;
  // `inodes` grows while it is walked: that is the breadth-first order.
  for (const inode of inodes) {
    for (const name of inode.directory?.names ?? []) {
      if (name === '.') inode.targets!.push(inode);
      else if (name === '..') inode.targets!.push(inode.parent ?? inode);
      else {
        inode.targets!.push(add(inode.node.children!.get(name)!, inode, name));
        names++;
      }
    }
  }
  return { inodes, names, known };
}

const refuse: OnDropped = ({ file, xattr, size }) => {
  const [name, attribute] = [display(file), display(xattr)].map((text) => JSON.stringify(text));
  throw cannot(`extended attribute ${attribute} of ${name}, ${size} bytes, cannot be stored in EROFS`);
};

/** Layers of other systems carry attributes that no Linux file system has (`com.apple.provenance`). */
function storableXattrs(node: FileNode, file: ByteString, onDropped: OnDropped): FileNode['xattrs'] {
  const dropped = [...(node.xattrs ?? [])].filter(([name, value]) => !isStorable(name, value));
  if (dropped.length === 0) return node.xattrs;
  for (const [xattr, value] of dropped) onDropped({ file, xattr, size: value.length });
  return new Map([...node.xattrs!].filter(([name, value]) => isStorable(name, value)));
}

function checkNode(node: FileNode, name: ByteString): void {
  const of = JSON.stringify(display(name));
  if (node.type === 'dir') {
    for (const child of node.children!.keys()) {
      if (child === '' || child === '.' || child === '..' || child.length > MAX_NAME || /[/\0]/.test(child)) {
        throw wrong(`${JSON.stringify(display(child))} in ${of} is not a name`);
      }
    }
  }
  if (node.type === 'symlink' && (node.target === null || node.target === '' || node.target.length >= MAX_PATH)) {
    throw cannot(`the target of ${of} is empty or longer than ${MAX_PATH - 1} bytes`);
  }
  if (node.rdev !== null && (node.rdev.major > 0xfff || node.rdev.minor > 0xfffff)) {
    throw cannot(`device ${node.rdev.major}:${node.rdev.minor} of ${of} has more than 12 + 20 bits`);
  }
}

function planChunks(
  inodes: readonly PlannedInode[],
  blobs: readonly RafsBlob[],
  chunkSize: number,
): Pick<Plan, 'blobs' | 'blobIndexes' | 'chunks'> {
  const offered = new Map(blobs.map((blob) => [blob.id, blob]));
  const used: RafsBlob[] = [];
  const blobIndexes = new Map<string, number>();
  const chunks: PlannedChunk[] = [];
  /** By blob: a bit for each of its chunks. */
  const seen: Uint8Array[] = [];
  for (const { node } of inodes) {
    if (node.type !== 'reg') continue;
    let fileOffset = 0;
    for (const chunk of node.chunks) {
      let blobIndex = blobIndexes.get(chunk.blob);
      if (blobIndex === undefined) {
        const blob = offered.get(chunk.blob);
        if (blob === undefined) throw wrong(`a chunk lies in blob ${chunk.blob}, which is not given`);
        blobIndex = used.push(blob) - 1;
        seen.push(new Uint8Array(Math.ceil(blob.chunkCount / 8)));
        blobIndexes.set(chunk.blob, blobIndex);
      }
      checkChunk(chunk, used[blobIndex]!, Math.min(chunkSize, node.size - fileOffset));
      const bits = seen[blobIndex]!;
      const bit = 1 << (chunk.index & 7);
      if ((bits[chunk.index >>> 3]! & bit) === 0) chunks.push({ chunk, blobIndex, fileOffset });
      bits[chunk.index >>> 3]! |= bit;
      fileOffset += chunk.uncompressedSize;
    }
    if (fileOffset !== node.size) throw wrong(`the chunks of a file of ${node.size} bytes cover ${fileOffset}`);
  }
  if (used.length > MAX_BLOBS) throw cannot(`${used.length} blobs; a RAFS v6 image has at most ${MAX_BLOBS}`);
  return { blobs: used, blobIndexes, chunks: sortedByDigest(chunks) };
}

function sortedByDigest(chunks: readonly PlannedChunk[]): PlannedChunk[] {
  // Nearly always the first 48 bits decide, and numbers compare ten times faster than buffers.
  const keys = Float64Array.from(chunks, ({ chunk }) => chunk.digest.readUIntBE(0, 6));
  const order = Uint32Array.from(chunks.keys());
  order.sort((a, b) => keys[a]! - keys[b]! || byDigest(chunks[a]!, chunks[b]!));
  return Array.from(order, (i) => chunks[i]!);
}

function byDigest(a: PlannedChunk, b: PlannedChunk): number {
  return a.chunk.digest.compare(b.chunk.digest) || a.blobIndex - b.blobIndex || a.chunk.index - b.chunk.index;
}

function checkChunk(chunk: FileChunk, blob: RafsBlob, size: number): void {
  const { uncompressedOffset: offset, uncompressedSize } = chunk;
  if (uncompressedSize !== size || size <= 0) throw wrong(`a chunk of ${uncompressedSize} bytes where ${size} belong`);
  if (offset % BLOCK !== 0 || offset + size > blob.uncompressedSize || chunk.index >= blob.chunkCount) {
    throw wrong(`chunk ${chunk.index} at ${offset} is not a chunk of blob ${blob.id}`);
  }
}

/** Gives an inode its place: data that follows it inline must stay in its block, whole blocks go elsewhere. */
function place(inode: PlannedInode, space: Space): void {
  const { node } = inode;
  if (node.type !== 'reg') {
    placeInline(inode, space);
    return;
  }
  inode.layout = LAYOUT.CHUNK_BASED;
  inode.offset = space.take(alignUp(INODE_SIZE + inode.xattrSize, INDEX_SIZE) + node.chunks.length * INDEX_SIZE);
}

/** Gives a place to an inode that is no regular file. */
export function placeInline(inode: PlannedInode, space: Space): void {
  const head = INODE_SIZE + inode.xattrSize;
  const size = dataSize(inode);
  const tail = size % BLOCK;
  if (tail !== 0 && head + tail <= BLOCK) {
    inode.layout = LAYOUT.INLINE;
    inode.offset = space.takeWithinBlock(head + tail);
  } else {
    inode.layout = LAYOUT.PLAIN;
    inode.offset = space.take(head);
  }
  const blocks = inode.layout === LAYOUT.INLINE ? Math.floor(size / BLOCK) : Math.ceil(size / BLOCK);
  if (blocks > 0) inode.blocksOffset = space.takeBlocks(blocks);
}

/** i_size of what is not a regular file. */
export const dataSize = ({ node, directory }: PlannedInode): number => directory?.size ?? node.target?.length ?? 0;
