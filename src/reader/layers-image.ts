/** An ordinary image: its tree out of all its layers, which are read once; content by reading its layer again. */
import { createHash, type Hash } from 'node:crypto';
import { LacunaError } from '../errors.ts';
import type { OpenedSource } from '../registry/source.ts';
import type { ImageStore, SignalOptions } from '../registry/store.ts';
import { TreeBudget } from '../tree/budget.ts';
import { LayerBuilder, type LayerTree } from '../tree/layer.ts';
import { byteString, type FileNode } from '../tree/node.ts';
import { overlay } from '../tree/overlay.ts';
import { type TarEntry, type TarHandler, ZEROS } from '../tree/tar.ts';
import {
  type DigestsOptions,
  type FilePiece,
  type LayerOrigin,
  type OpenedImage,
  type OpenImageOptions,
  originIn,
  type ReadFileOptions,
  type ResolvedPath,
  rangeIn,
  resolveIn,
} from './image.ts';
import { LayerOrigins } from './layer-origins.ts';
import { parseLayerSteps, parseLayerTar } from './layer-stream.ts';
import { progressOf, reportingStore } from './progress.ts';
import type { ChosenManifest } from './select-manifest.ts';

/** Where a file's content is: the entry's number among all of its layer. */
interface Place {
  readonly layer: number;
  readonly entry: number;
}

/** Opens an ordinary image of a store, which then belongs to it. */
export async function openLayers(
  source: OpenedSource,
  chosen: ChosenManifest,
  options: OpenImageOptions,
): Promise<OpenedImage> {
  const { store } = source;
  const layers: LayerTree[] = [];
  const places = new Map<FileNode, Place>();
  const digests = new Map<FileNode, string>();
  const budget = new TreeBudget();
  for (const [i, layer] of chosen.manifest.layers.entries()) {
    const builder = new LayerBuilder(layer.digest, budget);
    const collector = new LayerCollector(i, builder, places, options.digests === true ? digests : null);
    await parseLayerTar(reportingStore(store, 'read', options.onProgress), layer, collector, options);
    layers.push(collector.finish());
  }
  return new LayersImage(source, chosen, overlay(layers, store.subject), {
    places,
    digests,
    origins: new LayerOrigins(layers),
  });
}

class LayerCollector implements TarHandler {
  readonly #layer: number;
  readonly #builder: LayerBuilder;
  readonly #places: Map<FileNode, Place>;
  readonly #digests: Map<FileNode, string> | null;
  #entries = 0;
  #node: FileNode | null = null;
  #hash: Hash | null = null;

  constructor(
    layer: number,
    builder: LayerBuilder,
    places: Map<FileNode, Place>,
    digests: Map<FileNode, string> | null,
  ) {
    this.#layer = layer;
    this.#builder = builder;
    this.#places = places;
    this.#digests = digests;
  }

  entry(entry: TarEntry): void {
    this.#node = this.#builder.add(entry);
    if (this.#node !== null) {
      this.#places.set(this.#node, { layer: this.#layer, entry: this.#entries });
      this.#hash = this.#digests === null ? null : createHash('sha256');
      if (entry.size === 0) this.#finishHash();
    }
    this.#entries++;
  }

  content(buffer: Buffer, start: number, available: number, remaining: number): number {
    if (this.#node !== null && this.#hash !== null) {
      this.#hash.update(buffer.subarray(start, start + available));
      if (available === remaining) this.#finishHash();
    }
    return available;
  }

  /** Hashing is slow, so it works on a part at a time. */
  hole(length: number, remaining: number): number {
    if (this.#hash === null) return length;
    return this.content(ZEROS, 0, Math.min(length, ZEROS.length), remaining);
  }

  finish(): LayerTree {
    return this.#builder.finish();
  }

  #finishHash(): void {
    if (this.#hash !== null) this.#digests!.set(this.#node!, this.#hash.digest('hex'));
    this.#hash = null;
  }
}

class LayersImage implements OpenedImage {
  readonly subject: string;
  readonly root: FileNode;
  readonly manifest: ChosenManifest;
  readonly rafs = null;
  readonly #source: OpenedSource;
  readonly #store: ImageStore;
  readonly #places: ReadonlyMap<FileNode, Place>;
  readonly #digests: ReadonlyMap<FileNode, string>;
  readonly #origins: LayerOrigins;

  constructor(
    source: OpenedSource,
    manifest: ChosenManifest,
    root: FileNode,
    state: {
      readonly places: ReadonlyMap<FileNode, Place>;
      readonly digests: ReadonlyMap<FileNode, string>;
      readonly origins: LayerOrigins;
    },
  ) {
    this.subject = source.store.subject;
    this.root = root;
    this.manifest = manifest;
    this.#source = source;
    this.#store = source.store;
    this.#places = state.places;
    this.#digests = state.digests;
    this.#origins = state.origins;
  }

  resolve(path: string | Uint8Array, options: { readonly follow?: boolean } = {}): ResolvedPath | null {
    return resolveIn(this.root, path, options, this.subject);
  }

  layerOf({ pathBytes, node }: ResolvedPath): LayerOrigin | null {
    const index = this.#origins.of(byteString(pathBytes), node);
    return index === null ? null : originIn(this.manifest, index);
  }

  read(node: FileNode, options: ReadFileOptions = {}): AsyncIterable<Buffer> {
    const range = rangeIn(node, options);
    return this.#read(node, range.offset, range.length, options);
  }

  async *#read(node: FileNode, offset: number, length: number, options: SignalOptions): AsyncGenerator<Buffer> {
    const place = this.#places.get(node);
    if (place === undefined) throw new LacunaError('USAGE', 'not a file of this image', { op: 'read' });
    const layer = this.manifest.manifest.layers[place.layer]!;
    const finder = new ContentFinder(place.entry, offset, offset + length);
    // A whole file is never in memory. The layer is read to its end, because its digest is verified there.
    for await (const _ of parseLayerSteps(this.#store, layer, finder, options)) yield* finder.take();
  }

  async *contents(nodes: Iterable<FileNode>, options: SignalOptions = {}): AsyncGenerator<FilePiece> {
    const nodesByEntry = this.manifest.manifest.layers.map(() => new Map<number, FileNode>());
    for (const node of nodes) {
      const place = this.#places.get(node);
      if (place === undefined) throw new LacunaError('USAGE', 'not a file of this image', { op: 'read' });
      nodesByEntry[place.layer]!.set(place.entry, node);
    }
    for (const [i, layer] of this.manifest.manifest.layers.entries()) {
      if (nodesByEntry[i]!.size === 0) continue;
      const collector = new ContentCollector(nodesByEntry[i]!);
      for await (const _ of parseLayerSteps(this.#store, layer, collector, options)) yield* collector.take();
    }
  }

  async digest(node: FileNode, options: SignalOptions = {}): Promise<string> {
    const digest = this.#digests.get(node);
    if (digest !== undefined) return digest;
    const hash = createHash('sha256');
    for await (const piece of this.read(node, options)) hash.update(piece);
    return hash.digest('hex');
  }

  async digests(nodes: Iterable<FileNode>, options: DigestsOptions = {}): Promise<ReadonlyMap<FileNode, string>> {
    const digests = new Map<FileNode, string>();
    const unknown = new Map<FileNode, Hash>();
    for (const node of nodes) {
      const digest = this.#digests.get(node);
      if (digest === undefined) unknown.set(node, createHash('sha256'));
      else digests.set(node, digest);
    }
    const total = [...unknown.keys()].reduce((sum, { size }) => sum + size, 0);
    const progress = progressOf(options.onProgress, { phase: 'hash', subject: this.subject, total, unit: 'bytes' });
    for await (const { node, data } of this.contents(unknown.keys(), options)) {
      unknown.get(node)!.update(data);
      progress(data.length);
    }
    for (const [node, hash] of unknown) digests.set(node, hash.digest('hex'));
    return digests;
  }

  async close(): Promise<void> {
    await this.#source[Symbol.asyncDispose]();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** A piece of content, or a number of zeros. */
type Piece = Buffer | number;

/** The bytes of pieces, in pieces. */
function* bytesOfPieces(pieces: Iterable<Piece>): Generator<Buffer> {
  for (const piece of pieces) {
    if (typeof piece !== 'number') yield piece;
    else for (let left = piece; left > 0; left -= ZEROS.length) yield ZEROS.subarray(0, Math.min(left, ZEROS.length));
  }
}

/** Picks the bytes start … end − 1 of one entry's content out of a tar. */
class ContentFinder implements TarHandler {
  readonly #entry: number;
  readonly #start: number;
  readonly #end: number;
  #entries = 0;
  #at = 0;
  #pieces: Piece[] = [];

  constructor(entry: number, start: number, end: number) {
    this.#entry = entry;
    this.#start = start;
    this.#end = end;
  }

  entry(): void {
    this.#entries++;
  }

  content(buffer: Buffer, start: number, available: number): number {
    return this.#take(available, (from, to) => Buffer.from(buffer.subarray(start + from, start + to)));
  }

  hole(length: number): number {
    return this.#take(length, (from, to) => to - from);
  }

  take(): Iterable<Buffer> {
    const pieces = this.#pieces;
    this.#pieces = [];
    return bytesOfPieces(pieces);
  }

  #take(length: number, pick: (from: number, to: number) => Piece): number {
    if (this.#entries - 1 !== this.#entry) return length;
    const from = Math.max(this.#start - this.#at, 0);
    const to = Math.min(this.#end - this.#at, length);
    if (from < to) this.#pieces.push(pick(from, to));
    this.#at += length;
    return length;
  }
}

/** Picks the content of some entries out of a tar. */
class ContentCollector implements TarHandler {
  readonly #nodesByEntry: ReadonlyMap<number, FileNode>;
  #entries = 0;
  #pieces: Array<{ readonly node: FileNode; readonly piece: Piece }> = [];

  constructor(nodesByEntry: ReadonlyMap<number, FileNode>) {
    this.#nodesByEntry = nodesByEntry;
  }

  entry(): void {
    this.#entries++;
  }

  content(buffer: Buffer, start: number, available: number): number {
    return this.#take(available, () => Buffer.from(buffer.subarray(start, start + available)));
  }

  hole(length: number): number {
    return this.#take(length, () => length);
  }

  *take(): Generator<FilePiece> {
    const pieces = this.#pieces;
    this.#pieces = [];
    for (const { node, piece } of pieces) for (const data of bytesOfPieces([piece])) yield { node, data };
  }

  #take(length: number, pick: () => Piece): number {
    const node = this.#nodesByEntry.get(this.#entries - 1);
    if (node !== undefined) this.#pieces.push({ node, piece: pick() });
    return length;
  }
}
