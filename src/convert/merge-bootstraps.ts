/**
 * Bare bootstraps, one per layer → the one bootstrap of them all, as `nydus-image merge` makes it: whiteouts take away
 * what is below them, and the blobs stay where they are.
 */
import { LacunaError } from '../errors.ts';
import { COMPRESSION_FLAG, HASH_FLAG } from '../formats/rafs/layout.ts';
import type { RafsImage } from '../formats/rafs/open.ts';
import type { OnDropped } from '../formats/rafs/plan.ts';
import { type BuiltBootstrap, buildBootstrap } from '../formats/rafs/write.ts';
import type { Compressor, Digester } from '../native/addon.ts';
import { openImage } from '../reader/open.ts';
import { type DirectoryMarks, implicitDirectory, type LayerTree, OPAQUE } from '../tree/layer.ts';
import { type ByteString, type FileNode, fromText } from '../tree/node.ts';
import { overlay } from '../tree/overlay.ts';
import { WHITEOUT } from '../tree/path.ts';

/** Options of {@link mergeBootstraps}. */
export interface MergeOptions {
  /** Paths that a reader fetches first, in this order; `/` = everything. */
  readonly prefetch?: readonly string[];
  /** Bytes, a power of two: where each blob's device begins in the flat address space. Default 512 KiB. */
  readonly align?: number;
  /** Called for each extended attribute that EROFS cannot store. */
  readonly onDropped?: OnDropped;
}

/**
 * Merges bootstraps (`rafs:FILE[,blobs=DIR]`), lowest first. UNSUPPORTED when their chunk sizes differ, or for more blobs
 * than a RAFS v6 image can have; NOT_FOUND for the chunk info of a blob whose chunks cannot be told without it.
 */
export async function mergeBootstraps(
  references: readonly string[],
  options: MergeOptions = {},
): Promise<BuiltBootstrap> {
  const images: RafsImage[] = [];
  for (const reference of references) {
    await using opened = await openImage(reference);
    if (opened.rafs === null) {
      throw new LacunaError('USAGE', 'not a RAFS bootstrap', { op: 'merge', subject: reference });
    }
    images.push(opened.rafs);
  }
  return mergeImages(images, references, options);
}

function mergeImages(
  images: readonly RafsImage[],
  subjects: readonly string[],
  { prefetch, ...options }: MergeOptions,
): BuiltBootstrap {
  const [first] = images;
  if (first === undefined) throw new LacunaError('USAGE', 'nothing to merge', { op: 'merge' });
  const { chunkSize, flags } = first.superblock;
  for (const [i, { superblock }] of images.entries()) {
    if (superblock.chunkSize === chunkSize) continue;
    throw new LacunaError(
      'UNSUPPORTED',
      `its chunk size is ${superblock.chunkSize}, that of the layers below it ${chunkSize}`,
      {
        op: 'merge',
        subject: subjects[i]!,
        hint: 'build all layers with the same chunk size',
      },
    );
  }
  const root = overlay(images.map(layerOf), 'merge');
  const blobs = [...new Map(images.flatMap((image) => image.blobs.map((blob) => [blob.id, blob]))).values()];
  return buildBootstrap(root, blobs, {
    chunkSize,
    compressor: numberOf(COMPRESSION_FLAG, flags) as Compressor,
    digester: numberOf(HASH_FLAG, flags) as Digester,
    ...options,
    ...(prefetch === undefined ? {} : { prefetch: prefetch.map(fromText) }),
  });
}

const numberOf = (table: Readonly<Record<number, number>>, flags: number): number =>
  Number(Object.keys(table).find((number) => (flags & table[Number(number)]!) !== 0));

/** A layer's tree as its bootstrap has it: whiteouts are files there (`--whiteout-spec none`). */
function layerOf(image: RafsImage): LayerTree {
  const marks = new Map<FileNode, DirectoryMarks>();
  const root = copyDirectory(image.root());
  const todo: Array<readonly [from: FileNode, into: FileNode]> = [[image.root(), root]];
  // Grows while it is walked.
  for (const [from, into] of todo) {
    for (const [name, child] of from.children!) {
      if (name.startsWith(WHITEOUT)) {
        mark(marks, into, name);
        continue;
      }
      const node = child.type === 'dir' ? copyDirectory(child) : child;
      into.children!.set(name, node);
      if (child.type === 'dir') todo.push([child, node]);
    }
  }
  return { root, marks, links: new Map() };
}

function copyDirectory({ mode, uid, gid, mtime, xattrs }: FileNode): FileNode {
  return { ...implicitDirectory(), mode, uid, gid, mtime, xattrs };
}

function mark(marks: Map<FileNode, DirectoryMarks>, directory: FileNode, name: ByteString): void {
  const before = marks.get(directory) ?? { implicit: false, opaque: false, whiteouts: null };
  marks.set(directory, before);
  if (name === OPAQUE) before.opaque = true;
  // Other names that begin with two of the prefixes are AUFS's own files: no content, and nothing hidden.
  else if (!name.startsWith(WHITEOUT + WHITEOUT)) {
    before.whiteouts ??= new Set();
    before.whiteouts.add(name.slice(WHITEOUT.length));
  }
}
