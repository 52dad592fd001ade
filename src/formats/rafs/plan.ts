/** Plans a bootstrap: assigns an offset to every inode, directory block, chunk and table. Nothing is written. */
import { LacunaError } from '../../errors.ts';
import { type ByteString, display, type FileChunk, type FileNode } from '../../tree/node.ts';
import { MAX_NAME, MAX_PATH } from '../../tree/path.ts';
import { resolvePath } from '../../tree/resolve.ts';
import type { RafsBlob } from './blob.ts';
import { BLOB_ENTRY_SIZE } from './blob-entry.ts';
import { CHUNK_ENTRY_SIZE } from './chunk-entry.ts';
import { INDEX_SIZE } from './chunk-index.ts';
import { SeenChunks } from './chunktable-writer.ts';
import { deviceSlotAt } from './device-slot.ts';
import { planDirectory } from './dirent.ts';
import { INODE_SIZE, LAYOUT } from './inode.ts';
import { Inodes, type PlannedDirectory } from './inodes.ts';
import { alignUp, BLOCK, PREFETCH_ENTRY_SIZE } from './layout.ts';
import { MAX_BLOBS, MAX_BOOTSTRAP_SIZE } from './limits.ts';
import { Space } from './space.ts';
import { isStorable } from './xattr.ts';

export interface Plan {
  readonly inodes: Inodes;
  /** Blobs in order of first use. */
  readonly blobs: readonly RafsBlob[];
  readonly blobIndexes: ReadonlyMap<string, number>;
  /** Number of entries of the chunk table: distinct chunks of files. */
  readonly chunkCount: number;
  /** Numbers of the inodes to prefetch. */
  readonly prefetch: readonly number[];
  readonly blobTableOffset: number;
  readonly prefetchTableOffset: number;
  readonly metaOffset: number;
  readonly chunkTableOffset: number;
  /** Whole blocks. */
  readonly size: number;
}

/** Called for an extended attribute that cannot be stored, with the names of file and attribute, and its length in bytes. */
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
  const { inodes, numbers } = walkTree(root, options.onDropped);
  const used = planChunks(inodes, blobs, options.chunkSize);
  const count = used.blobs.length;
  const prefetch = count === 0 ? [] : planPrefetch(root, options.prefetch ?? [], numbers);
  const blobTableOffset = alignUp(deviceSlotAt(count), BLOCK);
  // Without blobs, metadata starts at address 0 of the file, and the root is in the first free block.
  const prefetchTableOffset = blobTableOffset + count * BLOB_ENTRY_SIZE;
  const metaOffset = count === 0 ? 0 : alignUp(prefetchTableOffset + prefetch.length * PREFETCH_ENTRY_SIZE, BLOCK);
  const space = new Space(metaOffset + BLOCK);
  for (let number = 0; number < inodes.count; number++) place(inodes, number, space);
  const chunkTableOffset = alignUp(space.end, BLOCK);
  return {
    inodes,
    ...used,
    prefetch,
    blobTableOffset,
    prefetchTableOffset,
    metaOffset,
    chunkTableOffset,
    size: alignUp(chunkTableOffset + used.chunkCount * CHUNK_ENTRY_SIZE, BLOCK),
  };
}

/** The distinct inodes of those paths that exist. */
function planPrefetch(root: FileNode, paths: readonly ByteString[], numbers: ReadonlyMap<FileNode, number>): number[] {
  const nodes = paths.map(
    (path) => resolvePath(root, path, true, `prefetch of ${JSON.stringify(display(path))}`)?.node,
  );
  return [...new Set(nodes)].flatMap((node) => (node === undefined ? [] : [numbers.get(node)!]));
}

export const cannot = (what: string): LacunaError => new LacunaError('UNSUPPORTED', what, { op: 'write bootstrap' });
const wrong = (what: string): LacunaError => new LacunaError('INTERNAL', what, { op: 'write bootstrap' });

/** Every inode of a tree once, breadth-first from the root, without offsets. `numbers`: inode number of each node. */
export function walkTree(
  root: FileNode,
  onDropped: OnDropped = refuse,
): { inodes: Inodes; numbers: ReadonlyMap<FileNode, number> } {
  const nodes: FileNode[] = [];
  const numbers = new Map<FileNode, number>();
  const directories = new Map<number, PlannedDirectory>();
  const xattrs = new Map<number, NonNullable<FileNode['xattrs']>>();
  /** Inode number of the parent of each directory. */
  const parents = new Map<number, number>();
  const add = (node: FileNode, parent: number, name: ByteString): number => {
    const before = numbers.get(node);
    if (before !== undefined) {
      if (node.type === 'dir') throw wrong(`directory ${JSON.stringify(display(name))} has two names`);
      return before;
    }
    checkNode(node, name);
    const number = nodes.push(node) - 1;
    numbers.set(node, number);
    const stored = storableXattrs(node, name, onDropped);
    if (stored !== null && stored.size > 0) xattrs.set(number, stored);
    if (node.type === 'dir') parents.set(number, parent);
    return number;
  };
  if (root.type !== 'dir') throw wrong('the root is not a directory');
  add(root, 0, '/');
  // The loop adds children to `nodes` while it walks it, which gives breadth-first order.
  for (const [number, { children }] of nodes.entries()) {
    if (children === null) continue;
    const layout = planDirectory(children.keys());
    const targets = Uint32Array.from(layout.names, (name) => {
      if (name === '.') return number;
      return name === '..' ? parents.get(number)! : add(children.get(name)!, number, name);
    });
    directories.set(number, { layout, targets });
  }
  return { inodes: new Inodes({ nodes, directories, xattrs }), numbers };
}

const refuse: OnDropped = ({ file, xattr, size }) => {
  const [name, attribute] = [display(file), display(xattr)].map((text) => JSON.stringify(text));
  throw cannot(`extended attribute ${attribute} of ${name}, ${size} bytes, cannot be stored in EROFS`);
};

/** Checks an attribute. Layers of other systems have attributes that no Linux file system stores (`com.apple.provenance`). */
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
  { nodes }: Inodes,
  blobs: readonly RafsBlob[],
  chunkSize: number,
): Pick<Plan, 'blobs' | 'blobIndexes' | 'chunkCount'> {
  const offered = new Map(blobs.map((blob) => [blob.id, blob]));
  const used: RafsBlob[] = [];
  const blobIndexes = new Map<string, number>();
  const seen = new SeenChunks();
  let chunkCount = 0;
  let indexes = 0;
  for (const node of nodes) {
    if (node.type !== 'reg') continue;
    let fileOffset = 0;
    const { chunks } = node;
    indexes += chunks.length;
    if (indexes * INDEX_SIZE > MAX_BOOTSTRAP_SIZE)
      throw cannot('the files have too many chunks; choose a larger chunk size');
    for (const chunk of chunks) {
      let blobIndex = blobIndexes.get(chunk.blob);
      if (blobIndex === undefined) {
        const blob = offered.get(chunk.blob);
        if (blob === undefined)
          throw wrong(`a chunk lies in blob ${chunk.blob}, which is missing from the list of blobs`);
        blobIndex = used.push(blob) - 1;
        seen.addBlob(blob);
        blobIndexes.set(chunk.blob, blobIndex);
      }
      checkChunk(chunk, used[blobIndex]!, Math.min(chunkSize, node.size - fileOffset));
      if (seen.add(blobIndex, chunk.index)) chunkCount++;
      fileOffset += chunk.uncompressedSize;
    }
    if (fileOffset !== node.size) throw wrong(`the chunks of a file of ${node.size} bytes cover ${fileOffset}`);
  }
  if (used.length > MAX_BLOBS)
    throw cannot(`${used.length} blobs exceed the maximum of ${MAX_BLOBS} in a RAFS v6 image`);
  return { blobs: used, blobIndexes, chunkCount };
}

function checkChunk(chunk: FileChunk, blob: RafsBlob, size: number): void {
  const { uncompressedOffset: offset, uncompressedSize } = chunk;
  if (uncompressedSize !== size || size <= 0) throw wrong(`a chunk has ${uncompressedSize} bytes, not ${size}`);
  if (offset % BLOCK !== 0 || offset + size > blob.uncompressedSize || chunk.index >= blob.chunkCount) {
    throw wrong(`chunk ${chunk.index} at ${offset} is not a chunk of blob ${blob.id}`);
  }
}

/** Assigns an offset to an inode. */
function place(inodes: Inodes, number: number, space: Space): void {
  const node = inodes.nodes[number]!;
  if (node.type !== 'reg') placeInline(inodes, number, space);
  else placeIndexed(inodes, number, space);
}

/** Assigns an offset to a regular file, with an index for each of its chunks. */
export function placeIndexed(inodes: Inodes, number: number, space: Space): void {
  const head = alignUp(INODE_SIZE + inodes.xattrSize(number), INDEX_SIZE);
  const offset = space.take(head + inodes.nodes[number]!.chunks.length * INDEX_SIZE);
  inodes.put(number, LAYOUT.CHUNK_BASED, offset);
}

/** Assigns an offset to any other inode. Inline data must stay in the block of the inode; whole blocks are separate. */
export function placeInline(inodes: Inodes, number: number, space: Space): void {
  const head = INODE_SIZE + inodes.xattrSize(number);
  const size = inodes.size(number);
  const tail = size % BLOCK;
  const isInline = tail !== 0 && head + tail <= BLOCK;
  if (isInline) inodes.put(number, LAYOUT.INLINE, space.takeWithinBlock(head + tail));
  else inodes.put(number, LAYOUT.PLAIN, space.take(head));
  const blocks = isInline ? Math.floor(size / BLOCK) : Math.ceil(size / BLOCK);
  if (blocks > 0) inodes.blockOffsets.set(number, space.takeBlocks(blocks));
}
