/** Checks of a manifest and its config against each other and their layers. Nothing is fetched. */

import { isDigest, parseDigest } from '../image/digest.ts';
import type { Descriptor, ImageConfig, Manifest } from '../image/manifest.ts';
import { ANNOTATION, layerCompression, MEDIA } from '../image/media.ts';
import type { Platform } from '../image/platform.ts';
import { bootstrapLayerOf } from '../reader/select-manifest.ts';
import type { Findings } from './findings.ts';

const CONFIGS: readonly string[] = [MEDIA.ociConfig, MEDIA.dockerConfig, MEDIA.nydusConfig, MEDIA.ociEmpty];
/** Value of the annotation nydus-fs-version for RAFS v6. */
const FS_VERSION = '6';

export const isNydusBlob = (layer: Descriptor): boolean =>
  layer.mediaType === MEDIA.nydusBlob || layer.annotations?.[ANNOTATION.nydusBlob] === 'true';

/** Checks a manifest. `listed`: its descriptor in an index or of a tag. */
export function checkManifest(manifest: Manifest, listed: Descriptor, findings: Findings): void {
  const { mediaType } = manifest;
  if (mediaType !== undefined && mediaType !== listed.mediaType) {
    findings.error('mediaType', null, `${mediaType}, but ${listed.mediaType} in its descriptor`);
  }
  if (!CONFIGS.includes(manifest.config.mediaType) && !isArtifactOf(manifest)) {
    findings.warning('config.mediaType', null, `${manifest.config.mediaType} is not the media type of an image config`);
  }
  const bootstrap = bootstrapLayerOf(manifest);
  const isArtifact = isArtifactOf(manifest);
  for (const [i, layer] of manifest.layers.entries()) {
    checkLayer(layer, i, { isBootstrap: layer === bootstrap, isArtifact }, findings);
  }
  if (bootstrap !== null) checkLazy(manifest, bootstrap, findings);
  else if (manifest.layers.some(isNydusBlob)) {
    const hint = 'the last layer of a lazy image must be its bootstrap, with the bootstrap annotation';
    findings.error(`layers[${manifest.layers.length - 1}].annotations`, null, 'the image has blobs but no bootstrap', {
      hint,
    });
  }
  for (const name of [ANNOTATION.nydusSourceDigest, ANNOTATION.nydusTargetDigest]) {
    const value = manifest.annotations?.[name];
    if (value !== undefined && !isDigest(value)) findings.error(`annotations.${name}`, null, 'not a digest');
  }
}

/** Whether no layer is an image layer, as in a signature, a chart, or an attestation that BuildKit lists beside an image. */
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
    findings.warning(
      `${field}.mediaType`,
      null,
      `${layer.mediaType} is not a layer media type that container engines support`,
    );
  }
  if (annotations[ANNOTATION.nydusBootstrap] === 'true' && !isBootstrap) {
    findings.error(annotation(ANNOTATION.nydusBootstrap), null, 'the bootstrap must be the last layer');
  }
  if (!isBlob) return;
  if (layer.mediaType !== MEDIA.nydusBlob) {
    findings.error(
      `${field}.mediaType`,
      null,
      `${layer.mediaType} is the media type of a tar, but the layer is a blob`,
    );
  }
  if (annotations[ANNOTATION.nydusBlob] !== 'true') {
    findings.error(annotation(ANNOTATION.nydusBlob), null, 'missing: Nydus treats the blob as an ordinary layer');
  }
  const said: ReadonlyArray<readonly [string, string]> = [
    [ANNOTATION.nydusBlobDigest, layer.digest],
    [ANNOTATION.nydusBlobSize, String(layer.size)],
  ];
  for (const [name, expected] of said) {
    const value = annotations[name];
    if (value !== undefined && value !== expected) findings.error(annotation(name), null, `${value}, not ${expected}`);
  }
  const ref = annotations[ANNOTATION.nydusRef];
  if (ref !== undefined && !isDigest(ref)) findings.error(annotation(ANNOTATION.nydusRef), null, 'not a digest');
}

function checkLazy(manifest: Manifest, bootstrap: Descriptor, findings: Findings): void {
  const field = `layers[${manifest.layers.length - 1}]`;
  if (bootstrap.annotations?.[ANNOTATION.nydusBootstrap] !== 'true') {
    findings.error(
      `${field}.annotations.${ANNOTATION.nydusBootstrap}`,
      null,
      'missing: snapshotters cannot find the bootstrap',
    );
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

/** Checks the config against the manifest, and against the platform in the index (null: the index has none). */
export function checkConfig(
  config: ImageConfig,
  manifest: Manifest,
  platform: Platform | null,
  findings: Findings,
): void {
  if (platform !== null) {
    for (const name of ['os', 'architecture'] as const) {
      if (config[name] !== undefined && config[name] !== platform[name]) {
        findings.error(name, null, `${config[name]}, but ${platform[name]} in the index`);
      }
    }
  }
  const { diff_ids: ids } = config.rootfs;
  const { layers } = manifest;
  if (ids.length !== layers.length) {
    findings.error('rootfs.diff_ids', null, `${ids.length} diff IDs do not match ${layers.length} layers`);
  }
  const history = config.history ?? [];
  const layerCount = history.filter(({ empty_layer }) => empty_layer !== true).length;
  if (history.length > 0 && layerCount !== layers.length) {
    // Container engines run the image all the same: they use `rootfs`.
    findings.warning('history', null, `${layerCount} entries with a layer do not match ${layers.length} layers`);
  }
  for (const [i, layer] of layers.entries()) {
    const id = ids[i];
    if (id === undefined) continue;
    const uncompressed = layer.annotations?.[ANNOTATION.uncompressed];
    if (uncompressed !== undefined && uncompressed !== id) {
      findings.error(`rootfs.diff_ids[${i}]`, null, `${id}, but ${uncompressed} in the annotation of layer ${i}`);
    }
    // The digest of an uncompressed layer is its diff ID. Container engines detect compression by content, so only warn.
    if (id === layer.digest || parseDigest(id).algorithm !== parseDigest(layer.digest).algorithm) continue;
    const field = `rootfs.diff_ids[${i}]`;
    if (isNydusBlob(layer)) findings.error(field, null, `${id}, not ${layer.digest}`);
    else if (layerCompression(layer.mediaType) === 'none') {
      findings.warning(field, null, `${id}, not ${layer.digest}: the layer is compressed, or the diff ID is wrong`);
    }
  }
}
