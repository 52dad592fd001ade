/** Selects the manifest of an image: the lazy one for the platform if there is one, else the ordinary one. */
import { isLacunaError, LacunaError } from '../errors.ts';
import { artifactTypeOf, notAnImage } from '../image/kind.ts';
import type { Descriptor, Manifest } from '../image/manifest.ts';
import { ANNOTATION, isIndex, isManifest, MEDIA } from '../image/media.ts';
import { formatPlatform, type Platform } from '../image/platform.ts';
import { resolveNamed } from '../registry/named-image.ts';
import type { ImageStore, SignalOptions } from '../registry/store.ts';
import { type ChosenManifest, imagesOf, readManifest } from './index-images.ts';

export type { ChosenManifest } from './index-images.ts';

/**
 * The layer with the bootstrap, when the image is a lazy one. Converters agree on nothing but the annotation of the
 * last layer; nydusify's merged images may have a config type of their own instead.
 */
export function bootstrapLayerOf(manifest: Manifest): Descriptor | null {
  const last = manifest.layers.at(-1);
  if (last === undefined) return null;
  const isMarked = last.annotations?.[ANNOTATION.nydusBootstrap] === 'true';
  const isNydus = manifest.config.mediaType === MEDIA.nydusConfig || manifest.artifactType === MEDIA.nydusArtifact;
  return isMarked || (isNydus && last.mediaType !== MEDIA.nydusBlob) ? last : null;
}

export interface ChooseOptions extends SignalOptions {
  /**
   * Whether a lazy manifest that refers to an ordinary one replaces it: one request more. Default: unless the reference
   * names a digest, which covers its index but not what refers to it.
   */
  readonly referrers?: boolean;
}

/**
 * The manifest that `store`'s reference means on `platform`. An index may hold two for one platform, the original and
 * the lazy one, which only their manifests distinguish; a lazy one may also refer to the original. NOT_FOUND
 * when there is none, UNSUPPORTED when the reference is not that of an image.
 */
export async function chooseManifest(
  store: ImageStore,
  platform: Platform,
  options: ChooseOptions = {},
): Promise<ChosenManifest> {
  const found = await findManifest(store, platform, options);
  const useReferrers = options.referrers ?? !store.isPinned;
  if (!useReferrers || bootstrapLayerOf(found.manifest) !== null) return found;
  return (await lazyReferrer(store, found.descriptor, options)) ?? found;
}

/** The newest lazy manifest that refers to `original`, as far as the store keeps their order. */
async function lazyReferrer(
  store: ImageStore,
  { digest }: Descriptor,
  options: SignalOptions,
): Promise<ChosenManifest | null> {
  const referrers = await listReferrers(store, digest, options);
  for (const descriptor of referrers.reverse()) {
    if (!isManifest(descriptor.mediaType)) continue;
    const chosen = await readManifest(store, descriptor, options);
    if (bootstrapLayerOf(chosen.manifest) !== null && chosen.manifest.subject?.digest === digest) return chosen;
  }
  return null;
}

/** An unreadable list counts as empty: referrers are optional, and the image itself may still be readable. */
async function listReferrers(store: ImageStore, digest: string, options: SignalOptions): Promise<Descriptor[]> {
  try {
    return await store.referrers(digest, MEDIA.nydusArtifact, options);
  } catch (error) {
    if (isLacunaError(error) && error.retryable) return [];
    throw error;
  }
}

async function findManifest(store: ImageStore, platform: Platform, options: SignalOptions): Promise<ChosenManifest> {
  const descriptor = await resolveNamed(store, options);
  if (!isIndex(descriptor.mediaType)) return await readImage(store, descriptor, options);
  const images = await imagesOf(store, descriptor, platform, options);
  const chosen = images.find(({ manifest }) => bootstrapLayerOf(manifest) !== null) ?? images[0];
  if (chosen !== undefined) return chosen;
  throw new LacunaError('NOT_FOUND', `the image has no manifest for ${formatPlatform(platform)}`, {
    op: 'open',
    subject: store.subject,
    hint: 'choose another one with --platform',
  });
}

/** The manifest of an image. UNSUPPORTED when it is not the manifest of an image. */
export async function readImage(
  store: ImageStore,
  descriptor: Descriptor,
  options: SignalOptions,
): Promise<ChosenManifest> {
  const read = await readManifest(store, descriptor, options);
  const type = artifactTypeOf(read.manifest);
  if (type === null) return read;
  throw notAnImage(type, store.subject);
}
