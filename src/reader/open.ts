/**
 * Opens an image for reading without mounting it: a lazy one out of its bootstrap and blobs, an ordinary one out of its
 * layers.
 */
import { hostPlatform, parsePlatform } from '../image/platform.ts';
import { type ImageInput, inputName, type OpenedSource, openSource, referenceOf } from '../registry/source.ts';
import type { OpenedImage, OpenImageOptions } from './image.ts';
import { openLayers } from './layers-image.ts';
import { openLazy, openRafsFiles } from './lazy-image.ts';
import { bootstrapLayerOf, chooseManifest } from './select-manifest.ts';

/** Opens an image (`docker://…`, `oci:DIR[:REF]`, `rafs:BOOTSTRAP[,blobs=DIR]`, …). */
export async function openImage(input: ImageInput, options: OpenImageOptions = {}): Promise<OpenedImage> {
  const reference = referenceOf(input);
  if (reference?.transport === 'rafs') return openRafsFiles(reference, inputName(input));
  return await openStored(await openSource(input, options.store), options);
}

/** Opens the image that a store's reference means. The source belongs to it from then on, also when this fails. */
export async function openStored(source: OpenedSource, options: OpenImageOptions = {}): Promise<OpenedImage> {
  const { store } = source;
  try {
    const platform = options.platform === undefined ? hostPlatform() : parsePlatform(options.platform);
    const chosen = await chooseManifest(store, platform, options);
    const layer = bootstrapLayerOf(chosen.manifest);
    return await (layer === null ? openLayers(source, chosen, options) : openLazy(source, chosen, layer, options));
  } catch (error) {
    await source[Symbol.asyncDispose]();
    throw error;
  }
}
