/** One call of `convert`: what all its images have in common. */
import type { DictSession } from '../dict/session.ts';
import type { ImageStore } from '../registry/store.ts';
import type { ConvertedLayer } from './layer.ts';
import type { ConvertPlan } from './options.ts';

/**
 * Layers that are being converted or have been, in this conversion: one that several images have, or one image twice, is
 * converted once. With reuse of lower layers' chunks it depends on what lies below, so then it is one image's own.
 */
export type LayerCache = Map<string, Promise<ConvertedLayer>>;

export interface Conversion {
  readonly from: ImageStore;
  readonly to: ImageStore;
  readonly plan: ConvertPlan;
  readonly layers: LayerCache;
  /** Null without a dictionary. */
  readonly dictionary: DictSession | null;
}
