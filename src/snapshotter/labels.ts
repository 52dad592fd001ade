/** Reads containerd's labels of a layer that is being prepared, and verifies its chain ID. Pure. */
import { createHash } from 'node:crypto';
import { LacunaError } from '../errors.ts';
import { ANNOTATION } from '../image/media.ts';
import type { Labels } from './info.ts';

/** containerd passes a layer's annotations on as labels when they begin with `containerd.io/snapshot/`. */
export const LABEL = {
  /** Chain ID under which the unpacked layer will be committed. */
  ref: 'containerd.io/snapshot.ref',
  // Labels of containerd's pkg/snapshotters: sent by CRI, by the transfer service (if configured) and by `lacuna pull`.
  imageRef: 'containerd.io/snapshot/cri.image-ref',
  imageLayers: 'containerd.io/snapshot/cri.image-layers',
  layerDigest: 'containerd.io/snapshot/cri.layer-digest',
  manifestDigest: 'containerd.io/snapshot/cri.manifest-digest',
  blob: ANNOTATION.nydusBlob,
  bootstrap: ANNOTATION.nydusBootstrap,
} as const;

/** A layer that need not be unpacked. */
export interface LazyLayer {
  readonly kind: 'blob' | 'bootstrap';
  readonly chainId: string;
  /** A `docker://` reference without its transport. */
  readonly image: string;
  readonly digest: string;
  /** Empty when containerd did not send it. */
  readonly manifestDigest: string;
}

/** Null for a layer that is unpacked as usual. PRECONDITION when it is lazy and its labels do not name its image. */
export function lazyLayerOf(labels: Labels): LazyLayer | null {
  const chainId = labels[LABEL.ref];
  if (chainId === undefined) return null;
  const kind = labels[LABEL.bootstrap] === 'true' ? 'bootstrap' : labels[LABEL.blob] === 'true' ? 'blob' : null;
  if (kind === null) return null;
  const image = labels[LABEL.imageRef];
  const digest = labels[LABEL.layerDigest];
  if (image !== undefined && digest !== undefined) {
    return { kind, chainId, image, digest, manifestDigest: labels[LABEL.manifestDigest] ?? '' };
  }
  throw new LacunaError('PRECONDITION', 'a layer of a lazy image came without the label that names its image', {
    op: 'prepare snapshot',
    subject: chainId,
    hint: PULL_HINT,
  });
}

export const PULL_HINT =
  'pull with `lacuna pull`, or let containerd send the labels: disable_snapshot_annotations = false for CRI, ' +
  'enable_remote_snapshot_annotations = "true" among the exports of the proxy plugin for the transfer service';

/**
 * The label in which containerd's content store lists the repositories that content was fetched from, separated by commas
 * (docker.AppendDistributionSourceLabel), without the port of the registry.
 */
export const sourceLabel = (host: string): string =>
  `containerd.io/distribution.source.${host.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')}`;

/** image-spec config.md, "Layer ChainID". `parent` null: the lowest layer. */
export function chainIdOf(parent: string | null, diffId: string): string {
  if (parent === null) return diffId;
  return `sha256:${createHash('sha256').update(`${parent} ${diffId}`).digest('hex')}`;
}

/**
 * Refuses a layer whose content does not match its chain ID. containerd checks unpacked layers in the same way; without
 * this check an image could put its own files under the name of another image's layer.
 */
export function assertChainId(layer: LazyLayer, parentLabels: Labels | null, diffId: string): void {
  const parent = parentLabels === null ? null : parentLabels[LABEL.ref];
  if (parent !== undefined && chainIdOf(parent, diffId) === layer.chainId) return;
  throw new LacunaError('DIGEST_MISMATCH', `layer ${layer.digest} does not match its diff ID in the image's config`, {
    op: 'prepare snapshot',
    subject: layer.image,
  });
}
