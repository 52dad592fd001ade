/**
 * Records of conversions in a target, so that the next one can skip work: the lazy image of each source, and for
 * each layer a record. They lie under one tag of the target's repository, the only thing that every registry keeps and
 * find; in a layout of their own beside a layout's images, whose names are the user's. A record is found by the digests
 * of its layer and the recipe; its data blob must be in the target. Nothing of it keeps that blob there.
 */
import { join } from 'node:path';
import { isLacunaError } from '../errors.ts';
import { digestOf } from '../image/digest.ts';
import { type Descriptor, parseManifest } from '../image/manifest.ts';
import { ANNOTATION, MEDIA } from '../image/media.ts';
import type { Reference } from '../image/reference.ts';
import { errorRow } from '../observe/log.ts';
import { openStore } from '../registry/open.ts';
import type { ImageStore, StoreOptions } from '../registry/store.ts';
import type { TreeBudget } from '../tree/budget.ts';
import type { ConvertedLayer } from './layer.ts';
import { decodeLayer, encodeLayer, MAX_RECORD_SIZE } from './layer-record.ts';
import type { ConvertPlan } from './options.ts';
import { pushBlob } from './push.ts';
import type { LayerInput } from './read-layer.ts';
import type { Recipe } from './recipe.ts';
import {
  EMPTY_CONFIG,
  encodeRecords,
  type ImageEntry,
  type LayerEntry,
  layerKey,
  mergeRecords,
  NO_RECORDS,
  parseRecords,
  type RecordsDocument,
  recordDescriptor,
} from './records-document.ts';

/** The tag, and the name in a layout's own layout for them. */
const NAME = 'lacuna-layers';
const FOLDER = '.lacuna-layers';

/** A lazy image of an earlier conversion. */
export interface FoundImage {
  readonly entry: ImageEntry;
  readonly descriptor: Descriptor;
  readonly bytes: Buffer;
}

export interface RecordsOptions {
  /** Null when only this process has the store. */
  readonly target: Reference | null;
  readonly to: ImageStore;
  readonly plan: ConvertPlan;
  readonly recipe: Recipe;
  readonly store: StoreOptions;
}

export class Records {
  readonly #options: RecordsOptions;
  #existing: RecordsDocument = NO_RECORDS;
  /** Whether records cannot be stored: the name is in use for something else, or the target has no place for them. */
  #isClosed = false;
  readonly #layers: LayerEntry[] = [];
  readonly #images: ImageEntry[] = [];
  /** Records that are not pushed yet. */
  readonly #pending = new Map<string, Buffer>();

  private constructor(options: RecordsOptions) {
    this.#options = options;
  }

  /** Reads the existing records with one request. Unreadable records count as absent; throws for a target that is down. */
  static async open(options: RecordsOptions): Promise<Records> {
    const records = new Records(options);
    records.#isClosed = !options.plan.records || !hasPlace(options.target);
    try {
      await records.#read();
    } catch (error) {
      options.plan.signal.throwIfAborted();
      if (!isLacunaError(error) || error.code === 'UNAVAILABLE' || error.code === 'TIMEOUT') throw error;
      if (error.code !== 'NOT_FOUND') {
        options.plan.log.debug(
          { error: errorRow(error) },
          'cannot read the records of earlier conversions; every layer is converted',
        );
      }
    }
    return records;
  }

  /** The layer as an earlier conversion made it, if the target still has its blobs. */
  async findLayer(input: LayerInput, budget: TreeBudget, signal: AbortSignal): Promise<ConvertedLayer | null> {
    const { plan, recipe, to } = this.#options;
    if (plan.force || recipe.layer === null) return null;
    const key = layerKey({ layer: input.digest, diffId: input.diffId, recipe: recipe.layer });
    const entry = this.#existing.layers.find((candidate) => layerKey(candidate) === key);
    if (entry === undefined || entry.record.size > MAX_RECORD_SIZE) return null;
    try {
      const record = await this.#withStore(false, (store) => readWhole(store, entry.record, signal));
      const readMeta = (digest: string, size: number) =>
        readWhole(to, { mediaType: MEDIA.nydusBlob, digest, size }, signal);
      const layer = await decodeLayer(record, input, plan.layer, readMeta, budget);
      const { blob } = layer;
      if (blob !== null) {
        const descriptor = { mediaType: MEDIA.nydusBlob, digest: `sha256:${blob.id}`, size: blob.compressedSize };
        if (!(await to.has(descriptor, { signal }))) return null;
      }
      this.#layers.push(entry);
      return layer;
    } catch (error) {
      signal.throwIfAborted();
      if (!isLacunaError(error)) throw error;
      plan.log.debug(
        { layer: input.digest, error: errorRow(error) },
        'cannot use the record of a layer; the layer is converted',
      );
      return null;
    }
  }

  /** Records a converted layer. */
  addLayer({ digest, diffId }: LayerInput, converted: ConvertedLayer): void {
    const { layer: recipe } = this.#options.recipe;
    if (this.#isClosed || recipe === null) return;
    const bytes = encodeLayer(converted);
    if (bytes === null) return;
    const record = recordDescriptor(bytes, { layer: digest, diffId, recipe });
    this.#layers.push({ layer: digest, diffId, recipe, record });
    this.#pending.set(record.digest, bytes);
  }

  /** The lazy image that an earlier conversion made of `source`. */
  async findImage(source: Descriptor, reference: string | null): Promise<FoundImage | null> {
    const { plan, recipe, to } = this.#options;
    const entry = this.#existing.images.find(
      (image) =>
        image.report.source === source.digest && image.recipe === recipe.image && image.reference === reference,
    );
    if (plan.force || entry === undefined) return null;
    const descriptor = { mediaType: MEDIA.ociManifest, digest: entry.report.digest, size: entry.size };
    try {
      const bytes = await to.manifest(descriptor, { signal: plan.signal });
      const { annotations } = parseManifest(bytes, to.subject);
      if (annotations?.[ANNOTATION.nydusSourceDigest] !== source.digest) return null;
      this.#images.push(entry);
      return { entry, descriptor, bytes };
    } catch (error) {
      plan.signal.throwIfAborted();
      if (!isLacunaError(error)) throw error;
      plan.log.debug(
        { image: source.digest, error: errorRow(error) },
        'cannot read the image of an earlier conversion; the image is converted',
      );
      return null;
    }
  }

  /** Records the lazy image of a source. */
  addImage(entry: Omit<ImageEntry, 'recipe'>): void {
    this.#images.push({ ...entry, recipe: this.#options.recipe.image });
    this.#isChanged = true;
  }

  /** Pushes the records. The image is already pushed, so a failure is only logged. */
  async save(): Promise<void> {
    const { plan, to } = this.#options;
    if (this.#isClosed || !this.#isChanged) return;
    try {
      await this.#withStore(true, (store) => this.#write(store));
    } catch (error) {
      plan.signal.throwIfAborted();
      if (!isLacunaError(error)) throw error;
      plan.log.warn(
        { target: to.subject, error: errorRow(error) },
        'could not record this conversion; the next one converts every layer again',
      );
    }
  }

  async #read(): Promise<void> {
    if (this.#isClosed) return;
    const signal = { signal: this.#options.plan.signal };
    await this.#withStore(false, async (store) => {
      const descriptor = await store.resolve(NAME, signal);
      const document = parseRecords(await store.manifest(descriptor, signal), NAME);
      this.#existing = document ?? NO_RECORDS;
      this.#isClosed = document === null;
    });
  }

  async #write(store: ImageStore): Promise<void> {
    const { signal } = this.#options.plan;
    for (const [digest, bytes] of this.#pending) await pushBlob(store, bytes, digest, signal);
    // Another conversion may have pushed records in the meantime.
    await this.#read().catch(() => {});
    if (this.#isClosed) return;
    await pushBlob(store, EMPTY_CONFIG, digestOf(EMPTY_CONFIG), signal);
    const document = mergeRecords(this.#existing, { layers: this.#layers, images: this.#images });
    await store.pushManifest(encodeRecords(document), MEDIA.ociManifest, NAME, { signal });
  }

  async #withStore<T>(create: boolean, use: (store: ImageStore) => Promise<T>): Promise<T> {
    const { target, to, store: options } = this.#options;
    if (target?.transport !== 'oci') return await use(to);
    const reference = { ...target, path: join(target.path, FOLDER), ref: NAME };
    await using store = await openStore(reference, { ...options, create });
    return await use(store);
  }

  #isChanged = false;
}

const hasPlace = (target: Reference | null): boolean => target?.transport === 'docker' || target?.transport === 'oci';

async function readWhole(store: ImageStore, blob: Descriptor, signal: AbortSignal): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of store.open(blob, { signal })) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}
