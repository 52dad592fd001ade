/** A lazy image: its tree out of the bootstrap, its content out of the blobs. */
import { createHash } from 'node:crypto';
import { dirname, join } from 'node:path';
import { type BlobSource, fileSource, readRange, storeSource } from '../blob/source.ts';
import { type MetaSources, readMetasThere } from '../cache/blob-metas.ts';
import { metasBeside, sizedMeta } from '../cache/metas-beside.ts';
import { needsMeta } from '../formats/rafs/blob.ts';
import { FEATURE } from '../formats/rafs/layout.ts';
import { openBootstrap, type RafsImage } from '../formats/rafs/open.ts';
import type { Descriptor } from '../image/manifest.ts';
import { ANNOTATION } from '../image/media.ts';
import type { RafsReference } from '../image/reference.ts';
import { type Codec, codec } from '../native/codec.ts';
import type { OpenedSource } from '../registry/source.ts';
import type { ImageStore, SignalOptions } from '../registry/store.ts';
import type { FileNode } from '../tree/node.ts';
import { type BootstrapOptions, readBootstrapLayer } from './bootstrap.ts';
import { type ContentReader, readChunks, type SourceOf } from './content.ts';
import { hashFiles } from './hash-files.ts';
import {
  type DigestsOptions,
  type FilePiece,
  type LayerOrigin,
  type OpenedImage,
  originIn,
  type ReadFileOptions,
  type ResolvedPath,
  rangeIn,
  resolveIn,
} from './image.ts';
import { progressOf } from './progress.ts';
import { readRafsFile } from './rafs-files.ts';
import { readFiles } from './read-files.ts';
import type { ChosenManifest } from './select-manifest.ts';
import { UnitCache } from './units.ts';
import { wholeBlobSource } from './whole-blob.ts';

const NEVER = new AbortController().signal;

/** Opens a lazy image of a store, which then belongs to it. */
export async function openLazy(
  source: OpenedSource,
  manifest: ChosenManifest,
  layer: Descriptor,
  options: BootstrapOptions,
): Promise<OpenedImage> {
  const { store } = source;
  const { rafs, sourceOf } = await openStored(store, manifest.manifest.layers, layer, options);
  return new LazyImage(store.subject, rafs, sourceOf, manifest, () => source[Symbol.asyncDispose]());
}

type Sized = Pick<Descriptor, 'digest' | 'size'>;

/** The bootstrap in `layer`, with the chunk info that its blobs need, and where these are. */
export async function openStored(
  store: ImageStore,
  layers: readonly Sized[],
  layer: Descriptor,
  options: BootstrapOptions,
): Promise<{ rafs: RafsImage; sourceOf: SourceOf }> {
  const read = await readBootstrapLayer(store, layer, options);
  const sizes = sizesOf(openBootstrap(read.bootstrap, { subject: store.subject }), layers);
  const sourceOf = (id: string) => storeSource(store, id, sizes.get(id)!);
  const kept = async (id: string, size: number) => sizedMeta(read.metas, id, size);
  const { subject } = store;
  const metas = { kept, fetch: metaFetch(sourceOf, options.signal ?? NEVER), subject };
  const rafs = await withMetas(read.bootstrap, { subject }, metas);
  return { rafs, sourceOf };
}

/** Bytes of every blob, and of every file of chunk info, by its id. */
function sizesOf(rafs: RafsImage, layers: readonly Sized[]): Map<string, number> {
  const sizes = new Map(rafs.blobs.map(({ id, compressedSize }) => [id, compressedSize]));
  for (const { metaDigest, metaSize } of rafs.blobs) {
    if (metaDigest !== null) sizes.set(metaDigest.toString('hex'), metaSize);
  }
  // The manifest knows the whole blob; the blob table may stop before metadata at its end.
  for (const { digest, size } of layers) sizes.set(digest.replace(/^sha256:/, ''), size);
  return sizes;
}

/** Opens bare files: a bootstrap, and a folder of blobs named by their ids (default: where the bootstrap is). */
export async function openRafsFiles(reference: RafsReference, subject: string): Promise<OpenedImage> {
  const file = await readRafsFile(reference.bootstrap, codec(), NEVER);
  const folder = reference.blobs ?? dirname(reference.bootstrap);
  const isSelf = (id: string) => file.isBlob && id === file.blobId;
  const sourceOf = (id: string) =>
    isSelf(id) ? fileSource(reference.bootstrap) : fileSource(join(folder, id), folder);
  const blobId = file.blobId === null ? {} : { blobId: file.blobId };
  const beside = metasBeside(folder);
  const kept = async (id: string, size: number) => sizedMeta(file.metas, id, size) ?? (await beside(id, size));
  const metas = { kept, fetch: metaFetch(sourceOf, NEVER), subject };
  const rafs = await withMetas(file.bootstrap, { subject, ...blobId }, metas);
  return new LazyImage(subject, rafs, sourceOf, null, async () => {});
}

/** Opens a bootstrap with the chunk info that its blobs need. */
async function withMetas(
  bootstrap: Buffer,
  options: { readonly subject: string; readonly blobId?: string },
  sources: MetaSources,
): Promise<RafsImage> {
  const rafs = openBootstrap(bootstrap, options);
  if (!rafs.blobs.some(needsMeta)) return rafs;
  const metas = await readMetasThere(rafs.blobs, sources, codec());
  return openBootstrap(bootstrap, { ...options, metas });
}

/** Each blob has one source here, asked once. */
function metaFetch(sourceOf: SourceOf, signal: AbortSignal): MetaSources['fetch'] {
  const fetched = new Set<string>();
  return async ({ id, offset, size }) => {
    if (fetched.has(id)) return null;
    fetched.add(id);
    const source = sourceOf(id);
    return { stored: await readRange(source, offset, size, signal), subject: source.subject };
  };
}

class LazyImage implements OpenedImage {
  readonly subject: string;
  readonly root: FileNode;
  readonly manifest: ChosenManifest | null;
  readonly rafs: RafsImage;
  readonly #content: ContentReader;
  readonly #release: () => PromiseLike<void>;

  constructor(
    subject: string,
    rafs: RafsImage,
    sourceOf: (id: string) => BlobSource,
    manifest: ChosenManifest | null,
    release: () => PromiseLike<void>,
  ) {
    this.subject = subject;
    this.rafs = rafs;
    this.root = rafs.root();
    this.manifest = manifest;
    const decoder: Codec = codec();
    this.#content = { sourceOf: verifying(rafs, sourceOf), codec: decoder, units: new UnitCache(decoder) };
    this.#release = release;
  }

  resolve(path: string | Uint8Array, options: { readonly follow?: boolean } = {}): ResolvedPath | null {
    return resolveIn(this.root, path, options, this.subject);
  }

  layerOf({ node }: ResolvedPath): LayerOrigin | null {
    if (this.manifest === null) return null;
    const blobs = new Set(node.chunks.map(({ blob }) => `sha256:${blob}`));
    const index = this.manifest.manifest.layers.findLastIndex(
      ({ digest, annotations }) => blobs.has(digest) || blobs.has(annotations?.[ANNOTATION.nydusRef] ?? ''),
    );
    return index < 0 ? null : originIn(this.manifest, index);
  }

  read(node: FileNode, options: ReadFileOptions = {}): AsyncIterable<Buffer> {
    const { offset, length } = rangeIn(node, options);
    const signal = options.signal ?? NEVER;
    return readChunks(node.chunks, offset, length, this.#content, signal);
  }

  contents(nodes: Iterable<FileNode>, options: SignalOptions = {}): AsyncIterable<FilePiece> {
    const signal = options.signal ?? NEVER;
    return readFiles(nodes, (chunks, length) => readChunks(chunks, 0, length, this.#content, signal));
  }

  async digest(node: FileNode, options: SignalOptions = {}): Promise<string> {
    const hash = createHash('sha256');
    for await (const piece of this.read(node, options)) hash.update(piece);
    return hash.digest('hex');
  }

  async digests(nodes: Iterable<FileNode>, options: DigestsOptions = {}): Promise<ReadonlyMap<FileNode, string>> {
    const files = [...nodes];
    const total = files.reduce((sum, { size }) => sum + size, 0);
    const onHashed = progressOf(options.onProgress, { phase: 'hash', subject: this.subject, total, unit: 'bytes' });
    const blobs = this.rafs.blobs.map(({ id }) => id);
    return await hashFiles(files, blobs, this.#content, { signal: options.signal ?? NEVER, onHashed });
  }

  async close(): Promise<void> {
    await this.#release();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Blobs whose chunks have no digests are verified as a whole, and only then read. */
function verifying(rafs: RafsImage, sourceOf: SourceOf): SourceOf {
  const whole = new Map<string, BlobSource>();
  for (const { id, features, compressedSize } of rafs.blobs) {
    if ((features & FEATURE.TARFS) !== 0) whole.set(id, wholeBlobSource(sourceOf(id), id, compressedSize));
  }
  return (id) => whole.get(id) ?? sourceOf(id);
}
