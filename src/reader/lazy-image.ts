/** A lazy image: its tree out of the bootstrap, its content out of the blobs. */
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type BlobSource, fileSource, storeSource } from '../blob/source.ts';
import { FormatError, toLacunaError } from '../errors.ts';
import { openBootstrap, type RafsImage } from '../formats/rafs/open.ts';
import type { Descriptor } from '../image/manifest.ts';
import type { RafsReference } from '../image/reference.ts';
import { type Codec, codec } from '../native/codec.ts';
import type { ImageStore, SignalOptions } from '../registry/store.ts';
import type { FileNode } from '../tree/node.ts';
import { MAX_BOOTSTRAP_SIZE, readBootstrap } from './bootstrap.ts';
import type { ChosenManifest } from './choose.ts';
import { readChunks } from './content.ts';
import { type OpenedImage, type ReadFileOptions, rangeIn } from './image.ts';

/** Opens a lazy image of a store, which then belongs to it. */
export async function openLazy(
  store: ImageStore,
  manifest: ChosenManifest,
  layer: Descriptor,
  options: SignalOptions,
): Promise<OpenedImage> {
  const rafs = openBootstrap(await readBootstrap(store, layer, options), { subject: store.subject });
  const sizes = new Map(rafs.blobs.map(({ id, compressedSize }) => [id, compressedSize]));
  // The manifest knows the whole blob; the blob table may stop before metadata at its end.
  for (const { digest, size } of manifest.manifest.layers) sizes.set(digest.replace(/^sha256:/, ''), size);
  const sourceOf = (id: string) => storeSource(store, id, sizes.get(id)!);
  return new LazyImage(store.subject, rafs, sourceOf, manifest, () => store[Symbol.asyncDispose]());
}

/** Opens bare files: a bootstrap, and a folder of blobs named by their ids (default: where the bootstrap is). */
export async function openRafsFiles(reference: RafsReference, subject: string): Promise<OpenedImage> {
  const bytes = await readBootstrapFile(reference.bootstrap);
  const blobs = reference.blobs ?? dirname(reference.bootstrap);
  // A bootstrap taken out of its own blob cannot name it; by Nydus's custom its file is called ID or ID.boot.
  const stem = basename(reference.bootstrap).replace(/\.boot$/, '');
  const rafs = openBootstrap(bytes, { subject, ...(/^[0-9a-f]{64}$/.test(stem) ? { blobId: stem } : {}) });
  return new LazyImage(
    subject,
    rafs,
    (id) => fileSource(join(blobs, id)),
    null,
    async () => {},
  );
}

async function readBootstrapFile(path: string): Promise<Buffer> {
  try {
    const { size } = await stat(path);
    if (size > MAX_BOOTSTRAP_SIZE) throw new FormatError('bootstrap', `${size} bytes are too many`, { subject: path });
    return await readFile(path);
  } catch (cause) {
    throw toLacunaError(cause, { op: 'open', subject: path });
  }
}

class LazyImage implements OpenedImage {
  readonly subject: string;
  readonly root: FileNode;
  readonly manifest: ChosenManifest | null;
  readonly rafs: RafsImage;
  readonly #sourceOf: (id: string) => BlobSource;
  readonly #codec: Codec = codec();
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
    this.#sourceOf = sourceOf;
    this.#release = release;
  }

  read(node: FileNode, options: ReadFileOptions = {}): AsyncIterable<Buffer> {
    const { offset, length } = rangeIn(node, options);
    const signal = options.signal ?? new AbortController().signal;
    return readChunks(node.chunks, offset, length, this.#sourceOf, this.#codec, signal);
  }

  async digest(node: FileNode, options: SignalOptions = {}): Promise<string> {
    const hash = createHash('sha256');
    for await (const piece of this.read(node, options)) hash.update(piece);
    return hash.digest('hex');
  }

  async close(): Promise<void> {
    await this.#release();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
