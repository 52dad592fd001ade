/** `inspect`: the parts of an image, from its manifest, config and bootstrap; layers and blobs are not read. */
import type { ImageConfig } from '../image/manifest.ts';
import type { OpenImageOptions } from '../reader/image.ts';
import { openRafsFiles, openStored } from '../reader/lazy-image.ts';
import { openImage } from '../reader/open.ts';
import { type ImageInput, inputName, openSource, referenceOf } from '../registry/source.ts';
import type { ImageStore } from '../registry/store.ts';
import { describeBootstrap, type InspectBootstrapOptions, type InspectedBootstrap } from './bootstrap.ts';
import { type LayerShare, layerShares } from './layer-shares.ts';
import { type InspectedManifest, readManifestAndConfig } from './manifest.ts';
import { type InspectedTag, inspectTag } from './tag.ts';

/** The result of {@link inspect}. */
export interface Inspection {
  /** The reference of the image, as it was given. */
  readonly reference: string;
  /** `lazy`: bootstrap and blobs; `layers`: an ordinary image. */
  readonly kind: 'lazy' | 'layers';
  /** The manifest or index that the reference names; null for bare files. */
  readonly tag: InspectedTag | null;
  /** The manifest that is shown; null for bare files. */
  readonly manifest: InspectedManifest | null;
  /** The image config as it is, null for bare files. */
  readonly config: ImageConfig | null;
  /** Of a lazy image. */
  readonly bootstrap: InspectedBootstrap | null;
  /** Bytes of all layers in the registry; null for bare files. */
  readonly size: number | null;
  /** With `tree`: visible paths by their layer. All layers of an ordinary image are read for it. */
  readonly shares: readonly LayerShare[] | null;
}

/** Options of {@link inspect}. */
export type InspectOptions = OpenImageOptions & InspectBootstrapOptions;

/** Describes an image. Without `tree` and `chunks` memory is bounded by the bootstrap's length and its chunks. */
export async function inspect(input: ImageInput, options: InspectOptions = {}): Promise<Inspection> {
  const parsed = referenceOf(input);
  const reference = inputName(input);
  if (parsed?.transport === 'rafs') {
    await using image = await openRafsFiles(parsed, reference);
    const bootstrap = describeBootstrap(image.rafs!, options);
    return { reference, kind: 'lazy', tag: null, manifest: null, config: null, bootstrap, size: null, shares: null };
  }
  await using source = await openSource(input, options.store);
  const { store } = source;
  const { manifest, config, subject, bootstrap: layer } = await readManifestAndConfig(store, options);
  const opened = layer === null ? null : await openStored(store, manifest.layers, layer, options);
  const bootstrap = opened === null ? null : describeBootstrap(opened.rafs, options);
  const size = manifest.layers.reduce((sum, found) => sum + found.size, 0);
  const tag = await inspectTag(store, { digest: manifest.digest, subject, isLazy: layer !== null }, options);
  const shares = options.tree === true ? await sharesOf(store, options) : null;
  return { reference, kind: layer === null ? 'layers' : 'lazy', tag, manifest, config, bootstrap, size, shares };
}

async function sharesOf(store: ImageStore, options: InspectOptions): Promise<LayerShare[]> {
  await using image = await openImage(store, options);
  return layerShares(image);
}
