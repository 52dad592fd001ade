/**
 * The dictionaries of one conversion. A chunk is offered only if its blob is in the target or can be copied there. The
 * blobs to refer to are chosen when all layers are converted, and checked again before the manifest is pushed.
 */
import { isLacunaError, LacunaError } from '../errors.ts';
import { MAX_BLOBS } from '../formats/rafs/limits.ts';
import { MEDIA } from '../image/media.ts';
import type { Compressor } from '../native/addon.ts';
import { errorRow, type Log } from '../observe/log.ts';
import type { ImageStore, SignalOptions, StoreOptions } from '../registry/store.ts';
import type { ByteString, FileChunk, FileNode } from '../tree/node.ts';
import { type ChunkDict, type ChunkKind, type DictBlob, isGrowing, type NewBlob } from './dict.ts';
import { type Location, openLocation } from './locations.ts';

/** Maximum attempts to choose blobs that stay available; after them the image refers to none. */
const MAX_ROUNDS = 4;

/** How a blob came to be in the target. */
export type Access = 'there' | 'mounted' | 'copied';

/** A blob of a dictionary that an image refers to, and what that saves. */
export interface ReferredBlob extends DictBlob {
  readonly access: Access;
  /** Distinct chunks of each layer that would be stored otherwise, their stored and their plain bytes. */
  readonly chunks: number;
  readonly savedBytes: number;
  readonly plainBytes: number;
}

/** The part of a converted layer that the dictionary uses. */
export interface DedupedLayer {
  readonly tree: { readonly root: FileNode };
  /** Null when it has no blob of its own. */
  readonly blob: { readonly id: string } | null;
}

export interface Availability<L> {
  /** In order of what they save. */
  readonly blobs: readonly ReferredBlob[];
  /** Layers that are a known blob, chunk by chunk: what they would become without the dictionary. */
  readonly whole: ReadonlyMap<L, ReferredBlob>;
  /** Layers that refer to blobs that were not chosen: they are converted again. */
  readonly invalidated: ReadonlySet<L>;
}

export interface SessionOptions {
  readonly dicts: readonly ChunkDict[];
  readonly to: ImageStore;
  readonly kind: ChunkKind;
  /** How the layers' own blobs are compressed. */
  readonly compressor: Compressor;
  /** How the locations of blobs are reached. */
  readonly store: StoreOptions;
  readonly log: Log;
  readonly signal: AbortSignal;
}

type Reach = { readonly access: 'there' | 'mounted' } | { readonly access: 'copied'; readonly from: Location };

/** Chunks of one blob that layers refer to. */
interface Usage {
  readonly entry: DictBlob;
  /** Numbers of layer and chunk. */
  readonly chunks: Set<string>;
  savedBytes: number;
  plainBytes: number;
  /** A layer equals this blob, so the image refers to it in any case. */
  isWhole: boolean;
}

export class DictSession implements AsyncDisposable {
  readonly #options: SessionOptions;
  readonly #signal: SignalOptions;
  readonly #reaching = new Map<string, Promise<Reach | null>>();
  /** Blobs that chunks were offered of. */
  readonly #reached = new Map<string, Reach>();
  readonly #blobs = new Map<string, DictBlob>();
  readonly #locations = new Map<string, Promise<Location>>();
  readonly #excluded = new Set<string>();
  /** The only blobs that may still be used, after there were too many. */
  #allowed: ReadonlySet<string> | null = null;
  #rounds = 0;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#signal = { signal: options.signal };
  }

  /** Chunks that may be referred to, by digest; of several dictionaries the first that has one the target can have. */
  async lookup(digests: Buffer): Promise<ReadonlyMap<ByteString, FileChunk>> {
    const found = new Map<ByteString, FileChunk>();
    for (const dict of this.#options.dicts) {
      for (const [digest, candidates] of dict.lookup(digests, this.#options.kind)) {
        if (found.has(digest)) continue;
        for (const chunk of candidates) {
          if ((await this.#reach(chunk.blob)) === null) continue;
          found.set(digest, chunk);
          break;
        }
      }
    }
    return found;
  }

  /** Chooses the blobs that the image refers to, the ones that save most, and copies them to the target if needed. */
  async settle<L extends DedupedLayer>(layers: readonly L[]): Promise<Availability<L>> {
    this.#rounds += 1;
    const wholeIds = new Map(layers.flatMap((layer) => this.#wholeBlob(layer)));
    const usages = this.#usagesOf(layers, wholeIds);
    const kept = this.#rounds > MAX_ROUNDS ? [] : this.#choose([...usages.values()], layers);
    const blobs: ReferredBlob[] = [];
    for (const { entry, chunks, savedBytes, plainBytes } of kept) {
      const access = await this.#copyToTarget(entry);
      if (access !== null) blobs.push({ ...entry, access, chunks: chunks.size, savedBytes, plainBytes });
    }
    const settledBlobs = new Map(blobs.map((blob) => [blob.blob.id, blob]));
    const settled = new Set(settledBlobs.keys());
    const dropped = new Set([...usages.keys()].filter((id) => !settled.has(id)));
    for (const id of dropped) this.#excluded.add(id);
    const invalidated = layers.filter((layer) => dropped.size > 0 && refersTo(layer, dropped));
    if (invalidated.length === 0) this.#rounds = 0;
    const whole = [...wholeIds].flatMap(([layer, id]): Array<[L, ReferredBlob]> => {
      const blob = settledBlobs.get(id);
      return blob === undefined ? [] : [[layer, blob]];
    });
    return { blobs, whole: new Map(whole), invalidated: new Set(invalidated) };
  }

  /** The blob that has all the chunks of a layer and no other ones, if it is compressed as the layer would be. */
  #wholeBlob<L extends DedupedLayer>(layer: L): Array<[L, string]> {
    if (layer.blob !== null) return [];
    const indexes = new Set<number>();
    let id: string | null = null;
    for (const chunk of chunksIn(layer)) {
      id ??= chunk.blob;
      if (chunk.blob !== id) return [];
      indexes.add(chunk.index);
    }
    const entry = id === null ? null : this.#entry(id);
    if (entry === null || entry.blob.chunkCount !== indexes.size) return [];
    return entry.blob.compressor === this.#options.compressor ? [[layer, entry.blob.id]] : [];
  }

  /** Throws UNAVAILABLE when the target has lost a blob since it was settled. */
  async verify(blobs: readonly ReferredBlob[]): Promise<void> {
    for (const blob of blobs) {
      if (await this.#options.to.has(descriptorOf(blob), this.#signal)) continue;
      throw new LacunaError('UNAVAILABLE', `blob ${blob.blob.id} of the dictionary was deleted from the target`, {
        op: 'convert',
        subject: this.#options.to.subject,
        hint: 'convert again, which stores its chunks anew',
      });
    }
  }

  /** Adds blobs to the dictionaries that grow. The image is already pushed, so a failure is only logged. */
  grow(blobs: readonly NewBlob[]): void {
    for (const dict of this.#options.dicts.filter(isGrowing)) {
      try {
        this.#options.log.debug(
          { dict: dict.subject, ...dict.add(blobs) },
          'added the blobs of the image to the dictionary',
        );
      } catch (error) {
        if (!isLacunaError(error)) throw error;
        this.#options.log.warn(
          { dict: dict.subject, error: errorRow(error) },
          'could not add the blobs of the image to the dictionary; later conversions cannot reuse them',
        );
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const dict of this.#options.dicts) dict[Symbol.dispose]();
    for (const opened of await Promise.allSettled(this.#locations.values())) {
      if (opened.status === 'fulfilled') await opened.value[Symbol.asyncDispose]();
    }
  }

  /** How the target can get the blob; null when it cannot, or must not. */
  async #reach(id: string): Promise<Reach | null> {
    if (this.#excluded.has(id) || this.#allowed?.has(id) === false) return null;
    const reaching = this.#reaching.get(id) ?? this.#find(id);
    this.#reaching.set(id, reaching);
    const reach = await reaching;
    if (reach !== null && !this.#reached.has(id)) this.#reached.set(id, reach);
    return reach;
  }

  async #find(id: string): Promise<Reach | null> {
    const entry = this.#entry(id);
    if (entry === null) return null;
    const descriptor = descriptorOf(entry);
    const { to } = this.#options;
    if (await to.has(descriptor, this.#signal)) return { access: 'there' };
    // Locations that need no copy come first.
    const mounted = await this.#firstLocation(entry, (location) => location.mountInto(to, descriptor, this.#signal));
    if (mounted !== null) return { access: 'mounted' };
    const from = await this.#firstLocation(entry, (location) => location.has(descriptor, this.#signal));
    return from === null ? null : { access: 'copied', from };
  }

  /** A location that cannot be reached is skipped. */
  async #firstLocation(entry: DictBlob, test: (location: Location) => Promise<boolean>): Promise<Location | null> {
    for (const name of entry.places) {
      try {
        const opening = this.#locations.get(name) ?? openLocation(name, this.#options.store);
        this.#locations.set(name, opening);
        const location = await opening;
        if (await test(location)) return location;
      } catch (error) {
        this.#options.signal.throwIfAborted();
        if (!isLacunaError(error)) throw error;
        this.#options.log.debug(
          { location: name, blob: entry.blob.id, error: errorRow(error) },
          'cannot reach a location of the blob; trying the next one',
        );
      }
    }
    return null;
  }

  /** The blob is in the target when this returns; null when it cannot be. */
  async #copyToTarget(entry: DictBlob): Promise<Access | null> {
    const { id } = entry.blob;
    const reach = this.#reached.get(id)!;
    const descriptor = descriptorOf(entry);
    const { to, log, signal } = this.#options;
    if (await to.has(descriptor, this.#signal)) return reach.access === 'copied' ? 'there' : reach.access;
    // It was deleted in the meantime.
    if (reach.access !== 'copied') return null;
    try {
      await reach.from.copyInto(to, descriptor, this.#signal);
      this.#reached.set(id, { access: 'there' });
      return 'copied';
    } catch (error) {
      signal.throwIfAborted();
      if (!isLacunaError(error)) throw error;
      log.warn(
        { blob: id, error: errorRow(error) },
        'could not copy a blob of the dictionary; its chunks are stored again',
      );
      return null;
    }
  }

  #entry(id: string): DictBlob | null {
    let entry = this.#blobs.get(id) ?? null;
    for (const dict of entry === null ? this.#options.dicts : []) {
      const found = dict.blob(id);
      if (found === null) continue;
      // Each dictionary has places of its own.
      entry = entry === null ? found : { ...entry, places: [...new Set([...entry.places, ...found.places])] };
    }
    if (entry !== null) this.#blobs.set(id, entry);
    return entry;
  }

  /** Uses of each blob by the layers. `whole`: layers that equal a blob, which saves only the upload. */
  #usagesOf(layers: readonly DedupedLayer[], whole: ReadonlyMap<DedupedLayer, string>): Map<string, Usage> {
    const own = new Set(layers.map(({ blob }) => blob?.id));
    const usages = new Map<string, Usage>();
    for (const [number, layer] of layers.entries()) {
      for (const chunk of chunksIn(layer)) {
        if (own.has(chunk.blob) || !this.#reached.has(chunk.blob)) continue;
        let usage = usages.get(chunk.blob);
        if (usage === undefined) {
          usage = { entry: this.#entry(chunk.blob)!, chunks: new Set(), savedBytes: 0, plainBytes: 0, isWhole: false };
          usages.set(chunk.blob, usage);
        }
        if (whole.has(layer)) {
          usage.isWhole = true;
          continue;
        }
        // Without the dictionary each layer's blob would have it once.
        const key = `${number} ${chunk.index}`;
        if (usage.chunks.has(key)) continue;
        usage.chunks.add(key);
        usage.savedBytes += chunk.compressedSize;
        usage.plainBytes += chunk.uncompressedSize;
      }
    }
    return usages;
  }

  /** The blobs that save more than they cost; when there are too many, the ones that save most, in this order. */
  #choose(usages: readonly Usage[], layers: readonly DedupedLayer[]): Usage[] {
    const worth = usages.filter((usage) => usage.isWhole || usage.savedBytes > this.#costOf(usage.entry));
    worth.sort((a, b) => b.savedBytes - a.savedBytes || (a.entry.blob.id < b.entry.blob.id ? -1 : 1));
    const own = new Set(layers.flatMap(({ blob }) => (blob === null ? [] : [blob.id])));
    if (own.size + worth.length <= MAX_BLOBS) return worth;
    // Chunks that are stored again may give a blob to a layer that has none yet.
    const kept = worth.slice(0, Math.max(0, MAX_BLOBS - layers.length));
    this.#allowed = new Set(kept.map(({ entry }) => entry.blob.id));
    return kept;
  }

  /** Bytes: the chunk info that the image carries of the blob, and the blob itself if it has to be copied. */
  #costOf({ blob, size }: DictBlob): number {
    return blob.ciCompressedSize + (this.#reached.get(blob.id)?.access === 'copied' ? size : 0);
  }
}

function refersTo(layer: DedupedLayer, blobs: ReadonlySet<string>): boolean {
  for (const chunk of chunksIn(layer)) if (blobs.has(chunk.blob)) return true;
  return false;
}

const descriptorOf = ({ blob, size }: DictBlob) => ({ mediaType: MEDIA.nydusBlob, digest: `sha256:${blob.id}`, size });

/** Every chunk of every file, as often as it is referred to. */
function* chunksIn({ tree }: DedupedLayer): Generator<FileChunk> {
  const directories = [tree.root];
  for (let directory = directories.pop(); directory !== undefined; directory = directories.pop()) {
    for (const node of directory.children!.values()) {
      if (node.type === 'dir') directories.push(node);
      else yield* node.chunks;
    }
  }
}
