/** State of one call of `convert`, shared by its images. */
import type { DictSession } from '../dict/session.ts';
import type { Manifest } from '../image/manifest.ts';
import type { BlobCopy } from '../registry/copy.ts';
import type { ImageStore } from '../registry/store.ts';
import type { ConvertedLayer } from './layer.ts';
import type { ConvertPlan } from './options.ts';
import type { Records } from './records.ts';
import type { Transfer } from './transfer.ts';

/** A layer that the target has all of. */
export interface PushedLayer extends ConvertedLayer {
  readonly transfer: Transfer;
  /** Found in the target: it was not read. */
  readonly isReused: boolean;
  /** Milliseconds. */
  readonly duration: number;
}

/**
 * Layers that are being converted or have been, in this conversion: one that several images have, or one image twice, is
 * converted once. With reuse of lower layers' chunks it depends on what lies below, so then it is one image's own.
 */
export type LayerCache = Map<string, Promise<PushedLayer>>;

export interface Conversion {
  readonly from: ImageStore;
  readonly to: ImageStore;
  readonly plan: ConvertPlan;
  readonly layers: LayerCache;
  /** Layer → how many images that are still to be converted have it: {@link layers} keeps no other. */
  readonly awaited: Map<string, number>;
  /** Records of earlier conversions in the target, and of this one. */
  readonly records: Records;
  /** Whether several images are converted, which may share layers. */
  readonly isOfMany: boolean;
  /** Blobs that a layer's report has counted. */
  readonly counted: Set<string>;
  /** Called for every blob of an original that was copied or found in the target. */
  readonly onCopy: (how: BlobCopy, bytes: number) => void;
  /** Null without a dictionary. */
  readonly dictionary: DictSession | null;
}

/** How many of `images` have each layer, by its digest. */
export function countLayers(images: readonly Manifest[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { layers } of images) {
    for (const digest of new Set(layers.map((layer) => layer.digest)))
      counts.set(digest, (counts.get(digest) ?? 0) + 1);
  }
  return counts;
}

/** Lets go of layers that no further image has: their trees are most of a conversion's memory. */
export function forgetLayers({ layers, awaited }: Conversion, converted: Manifest): void {
  for (const digest of countLayers([converted]).keys()) {
    const left = (awaited.get(digest) ?? 1) - 1;
    awaited.set(digest, left);
    if (left > 0) continue;
    for (const key of [...layers.keys()].filter((key) => key.startsWith(`${digest} `))) layers.delete(key);
  }
}
