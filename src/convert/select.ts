/** Selects the manifests of a source to convert. */
import { LacunaError } from '../errors.ts';
import { mayBeImage } from '../image/kind.ts';
import { type Descriptor, parseConfig, parseIndex } from '../image/manifest.ts';
import { isIndex, MEDIA, NYDUS_OS_FEATURE } from '../image/media.ts';
import { formatPlatform, matchPlatform, type Platform, parsePlatform, platformOfConfig } from '../image/platform.ts';
import { type ChosenManifest, imagesOf, listManifests, readManifest } from '../reader/index-images.ts';
import { bootstrapLayerOf, readImage } from '../reader/select-manifest.ts';
import type { ImageStore, SignalOptions } from '../registry/store.ts';

/**
 * The best manifest for each of `platforms`, or with none given every image of an index and of those within it. Lazy images
 * and what is not an image are passed over. NOT_FOUND when nothing is left, or nothing for one of the platforms;
 * UNSUPPORTED when the source is not an image.
 */
export async function selectManifests(
  from: ImageStore,
  original: Descriptor,
  platforms: readonly string[],
  options: SignalOptions,
): Promise<Descriptor[]> {
  const requested = platforms.map(parsePlatform);
  if (!isIndex(original.mediaType)) {
    const { manifest } = await readImage(from, original, options);
    if (requested.length === 0) return [original];
    const platform = platformOfConfig(parseConfig(await from.manifest(manifest.config, options), from.subject));
    const manifests = [platform === null ? original : { ...original, platform }];
    for (const one of requested) {
      if (matchPlatform({ schemaVersion: 2, manifests }, one) === null) throw missing(one, manifests, from);
    }
    return [original];
  }
  const selected = new Map<string, Descriptor>();
  for (const platform of requested.length === 0 ? [null] : requested) {
    const images = (await imagesOf(from, original, platform, options)).filter(isOrdinary);
    if (images.length === 0) throw missing(platform, await listManifests(from, original, options), from);
    for (const { descriptor } of platform === null ? images : images.slice(0, 1)) {
      // linux/arm64 and linux/arm64/v8 are the same manifest.
      selected.set(`${descriptor.digest} ${JSON.stringify(descriptor.platform)}`, descriptor);
    }
  }
  return [...selected.values()];
}

/** Not every lazy image is marked in its index entry; the manifest itself is checked later. */
const isOrdinary = ({ descriptor, manifest }: ChosenManifest): boolean =>
  !isMarkedLazy(descriptor) && bootstrapLayerOf(manifest) === null;

const isMarkedLazy = ({ artifactType, platform }: Descriptor): boolean =>
  artifactType === MEDIA.nydusArtifact || (platform?.['os.features'] ?? []).includes(NYDUS_OS_FEATURE);

/**
 * The entries of a combined index that are not lazy ones: the `selected` images, and of a whole index everything that
 * stands beside them (attestations, artifacts, nested indexes).
 */
export async function originalsOf(
  from: ImageStore,
  original: Descriptor,
  selected: readonly Descriptor[],
  isWhole: boolean,
  options: SignalOptions,
): Promise<Descriptor[]> {
  if (!isIndex(original.mediaType) || !isWhole) return [...selected];
  const { manifests } = parseIndex(await from.manifest(original, options), from.subject);
  const digests = new Set(selected.map(({ digest }) => digest));
  const originals: Descriptor[] = [];
  for (const entry of manifests) {
    if (digests.has(entry.digest)) originals.push(entry);
    else if (isMarkedLazy(entry)) continue;
    else if (!mayBeImage(entry) || isOrdinary(await readManifest(from, entry, options))) originals.push(entry);
  }
  return originals;
}

/** `platform`: null when any would do. */
function missing(platform: Platform | null, listed: readonly Descriptor[], { subject }: ImageStore): LacunaError {
  const purpose = { op: 'convert', subject };
  if (platform === null) return new LacunaError('NOT_FOUND', 'the index has no image that could be converted', purpose);
  const offered = listed
    .filter((entry) => mayBeImage(entry) && !isMarkedLazy(entry))
    .flatMap(({ platform: has }) =>
      has === undefined ? [] : [formatPlatform({ ...has, variant: has.variant ?? null })],
    );
  const hint = `available: ${offered.join(', ') || 'none'}`;
  return new LacunaError('NOT_FOUND', `no image for ${formatPlatform(platform)}`, { ...purpose, hint });
}
