/** The layers of one image → blobs in the target, several at a time. */
import type { ReferredBlob } from '../dict/session.ts';
import { LacunaError } from '../errors.ts';
import { digestOf } from '../image/digest.ts';
import type { Descriptor, ImageConfig, Manifest } from '../image/manifest.ts';
import { layerCompression, MEDIA } from '../image/media.ts';
import { copyBlob } from '../registry/copy.ts';
import type { ImageStore } from '../registry/store.ts';
import { TreeBudget } from '../tree/budget.ts';
import type { Conversion, LayerCache, PushedLayer } from './conversion.ts';
import { firstOf, LowerChunks } from './dedup-sources.ts';
import { type ConvertedLayer, convertLayer, type LayerWork } from './layer.ts';
import { type LayerOptions, storedOptions } from './options.ts';
import { mapParallel } from './parallel.ts';
import { type Pushed, pushBlob, pushMade } from './push.ts';
import type { LayerInput } from './read-layer.ts';
import { NO_TRANSFER, sumTransfers, transferOf } from './transfer.ts';
import { type IndexWork, indexLayer } from './zran-index.ts';

/** Layers converted at once: enough to overlap waiting with work, few enough to bound memory. */
const PARALLEL_LAYERS = 3;

/** The layers of an image, and the blobs of the dictionary that they refer to, which are in the target. */
export interface ConvertedLayers {
  readonly layers: readonly PushedLayer[];
  readonly referred: readonly ReferredBlob[];
}

/** Converts every layer, and again those that refer to blobs which turned out to be unavailable. */
export async function convertLayers(
  conversion: Conversion,
  manifest: Manifest,
  config: ImageConfig,
): Promise<ConvertedLayers> {
  for (;;) {
    const layers = await convertOnce(conversion, manifest, config);
    if (conversion.dictionary === null) return { layers, referred: [] };
    const { blobs, whole, invalidated } = await conversion.dictionary.settle(layers);
    if (invalidated.size === 0)
      return { layers: layers.map((layer) => asBlob(layer, whole.get(layer))), referred: blobs };
    conversion.plan.log.debug(
      { layers: invalidated.size },
      'converting layers again, with fewer blobs of the dictionary',
    );
    for (const [key, layer] of conversion.layers) if (invalidated.has(await layer)) conversion.layers.delete(key);
  }
}

/** A layer that equals a blob of the dictionary has it as its own blob, as it would without the dictionary. */
function asBlob(layer: PushedLayer, whole: ReferredBlob | undefined): PushedLayer {
  if (whole === undefined) return layer;
  const { blob, meta, size, access } = whole;
  return { ...layer, blob, meta: meta ?? Buffer.alloc(0), transfer: transferOf(access, size) };
}

/** Converts every layer, in order. The first error ends the others and comes when all have ended. */
async function convertOnce(conversion: Conversion, manifest: Manifest, config: ImageConfig): Promise<PushedLayer[]> {
  const { from, plan, layers, dictionary } = conversion;
  const abort = new AbortController();
  const signal = AbortSignal.any([plan.signal, abort.signal]);
  const inputs = manifest.layers.map((layer, index) => inputOf(from, layer, index, config.rootfs.diff_ids[index]!));
  const budget = new TreeBudget();
  const lower = new LowerChunks();
  const reusableChunks = dictionary === null ? lower : firstOf([lower, dictionary]);
  const convert = async (input: LayerInput): Promise<PushedLayer> => {
    const began = performance.now();
    const converted = await obtainLayer(input, conversion, { reusableChunks, budget, signal });
    if (plan.dedup === 'image') lower.add(converted.chunks);
    return { ...converted, duration: performance.now() - began };
  };
  const started: LayerCache = plan.dedup === 'image' ? new Map() : layers;
  // With reuse of lower layers' chunks a layer must wait for those below it.
  const parallel = plan.dedup === 'image' ? 1 : PARALLEL_LAYERS;
  try {
    return await mapParallel(inputs, parallel, (input) => {
      const key = `${input.digest} ${input.diffId}`;
      const running = started.get(key) ?? convert(input);
      started.set(key, running);
      return running;
    });
  } catch (error) {
    abort.abort();
    await Promise.allSettled(started.values());
    throw error;
  }
}

/** The layer as the target has it from an earlier conversion, or converted now. */
async function obtainLayer(
  input: LayerInput,
  { from, to, plan, records }: Conversion,
  { reusableChunks, budget, signal }: Pick<LayerWork, 'reusableChunks' | 'budget' | 'signal'>,
): Promise<Omit<PushedLayer, 'duration'>> {
  const subject = input.digest.slice(7, 19);
  const onRead = (done: number) =>
    plan.onProgress({ phase: 'convert', subject, done, total: input.size, unit: 'bytes' });
  const reused = await records.findLayer(input, budget, signal);
  if (reused !== null) {
    onRead(input.size);
    plan.log.debug({ layer: input.digest, blob: reused.blob?.id ?? null }, 'layer found in the target');
    const bytes = (reused.blob?.compressedSize ?? 0) + (reused.metaBlob?.length ?? 0);
    return { ...reused, transfer: transferOf('reused', bytes), isReused: true };
  }
  const store = (options: LayerOptions) =>
    pushMade(to, plan, signal, subject, (upload) =>
      convertLayer(input, { options, reusableChunks, budget, signal, onRead, upload }),
    );
  const referred = plan.ociRef ? await referTo(input, from, to, { options: plan.layer, budget, signal, onRead }) : null;
  if (plan.ociRef && referred === null) {
    plan.log.warn({ layer: input.digest }, 'the layer has sparse files: its content is stored again, not referred to');
  }
  const { made, transfer } = referred ?? (await store(storedOptions(plan)));
  const parts = [transfer];
  if (made.metaBlob !== null) {
    const how = await pushBlob(to, made.metaBlob, digestOf(made.metaBlob), signal);
    parts.push(transferOf(how, made.metaBlob.length));
  }
  // A record is read with the options of the conversion, which are not those of a layer that could not be referred to.
  if (!plan.ociRef || referred !== null) records.addLayer(input, made);
  plan.log.debug({ layer: input.digest, blob: made.blob?.id ?? null }, 'layer converted');
  return { ...made, transfer: sumTransfers(parts), isReused: false };
}

/** Throws UNSUPPORTED for a layer that is not a tar, before any layer is read. */
function inputOf(from: ImageStore, layer: Descriptor, index: number, diffId: string): LayerInput {
  if (layerCompression(layer.mediaType) === null) {
    throw new LacunaError('UNSUPPORTED', `layer ${index + 1} has the media type ${layer.mediaType}`, {
      op: 'convert',
      subject: from.subject,
      hint: 'layers must be tar, tar+gzip or tar+zstd',
    });
  }
  return {
    subject: `${from.subject}, layer ${layer.digest}`,
    open: (signal) => from.open(layer, { signal, verify: false }),
    digest: layer.digest,
    size: layer.size,
    diffId,
  };
}

/**
 * Makes an index into a layer, and copies the layer to the target, as it is the data of the image. Null for one
 * that cannot be indexed.
 */
async function referTo(
  input: LayerInput,
  from: ImageStore,
  to: ImageStore,
  work: IndexWork,
): Promise<Pushed<ConvertedLayer> | null> {
  const made = await indexLayer(input, work);
  if (made === null) return null;
  if (made.blob === null) return { made, transfer: NO_TRANSFER };
  const layer = { mediaType: MEDIA.ociLayerGzip, digest: input.digest, size: input.size };
  const how = await copyBlob(from, to, layer, { signal: work.signal });
  return { made, transfer: transferOf(how, input.size) };
}
