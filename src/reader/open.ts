/**
 * Opens an image for reading without mounting it: a lazy one out of its bootstrap and blobs, an ordinary one out of its
 * layers.
 */
import { hostPlatform, parsePlatform } from '../image/platform.ts';
import { parseReference } from '../image/reference.ts';
import { openStore } from '../registry/open.ts';
import type { ImageStore } from '../registry/store.ts';
import { bootstrapLayerOf, chooseManifest } from './choose.ts';
import type { OpenedImage, OpenImageOptions } from './image.ts';
import { openLayers } from './layers-image.ts';
import { openLazy, openRafsFiles } from './lazy-image.ts';

/** Opens `reference` (`docker://…`, `oci:DIR[:REF]`, `rafs:BOOTSTRAP[,blobs=DIR]`). */
export async function openImage(reference: string, options: OpenImageOptions = {}): Promise<OpenedImage> {
  const parsed = parseReference(reference);
  if (parsed.transport === 'rafs') return openRafsFiles(parsed, reference);
  return await openStored(await openStore(parsed, options.store), options);
}

/** Opens the image that `store`'s reference means. The store belongs to it from then on, also when this fails. */
export async function openStored(store: ImageStore, options: OpenImageOptions = {}): Promise<OpenedImage> {
  try {
    const platform = options.platform === undefined ? hostPlatform() : parsePlatform(options.platform);
    const chosen = await chooseManifest(store, platform, options);
    const layer = bootstrapLayerOf(chosen.manifest);
    return await (layer === null ? openLayers(store, chosen, options) : openLazy(store, chosen, layer, options));
  } catch (error) {
    await store[Symbol.asyncDispose]();
    throw error;
  }
}
