/** Claims of a manifest and its config about each other and about their layers; nothing is fetched. */

import { isDigest, parseDigest } from '../image/digest.ts';
import type { Descriptor, ImageConfig, Manifest } from '../image/manifest.ts';
import { ANNOTATION, layerCompression, MEDIA } from '../image/media.ts';
import type { Platform } from '../image/platform.ts';
import { bootstrapLayerOf } from '../reader/select-manifest.ts';
import type { Findings } from './findings.ts';

const CONFIGS: readonly string[] = [MEDIA.ociConfig, MEDIA.dockerConfig, MEDIA.nydusConfig, MEDIA.ociEmpty];
/** What nydus-fs-version says of RAFS v6. */
const FS_VERSION = '6';

export const isNydusBlob = (layer: Descriptor): boolean =>
  layer.mediaType === MEDIA.nydusBlob || layer.annotations?.[ANNOTATION.nydusBlob] === 'true';

/** `listed`: how an index or tag names the manifest. */
export function checkManifest(manifest: Manifest, listed: Descriptor, findings: Findings): void {
  const { mediaType } = manifest;
  if (mediaType !== undefined && mediaType !== listed.mediaType) {
    findings.error('mediaType', null, `${mediaType}, and ${listed.mediaType} in what lists it`);
  }
  if (!CONFIGS.includes(manifest.config.mediaType) && !isArtifactOf(manifest)) {
    findings.warning('config.mediaType', null, `${manifest.config.mediaType} is no config of an image`);
  }
  const bootstrap = bootstrapLayerOf(manifest);
  const isArtifact = isArtifactOf(manifest);
  for (const [i, layer] of manifest.layers.entries()) {
    checkLayer(layer, i, { isBootstrap: layer === bootstrap, isArtifact }, findings);
  }
  if (bootstrap !== null) checkLazy(manifest, bootstrap, findings);
  else if (manifest.layers.some(isNydusBlob)) {
    const hint = 'the last layer of a lazy image is its bootstrap, and marked as such';
    findings.error(`layers[${manifest.layers.length - 1}].annotations`, null, 'blobs without a bootstrap', { hint });
  }
  for (const name of [ANNOTATION.nydusSourceDigest, ANNOTATION.nydusTargetDigest]) {
    const value = manifest.annotations?.[name];
    if (value !== undefined && !isDigest(value)) findings.error(`annotations.${name}`, null, 'not a digest');
  }
}

/** Whether no layer is one of an image: a signature, a chart, the attestation that BuildKit lists beside an image. */
const isArtifactOf = ({ layers }: Manifest): boolean =>
  layers.length > 0 && layers.every((layer) => !isNydusBlob(layer) && layerCompression(layer.mediaType) === null);

function checkLayer(
  layer: Descriptor,
  index: number,
  { isBootstrap, isArtifact }: { readonly isBootstrap: boolean; readonly isArtifact: boolean },
  findings: Findings,
): void {
  const field = `layers[${index}]`;
  const annotation = (name: string) => `${field}.annotations.${name}`;
  const { annotations = {} } = layer;
  const isBlob = isNydusBlob(layer);
  if (!isArtifact && !isBlob && layerCompression(layer.mediaType) === null) {
    findings.warning(`${field}.mediaType`, null, `${layer.mediaType} is no layer that engines know`);
  }
  if (annotations[ANNOTATION.nydusBootstrap] === 'true' && !isBootstrap) {
    findings.error(annotation(ANNOTATION.nydusBootstrap), null, 'a bootstrap that is not the last layer');
  }
  if (!isBlob) return;
  if (layer.mediaType !== MEDIA.nydusBlob) {
    findings.error(`${field}.mediaType`, null, `${layer.mediaType} for a blob, which is no tar`);
  }
  if (annotations[ANNOTATION.nydusBlob] !== 'true') {
    findings.error(annotation(ANNOTATION.nydusBlob), null, 'missing: Nydus takes the blob for an ordinary layer');
  }
  const said: ReadonlyArray<readonly [string, string]> = [
    [ANNOTATION.nydusBlobDigest, layer.digest],
    [ANNOTATION.nydusBlobSize, String(layer.size)],
  ];
  for (const [name, wanted] of said) {
    const value = annotations[name];
    if (value !== undefined && value !== wanted) findings.error(annotation(name), null, `${value}, not ${wanted}`);
  }
  const ref = annotations[ANNOTATION.nydusRef];
  if (ref !== undefined && !isDigest(ref)) findings.error(annotation(ANNOTATION.nydusRef), null, 'not a digest');
}

function checkLazy(manifest: Manifest, bootstrap: Descriptor, findings: Findings): void {
  const field = `layers[${manifest.layers.length - 1}]`;
  if (bootstrap.annotations?.[ANNOTATION.nydusBootstrap] !== 'true') {
    findings.error(`${field}.annotations.${ANNOTATION.nydusBootstrap}`, null, 'missing: snapshotters do not find it');
  }
  const versions: ReadonlyArray<readonly [string, string | undefined]> = [
    [`${field}.annotations`, bootstrap.annotations?.[ANNOTATION.nydusFsVersion]],
    ['annotations', manifest.annotations?.[ANNOTATION.nydusFsVersion]],
  ];
  for (const [where, version] of versions) {
    if (version !== undefined && version !== FS_VERSION) {
      findings.error(`${where}.${ANNOTATION.nydusFsVersion}`, null, `${JSON.stringify(version)}, not "${FS_VERSION}"`);
    }
  }
}

/** The config against the manifest, and against the platform that an index gives it (null: none does). */
export function checkConfig(
  config: ImageConfig,
  manifest: Manifest,
  platform: Platform | null,
  findings: Findings,
): void {
  if (platform !== null) {
    for (const name of ['os', 'architecture'] as const) {
      if (config[name] !== undefined && config[name] !== platform[name]) {
        findings.error(name, null, `${config[name]}, and ${platform[name]} in the index`);
      }
    }
  }
  const { diff_ids: ids } = config.rootfs;
  const { layers } = manifest;
  if (ids.length !== layers.length) {
    findings.error('rootfs.diff_ids', null, `${ids.length} for ${layers.length} layers`);
  }
  const history = config.history ?? [];
  const told = history.filter(({ empty_layer }) => empty_layer !== true).length;
  if (history.length > 0 && told !== layers.length) {
    // Engines run it all the same: what tells of the layers is `rootfs`.
    findings.warning('history', null, `${told} entries that are not empty for ${layers.length} layers`);
  }
  for (const [i, layer] of layers.entries()) {
    const id = ids[i];
    if (id === undefined) continue;
    const uncompressed = layer.annotations?.[ANNOTATION.uncompressed];
    if (uncompressed !== undefined && uncompressed !== id) {
      findings.error(`rootfs.diff_ids[${i}]`, null, `${id}, and ${uncompressed} in the annotation of layer ${i}`);
    }
    // What is stored uncompressed is its own diff ID. Engines look into a tar whether it is compressed after all.
    if (id === layer.digest || parseDigest(id).algorithm !== parseDigest(layer.digest).algorithm) continue;
    const field = `rootfs.diff_ids[${i}]`;
    if (isNydusBlob(layer)) findings.error(field, null, `${id}, not ${layer.digest}`);
    else if (layerCompression(layer.mediaType) === 'none') {
      findings.warning(field, null, `${id}, not ${layer.digest}: the layer is compressed, or not what the config says`);
    }
  }
}
