/** One image manifest → one lazy image manifest: the layers, then the merged bootstrap, config and manifest. */
import type { NewBlob } from '../dict/dict.ts';
import type { ReferredBlob } from '../dict/session.ts';
import { isLacunaError, LacunaError } from '../errors.ts';
import { digestOf } from '../image/digest.ts';
import {
  type Descriptor,
  type ImageConfig,
  type ImageHistory,
  type Manifest,
  parseConfig,
  parseManifest,
} from '../image/manifest.ts';
import { ANNOTATION, MEDIA } from '../image/media.ts';
import { hostPlatform, namesPlatform, platformOfConfig } from '../image/platform.ts';
import { bootstrapLayerOf } from '../reader/select-manifest.ts';
import type { ImageStore } from '../registry/store.ts';
import { type BootstrapLayer, packBootstrapLayer } from './bootstrap-layer.ts';
import { type Conversion, forgetLayers, type PushedLayer } from './conversion.ts';
import { blobEntry, entriesOf } from './entries.ts';
import type { ConvertedLayer } from './layer.ts';
import { convertLayers } from './layers.ts';
import { type MergedImage, mergeLayers } from './merge.ts';
import type { TargetForm } from './options.ts';
import { pushBlob, pushMade } from './push.ts';
import type { FoundImage } from './records.ts';
import type { DictionaryReport, ImageFacts, ImageReport, LayerFacts, LayerReport } from './report.ts';
import { sumTransfers, transferOf } from './transfer.ts';

export interface ConvertedImage {
  readonly descriptor: Descriptor;
  readonly platform: NonNullable<Descriptor['platform']>;
  readonly report: ImageReport;
  /** Blobs to add to growing dictionaries, once the target's location is known. */
  readonly dictBlobs: ReadonlyArray<Omit<NewBlob, 'places'>>;
}

/**
 * Converts one manifest and pushes it, under the target's own name as the very last step, or by its digest alone when an
 * index will list it or it is found as a referrer. The image of an earlier conversion is reused as it is.
 */
export async function convertImage(
  conversion: Conversion,
  source: Descriptor,
  as: 'named' | 'by-digest',
): Promise<ConvertedImage> {
  const { from, plan } = conversion;
  const began = performance.now();
  const manifest = parseManifest(
    await from.manifest(source, { signal: plan.signal }),
    `${from.subject}, manifest ${source.digest}`,
  );
  refuseConverted(manifest, from.subject);
  const recorded = await conversion.records.findImage(source, referenceOf(conversion));
  const converted =
    recorded === null
      ? await convertAnew(conversion, source, manifest, as)
      : await reuseImage(conversion, source, manifest, recorded, as);
  forgetLayers(conversion, manifest);
  return { ...converted, report: { ...converted.report, duration: performance.now() - began } };
}

async function convertAnew(
  conversion: Conversion,
  source: Descriptor,
  manifest: Manifest,
  as: 'named' | 'by-digest',
): Promise<ConvertedImage> {
  const { from, to, plan, dictionary, records } = conversion;
  const signal = { signal: plan.signal };
  const config = parseConfig(await from.manifest(manifest.config, signal), `${from.subject}, config`);
  if (config.rootfs.diff_ids.length !== manifest.layers.length) {
    throw new LacunaError('FORMAT', `${manifest.layers.length} layers but ${config.rootfs.diff_ids.length} diff_ids`, {
      op: 'convert',
      subject: from.subject,
    });
  }
  const { layers, referred } = await convertLayers(conversion, manifest, config);
  const merged = mergeLayers(layers, referred, { ...plan, isOfMany: conversion.isOfMany }, from.subject);
  const used = usedOf(layers, referred, merged);
  const blobs = [
    ...used.layers.flatMap(entriesOf),
    ...used.referred.map(({ blob, size }) => blobEntry(`sha256:${blob.id}`, size)),
  ];
  const { made: bootstrap, transfer } = await pushMade(to, plan, plan.signal, 'bootstrap', (upload) =>
    packBootstrapLayer(merged.bootstrap, merged.metas, upload),
  );
  const configBytes = json(lazyConfig(config, used.layers, blobs, bootstrap));
  const configDescriptor = { mediaType: MEDIA.ociConfig, digest: digestOf(configBytes), size: configBytes.length };
  const pushedConfig = await pushBlob(to, configBytes, configDescriptor.digest, plan.signal);
  const reference = referenceOf(conversion);
  const last = bootstrapEntry(bootstrap, used.referred);
  const manifestBytes = json(lazyManifest(source, manifest, configDescriptor, blobs, last, plan.as, reference));
  await dictionary?.verify(referred);
  const ref = as === 'named' ? null : digestOf(manifestBytes);
  const descriptor = await to.pushManifest(manifestBytes, MEDIA.ociManifest, ref, signal);
  const platform = platformOf(source, config);
  const facts = factsOf(source, config, descriptor, manifest, layers, merged, bootstrap);
  records.addImage({ report: facts, platform, size: descriptor.size, reference });
  const layerReports = facts.layers.map((layer, i) => reportLayer(layer, layers[i]!, conversion));
  const parts = [
    ...layerReports.map((layer) => layer.transfer),
    ...used.referred.map(({ access, size }) => transferOf(access, size)),
    transfer,
    transferOf(pushedConfig, configBytes.length),
  ];
  return {
    descriptor,
    platform,
    dictBlobs: dictionary === null ? [] : dictBlobsOf(layers, used.referred),
    report: {
      ...facts,
      layers: layerReports,
      dictionary: referred.filter(({ chunks }) => chunks > 0).map(reportReferred),
      transfer: sumTransfers(parts),
      isReused: false,
      duration: 0,
    },
  };
}

/** Tags the image of an earlier conversion; no blob is copied. */
async function reuseImage(
  { to, plan }: Conversion,
  source: Descriptor,
  manifest: Manifest,
  { entry, descriptor, bytes }: FoundImage,
  as: 'named' | 'by-digest',
): Promise<ConvertedImage> {
  const signal = { signal: plan.signal };
  const isNew = as === 'named' && (await currentDigest(to, plan.signal)) !== descriptor.digest;
  if (isNew) await to.pushManifest(bytes, descriptor.mediaType, null, signal);
  // Of several referrers the newest is taken.
  if (plan.as === 'referrer') await to.pushManifest(bytes, descriptor.mediaType, descriptor.digest, signal);
  const lazy = parseManifest(bytes, to.subject);
  const layers = entry.report.layers.map((layer, i) => ({
    ...layer,
    sourceSize: manifest.layers[i]?.size ?? layer.sourceSize,
    transfer: transferOf('reused', layer.blobSize + layer.metaSize),
    isReused: true,
    duration: 0,
  }));
  const parts = new Map([lazy.config, ...lazy.layers].map(({ digest, size }) => [digest, size]));
  const size = [...parts.values()].reduce((sum, part) => sum + part, 0);
  return {
    descriptor,
    platform: namesPlatform(source) ? source.platform! : entry.platform,
    dictBlobs: [],
    report: {
      ...entry.report,
      layers,
      dictionary: [],
      transfer: transferOf('reused', size),
      isReused: true,
      duration: 0,
    },
  };
}

/** Digest that the target's name points at; null when the name is free. */
async function currentDigest(to: ImageStore, signal: AbortSignal): Promise<string | null> {
  try {
    return (await to.resolve(null, { signal })).digest;
  } catch (error) {
    if (isLacunaError(error) && error.code === 'NOT_FOUND') return null;
    throw error;
  }
}

/** Where the layers are that an image by reference is made of; the path of a directory is useless elsewhere. */
function referenceOf({ from, plan }: Conversion): string | null {
  return plan.ociRef && from.subject.startsWith('docker://') ? from.subject.slice('docker://'.length) : null;
}

/** Layers and blobs of the dictionary as the merged image has them: what upper layers hide is in no file any more. */
function usedOf(layers: readonly PushedLayer[], referred: readonly ReferredBlob[], { blobs }: MergedImage) {
  const used = new Set(blobs);
  const own = new Set(layers.map(({ blob }) => blob?.id));
  const nothing = { blob: null, metaBlob: null };
  return {
    layers: layers.map((layer) => (layer.blob === null || used.has(layer.blob.id) ? layer : { ...layer, ...nothing })),
    // One that a layer has as its own is listed there.
    referred: referred.filter(({ blob }) => used.has(blob.id) && !own.has(blob.id)),
  };
}

/** The platform in its index or its config; an image without one is for any platform, as for engines. */
function platformOf(source: Descriptor, config: ImageConfig): NonNullable<Descriptor['platform']> {
  const named = namesPlatform(source) ? source.platform : platformOfConfig(config);
  if (named != null) return named;
  const { os, architecture } = hostPlatform();
  return { os, architecture };
}

function dictBlobsOf(
  layers: readonly ConvertedLayer[],
  referred: readonly ReferredBlob[],
): ConvertedImage['dictBlobs'] {
  const own = layers.flatMap(({ blob, meta, chunks }) =>
    blob === null ? [] : [{ blob, size: blob.compressedSize, meta, chunks }],
  );
  return [...referred.map(({ blob, size, meta }) => ({ blob, size, meta, chunks: [] })), ...own];
}

function refuseConverted(manifest: Manifest, subject: string): void {
  if (bootstrapLayerOf(manifest) === null) return;
  throw new LacunaError('USAGE', 'the source is a lazy image already', {
    op: 'convert',
    subject,
    hint: 'name the original image; `lacuna inspect` shows what an image is',
  });
}

/** The original config with the layers that the lazy image has. */
function lazyConfig(
  config: ImageConfig,
  layers: readonly ConvertedLayer[],
  blobs: readonly Descriptor[],
  packed: BootstrapLayer,
): ImageConfig {
  const bootstrap = { created_by: 'lacuna convert', comment: 'Nydus Bootstrap Layer' };
  return {
    ...config,
    rootfs: { ...config.rootfs, diff_ids: [...blobs.map(({ digest }) => digest), packed.diffId] },
    history: [
      ...historyOf(config.history ?? [], layers),
      ...blobs.slice(layers.flatMap(entriesOf).length).map(() => ({ comment: 'a blob of the chunk dictionary' })),
      config.created == null ? bootstrap : { created: config.created, ...bootstrap },
    ],
  };
}

/**
 * The history with one entry that is not empty for each blob: layers without file content have none any more. Not every
 * builder writes as many entries as layers, or any; readers that go through both expect it.
 */
function historyOf(history: readonly ImageHistory[], layers: readonly ConvertedLayer[]): ImageHistory[] {
  const rest = [...layers];
  const steps = history.flatMap((entry): ImageHistory[] => {
    if (entry.empty_layer === true) return [entry];
    const layer = rest.shift();
    const [first, ...more] = layer === undefined ? [] : entriesOf(layer);
    if (first === undefined) return [{ ...entry, empty_layer: true }];
    return [entry, ...more.map(() => ({ comment: 'chunk info of the layer before' }))];
  });
  return [...steps, ...rest.flatMap(entriesOf).map(() => ({ comment: 'a layer without history' }))];
}

function lazyManifest(
  source: Descriptor,
  manifest: Manifest,
  config: Descriptor,
  blobs: readonly Descriptor[],
  bootstrap: Descriptor,
  as: TargetForm,
  reference: string | null,
): Manifest {
  return {
    schemaVersion: 2,
    mediaType: MEDIA.ociManifest,
    // It distinguishes the lazy image from the original in an index, and identifies it among referrers.
    ...(as === 'lazy' ? {} : { artifactType: MEDIA.nydusArtifact }),
    config,
    // In layer order, a blob that two layers became twice: as often as the history says. Those of the dictionary are listed
    // because a registry keeps what a manifest lists.
    layers: [...blobs, bootstrap],
    annotations: {
      ...manifest.annotations,
      [ANNOTATION.nydusFsVersion]: '6',
      [ANNOTATION.nydusSourceDigest]: source.digest,
      // The repository of the original layers, as Nydus's tools record it for images by reference.
      ...(reference === null ? {} : { [ANNOTATION.nydusSourceReference]: reference }),
    },
    ...(as === 'referrer'
      ? { subject: { mediaType: source.mediaType, digest: source.digest, size: source.size } }
      : {}),
  };
}

function bootstrapEntry(packed: BootstrapLayer, referred: readonly ReferredBlob[]): Descriptor {
  return {
    mediaType: MEDIA.ociLayerGzip,
    digest: packed.digest,
    size: packed.size,
    annotations: {
      [ANNOTATION.nydusBootstrap]: 'true',
      [ANNOTATION.nydusFsVersion]: '6',
      [ANNOTATION.uncompressed]: packed.diffId,
      ...(referred.length === 0
        ? {}
        : { [ANNOTATION.nydusReferenceBlobIds]: JSON.stringify(referred.map(({ blob }) => blob.id)) }),
    },
  };
}

const reportReferred = (referred: ReferredBlob): DictionaryReport => {
  const { blob, access, chunks, savedBytes, plainBytes } = referred;
  return { blob: `sha256:${blob.id}`, access, chunks, savedBytes, plainBytes };
};

function factsOf(
  source: Descriptor,
  config: ImageConfig,
  descriptor: Descriptor,
  manifest: Manifest,
  layers: readonly ConvertedLayer[],
  merged: MergedImage,
  packed: BootstrapLayer,
): ImageFacts {
  return {
    platform: [config.os, config.architecture, config.variant].filter((part) => part !== undefined).join('/'),
    source: source.digest,
    digest: descriptor.digest,
    layers: layers.map(({ blob, metaBlob, totals }, index) => ({
      source: manifest.layers[index]!.digest,
      sourceSize: manifest.layers[index]!.size,
      blob: blob === null ? null : `sha256:${blob.id}`,
      blobSize: blob?.compressedSize ?? 0,
      meta: metaBlob === null ? null : digestOf(metaBlob),
      metaSize: metaBlob?.length ?? 0,
      chunks: totals.chunks,
      bytes: totals.bytes,
      reusedBytes: totals.reusedBytes,
    })),
    bootstrap: { digest: packed.digest, size: packed.size, plainSize: merged.bootstrap.length },
    blobs: merged.blobs.map((id) => `sha256:${id}`),
  };
}

/** A blob that another layer of this conversion has brought is there already, and is not counted twice. */
function reportLayer(
  facts: LayerFacts,
  { transfer, isReused, duration }: PushedLayer,
  { counted }: Conversion,
): LayerReport {
  const isRepeated = facts.blob !== null && counted.has(facts.blob);
  if (facts.blob !== null) counted.add(facts.blob);
  return {
    ...facts,
    transfer: isRepeated ? transferOf('there', facts.blobSize + facts.metaSize) : transfer,
    isReused,
    duration,
  };
}

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
