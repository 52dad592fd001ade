/** The interface of opened images, ordinary and lazy. `open.ts` opens them. */
import { LacunaError } from '../errors.ts';
import type { RafsImage } from '../formats/rafs/open.ts';
import { isDigest } from '../image/digest.ts';
import { ANNOTATION } from '../image/media.ts';
import type { OnProgress } from '../observe/progress.ts';
import type { StoreOptions } from '../registry/store.ts';
import { byteString, bytesOf, display, type FileNode, fromText } from '../tree/node.ts';
import { resolvePath } from '../tree/resolve.ts';
import type { ChosenManifest } from './select-manifest.ts';

/** Options of everything that opens an image. */
export interface OpenImageOptions {
  /** `os/architecture[/variant]`; default: this machine's, on Linux. */
  readonly platform?: string;
  /** How the registry is reached. */
  readonly store?: StoreOptions;
  /** Whether a lazy image that refers to this one is used; default: unless the reference names a digest. */
  readonly referrers?: boolean;
  /** Aborts the call, or the iteration. */
  readonly signal?: AbortSignal;
  /** Phase `read`, in bytes of each layer, while the layers of an ordinary image are read. */
  readonly onProgress?: OnProgress;
  /** Hash every file while the layers of an ordinary image are read: without it each digest reads its layer again. */
  readonly digests?: boolean;
}

/** Options of reading one file. */
export interface ReadFileOptions {
  /** Bytes; default 0 and to the end. */
  readonly offset?: number;
  /** Number of bytes. Default: up to the end. */
  readonly length?: number;
  /** Aborts the read. */
  readonly signal?: AbortSignal;
}

/** Options of computing digests of files. */
export interface DigestsOptions {
  /** Aborts the work. */
  readonly signal?: AbortSignal;
  /** Phase `hash`, in bytes of the files' content. */
  readonly onProgress?: OnProgress;
}

/** The next bytes of a file. */
export interface FilePiece {
  /** The file that the bytes belong to. */
  readonly node: FileNode;
  /** The next bytes of the file. */
  readonly data: Buffer;
}

/** A resolved path of an image. */
export interface ResolvedPath {
  /** Real, absolute, without links: as text, bytes that are not UTF-8 as U+FFFD, and as it is. */
  readonly path: string;
  /** The bytes of the path. */
  readonly pathBytes: Buffer;
  /** The inode at the path. */
  readonly node: FileNode;
}

/** A layer of the image that a path comes from. */
export interface LayerOrigin {
  /** Among the layers of the manifest, from 0. */
  readonly index: number;
  /** Of the layer as the manifest has it: a tar, or a blob of a lazy image. */
  readonly digest: string;
  /** Digest of the ordinary layer that a blob was made of, where the image says so. */
  readonly source: string | null;
}

/** An image whose tree is known. Close it, or let `await using` do it. */
export interface OpenedImage extends AsyncDisposable {
  /** The reference of the image, for messages. */
  readonly subject: string;
  /** The root directory of the merged tree. */
  readonly root: FileNode;
  /** Null for bare files (`rafs:`). */
  readonly manifest: ChosenManifest | null;
  /** Of a lazy image; null for an ordinary one. */
  readonly rafs: RafsImage | null;
  /**
   * Resolves `path` (text; bytes that are not UTF-8 as a Buffer). Symlinks are followed inside the image, one that is the
   * last component unless `follow` is false. Null when there is none.
   */
  resolve(path: string | Uint8Array, options?: { readonly follow?: boolean }): ResolvedPath | null;
  /**
   * The layer of a path from {@link resolve}. An ordinary image has it for every path with an entry in a layer;
   * a lazy one only of files with content: of those whose chunks lie in several blobs, the highest. Null otherwise.
   */
  layerOf(found: ResolvedPath): LayerOrigin | null;
  /** Content of a regular file as it arrives, verified. USAGE for anything that has none. */
  read(node: FileNode, options?: ReadFileOptions): AsyncIterable<Buffer>;
  /**
   * The content of many regular files, each once, whole and verified, one after the other in the order that costs least:
   * that of the blobs or layers, the same at every call. An empty file gives no piece.
   */
  contents(nodes: Iterable<FileNode>, options?: { readonly signal?: AbortSignal }): AsyncIterable<FilePiece>;
  /** Hex sha256 of a regular file's content. */
  digest(node: FileNode, options?: { readonly signal?: AbortSignal }): Promise<string>;
  /** The same of many files, each read once, in the order that costs least and in few requests. */
  digests(nodes: Iterable<FileNode>, options?: DigestsOptions): Promise<ReadonlyMap<FileNode, string>>;
  /** Releases what the image holds; the same as disposing of it. */
  close(): Promise<void>;
}

/** {@link OpenedImage.resolve} in a tree. */
export function resolveIn(
  root: FileNode,
  path: string | Uint8Array,
  options: { readonly follow?: boolean },
  subject: string,
): ResolvedPath | null {
  const bytes = typeof path === 'string' ? fromText(path) : byteString(path);
  const found = resolvePath(root, bytes, options.follow ?? true, subject);
  return found === null ? null : { path: display(found.path), pathBytes: bytesOf(found.path), node: found.node };
}

/** Layer `index` of a manifest. */
export function originIn({ manifest }: ChosenManifest, index: number): LayerOrigin {
  const { digest, annotations } = manifest.layers[index]!;
  const source = annotations?.[ANNOTATION.nydusRef];
  return { index, digest, source: source !== undefined && isDigest(source) ? source : null };
}

/** The range that `options` mean in a file, checked. */
export function rangeIn(node: FileNode, options: ReadFileOptions): { offset: number; length: number } {
  if (node.type !== 'reg') throw new LacunaError('USAGE', `a ${node.type} has no content`, { op: 'read' });
  const offset = options.offset ?? 0;
  const length = Math.min(options.length ?? node.size, node.size - offset);
  if (
    !Number.isSafeInteger(offset) ||
    offset < 0 ||
    !Number.isSafeInteger(length) ||
    offset > node.size ||
    length < 0
  ) {
    throw new LacunaError('USAGE', `the range does not lie in a file of ${node.size} bytes`, { op: 'read' });
  }
  return { offset, length };
}
