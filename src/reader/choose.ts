/** Which manifest of an image is meant: the lazy one for the platform where there is one, else the ordinary one. */
import { isLacunaError, LacunaError } from '../errors.ts';
import { type Descriptor, type Manifest, parseIndex, parseManifest } from '../image/manifest.ts';
import { ANNOTATION, isIndex, isManifest, MEDIA } from '../image/media.ts';
import { formatPlatform, matchPlatform, matchPlatforms, type Platform } from '../image/platform.ts';
import type { ImageStore, SignalOptions } from '../registry/store.ts';

/** A manifest that was read, with its bytes as they are stored. */
export interface ChosenManifest {
  readonly descriptor: Descriptor;
  readonly manifest: Manifest;
  readonly bytes: Buffer;
}

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
   * Whether an ordinary manifest gives way to a lazy one that refers to it: one request more. Default: unless the reference
   * names a digest, which covers its index but not what refers to it.
   */
  readonly referrers?: boolean;
}

/**
 * The manifest that `store`'s reference means on `platform`. An index may hold two for one platform, the original and
 * the lazy one, and only the manifests themselves tell which is which; a lazy one may also refer to the original. NOT_FOUND
 * when there is none.
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

/** None where the list cannot be read: it is an extra, and the image itself may be there all the same. */
async function listReferrers(store: ImageStore, digest: string, options: SignalOptions): Promise<Descriptor[]> {
  try {
    return await store.referrers(digest, MEDIA.nydusArtifact, options);
  } catch (error) {
    if (isLacunaError(error) && error.retryable) return [];
    throw error;
  }
}

async function readManifest(
  store: ImageStore,
  descriptor: Descriptor,
  options: SignalOptions,
): Promise<ChosenManifest> {
  const bytes = await store.manifest(descriptor, options);
  return { descriptor, bytes, manifest: parseManifest(bytes, store.subject) };
}

async function findManifest(store: ImageStore, platform: Platform, options: SignalOptions): Promise<ChosenManifest> {
  const read = (descriptor: Descriptor) => readManifest(store, descriptor, options);
  const descriptor = await store.resolve(null, options);
  if (!isIndex(descriptor.mediaType)) return read(descriptor);
  const index = parseIndex(await store.manifest(descriptor, options), store.subject);
  const fitting = matchPlatforms(index, platform);
  const lone = fitting.length === 0 ? matchPlatform(index, platform) : null;
  const choices = await Promise.all((lone === null ? fitting : [lone]).map(read));
  const chosen = choices.find(({ manifest }) => bootstrapLayerOf(manifest) !== null) ?? choices[0];
  if (chosen !== undefined) return chosen;
  throw new LacunaError('NOT_FOUND', `the image has no manifest for ${formatPlatform(platform)}`, {
    op: 'open',
    subject: store.subject,
    hint: 'choose another one with --platform',
  });
}
