/** One image manifest → one lazy image manifest: the layers, then the merged bootstrap, config and manifest. */
import type { NewBlob } from '../dict/dict.ts';
import type { Access, ReferredBlob } from '../dict/session.ts';
import { LacunaError } from '../errors.ts';
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
import { bootstrapLayerOf } from '../reader/choose.ts';
import { type BootstrapLayer, packBootstrapLayer } from './bootstrap-layer.ts';
import { type Conversion, forgetLayers } from './conversion.ts';
import { blobEntry, entriesOf } from './entries.ts';
import type { ConvertedLayer } from './layer.ts';
import { convertLayers } from './layers.ts';
import { type MergedImage, mergeLayers } from './merge.ts';
import type { TargetForm } from './options.ts';
import { pushBlob, pushMade } from './push.ts';

export interface LayerReport {
  /** The original layer and its compressed bytes. */
  readonly source: string;
  readonly sourceSize: number;
  /** The blob it became, null when it has no file content. */
  readonly blob: string | null;
  readonly blobSize: number;
  /** The blob with its chunk info and its bytes, where that does not lie in the blob itself; else null and 0. */
  readonly meta: string | null;
  readonly metaSize: number;
  readonly chunks: number;
  /** Plain bytes of all its files, and of those that were stored once already. */
  readonly bytes: number;
  readonly reusedBytes: number;
}

export interface ImageReport {
  /** `os/arch[/variant]` as the config says. */
  readonly platform: string;
  readonly source: string;
  /** The lazy manifest. */
  readonly digest: string;
  readonly layers: readonly LayerReport[];
  readonly bootstrap: { readonly digest: string; readonly size: number; readonly plainSize: number };
  readonly blobs: readonly string[];
  /** Blobs of the dictionary that it refers to, in order of what they save. */
  readonly dictionary: readonly DictionaryReport[];
}

/** One blob of other images that chunks of this one lie in. */
export interface DictionaryReport {
  readonly blob: string;
  /** Whether the target had it, got it from a repository of its registry, or got its bytes. */
  readonly access: Access;
  /** Chunks that were not stored again, their stored and their plain bytes. */
  readonly chunks: number;
  readonly savedBytes: number;
  readonly plainBytes: number;
}

export interface ConvertedImage {
  readonly descriptor: Descriptor;
  readonly platform: NonNullable<Descriptor['platform']>;
  readonly report: ImageReport;
  /** What a dictionary that grows is told of it, once the target's place is known. */
  readonly known: ReadonlyArray<Omit<NewBlob, 'places'>>;
}

/**
 * Converts one manifest and pushes it, under the target's own name as the very last step, or by its digest alone when an
 * index will list it or it is found as a referrer.
 */
export async function convertImage(
  conversion: Conversion,
  source: Descriptor,
  as: 'named' | 'by-digest',
): Promise<ConvertedImage> {
  const { from, to, plan, dictionary } = conversion;
  const signal = { signal: plan.signal };
  const manifest = parseManifest(await from.manifest(source, signal), `${from.subject}, manifest ${source.digest}`);
  refuseConverted(manifest, from.subject);
  const config = parseConfig(await from.manifest(manifest.config, signal), `${from.subject}, config`);
  if (config.rootfs.diff_ids.length !== manifest.layers.length) {
    throw new LacunaError('FORMAT', `${manifest.layers.length} layers but ${config.rootfs.diff_ids.length} diff_ids`, {
      op: 'convert',
      subject: from.subject,
    });
  }
  const { layers, referred } = await convertLayers(conversion, manifest, config);
  for (const { metaBlob } of layers) if (metaBlob !== null) await pushBlob(to, metaBlob, digestOf(metaBlob), plan);
  const merged = mergeLayers(layers, referred, plan, from.subject);
  const blobs = [
    ...layers.flatMap(entriesOf),
    ...referred.map(({ blob, size }) => blobEntry(`sha256:${blob.id}`, size)),
  ];
  const bootstrap = await pushMade(to, plan, plan.signal, 'bootstrap', (upload) =>
    packBootstrapLayer(merged.bootstrap, merged.metas, upload),
  );
  const configBytes = json(lazyConfig(config, layers, blobs, bootstrap));
  const configDescriptor = { mediaType: MEDIA.ociConfig, digest: digestOf(configBytes), size: configBytes.length };
  await pushBlob(to, configBytes, configDescriptor.digest, plan);
  // A directory's path means nothing to anybody else.
  const isElsewhere = plan.ociRef && from.subject.startsWith('docker://');
  const reference = isElsewhere ? from.subject.slice('docker://'.length) : null;
  const manifestBytes = json(
    lazyManifest(source, manifest, configDescriptor, blobs, bootstrapEntry(bootstrap, referred), plan.as, reference),
  );
  await dictionary?.verify(referred);
  const ref = as === 'named' ? null : digestOf(manifestBytes);
  const descriptor = await to.pushManifest(manifestBytes, MEDIA.ociManifest, ref, signal);
  const platform = platformOf(source, config);
  const report = reportOf(source, config, descriptor, manifest, layers, merged, bootstrap);
  forgetLayers(conversion, manifest);
  return {
    descriptor,
    platform,
    known: dictionary === null ? [] : knownOf(layers, referred),
    report: { ...report, dictionary: referred.map(reportReferred) },
  };
}

/** As its index or its config says; an image that says it nowhere is for whoever has it, as for engines. */
function platformOf(source: Descriptor, config: ImageConfig): NonNullable<Descriptor['platform']> {
  const named = namesPlatform(source) ? source.platform : platformOfConfig(config);
  if (named != null) return named;
  const { os, architecture } = hostPlatform();
  return { os, architecture };
}

function knownOf(layers: readonly ConvertedLayer[], referred: readonly ReferredBlob[]): ConvertedImage['known'] {
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
  const told = history.flatMap((entry): ImageHistory[] => {
    if (entry.empty_layer === true) return [entry];
    const layer = rest.shift();
    const [first, ...more] = layer === undefined ? [] : entriesOf(layer);
    if (first === undefined) return [{ ...entry, empty_layer: true }];
    return [entry, ...more.map(() => ({ comment: 'chunk info of the layer before' }))];
  });
  return [...told, ...rest.flatMap(entriesOf).map(() => ({ comment: 'a layer without history' }))];
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
    // What tells it from the original in an index, and by what it is found among referrers.
    ...(as === 'lazy' ? {} : { artifactType: MEDIA.nydusArtifact }),
    config,
    // In layer order, a blob that two layers became twice: as often as the history says. Those of the dictionary are listed
    // because a registry keeps what a manifest lists.
    layers: [...blobs, bootstrap],
    annotations: {
      ...manifest.annotations,
      [ANNOTATION.nydusFsVersion]: '6',
      [ANNOTATION.nydusSourceDigest]: source.digest,
      // Where the layers are that it is made of: Nydus's tools say so, and only of such images.
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

function reportOf(
  source: Descriptor,
  config: ImageConfig,
  descriptor: Descriptor,
  manifest: Manifest,
  layers: readonly ConvertedLayer[],
  merged: MergedImage,
  packed: BootstrapLayer,
): Omit<ImageReport, 'dictionary'> {
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

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
