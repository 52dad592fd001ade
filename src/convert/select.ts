/** Which manifests of a source are converted. */
import { LacunaError } from '../errors.ts';
import {
  type Descriptor,
  type ImageConfig,
  type Index,
  parseConfig,
  parseIndex,
  parseManifest,
} from '../image/manifest.ts';
import { isIndex, isManifest, MEDIA, NYDUS_OS_FEATURE } from '../image/media.ts';
import { formatPlatform, matchPlatform, matchPlatforms, type Platform, parsePlatform } from '../image/platform.ts';
import { bootstrapLayerOf } from '../reader/choose.ts';
import type { ImageStore, SignalOptions } from '../registry/store.ts';

/**
 * The best manifest for each of `platforms`, or with none given every image of an index. Lazy images, build attestations
 * and nested indexes of an index are passed over. NOT_FOUND when nothing is left, or nothing for one of the platforms.
 */
export async function selectManifests(
  from: ImageStore,
  found: Descriptor,
  platforms: readonly string[],
  options: SignalOptions,
): Promise<Descriptor[]> {
  const wanted = platforms.map(parsePlatform);
  if (!isIndex(found.mediaType)) {
    if (wanted.length === 0) return [found];
    const only = { ...found, platform: await platformOf(from, found, options) };
    const images = { schemaVersion: 2 as const, manifests: [only] };
    for (const platform of wanted) if (matchPlatform(images, platform) === null) throw missing(platform, images, from);
    return [found];
  }
  const index = parseIndex(await from.manifest(found, options), from.subject);
  const images = { ...index, manifests: index.manifests.filter(isImage) };
  const selected: Descriptor[] = [];
  if (wanted.length === 0) {
    for (const entry of images.manifests) if (await isOrdinary(from, entry, options)) selected.push(entry);
  }
  for (const platform of wanted) selected.push(await bestOf(from, images, platform, options));
  if (selected.length === 0) throw notFound('the index has no image that could be converted', from);
  // linux/arm64 and linux/arm64/v8 are the same manifest.
  return [...new Set(selected)];
}

async function bestOf(
  from: ImageStore,
  images: Index,
  platform: Platform,
  options: SignalOptions,
): Promise<Descriptor> {
  const lone = matchPlatform(images, platform);
  const fitting = matchPlatforms(images, platform);
  for (const entry of fitting.length === 0 && lone !== null ? [lone] : fitting) {
    if (await isOrdinary(from, entry, options)) return entry;
  }
  throw missing(platform, images, from);
}

/** Not a build attestation (their platform is unknown/unknown), not a nested index, not marked as a lazy image. */
const isImage = (entry: Descriptor): boolean =>
  isManifest(entry.mediaType) && entry.platform?.os !== 'unknown' && !isMarkedLazy(entry);

const isMarkedLazy = ({ artifactType, platform }: Descriptor): boolean =>
  artifactType === MEDIA.nydusArtifact || (platform?.['os.features'] ?? []).includes(NYDUS_OS_FEATURE);

/** Not every lazy image is marked: then only the manifest tells. */
async function isOrdinary(from: ImageStore, entry: Descriptor, options: SignalOptions): Promise<boolean> {
  return bootstrapLayerOf(parseManifest(await from.manifest(entry, options), from.subject)) === null;
}

async function platformOf(from: ImageStore, found: Descriptor, options: SignalOptions) {
  const manifest = parseManifest(await from.manifest(found, options), from.subject);
  return platformOfConfig(parseConfig(await from.manifest(manifest.config, options), from.subject));
}

/** The platform as an index would name it. */
export const platformOfConfig = ({ os, architecture, variant }: ImageConfig): NonNullable<Descriptor['platform']> =>
  variant === undefined ? { os, architecture } : { os, architecture, variant };

/**
 * The entries of a combined index that are not lazy ones: the `selected` images, and of a whole index also what stands
 * beside them (attestations, nested indexes).
 */
export async function originalsOf(
  from: ImageStore,
  found: Descriptor,
  selected: readonly Descriptor[],
  isWhole: boolean,
  options: SignalOptions,
): Promise<Descriptor[]> {
  if (!isIndex(found.mediaType) || !isWhole) return [...selected];
  const { manifests } = parseIndex(await from.manifest(found, options), from.subject);
  const digests = new Set(selected.map(({ digest }) => digest));
  return manifests.filter((entry) => digests.has(entry.digest) || !(isImage(entry) || isMarkedLazy(entry)));
}

const missing = (platform: Platform, { manifests }: Index, from: ImageStore): LacunaError => {
  const offered = manifests.flatMap(({ platform: has }) =>
    has === undefined ? [] : [formatPlatform({ ...has, variant: has.variant ?? null })],
  );
  return notFound(`no image for ${formatPlatform(platform)}`, from, `there is ${offered.join(', ') || 'none for any'}`);
};

const notFound = (problem: string, from: ImageStore, hint?: string): LacunaError =>
  new LacunaError('NOT_FOUND', problem, {
    op: 'convert',
    subject: from.subject,
    ...(hint === undefined ? {} : { hint }),
  });
