/** The images of an index and of the indexes nested in it, without other kinds of manifests. */
import { LacunaError } from '../errors.ts';
import { artifactTypeOf, mayBeImage, notAnImage } from '../image/kind.ts';
import { type Descriptor, type Manifest, parseConfig, parseIndex, parseManifest } from '../image/manifest.ts';
import { isIndex } from '../image/media.ts';
import { matchPlatform, matchPlatforms, namesPlatform, type Platform, platformOfConfig } from '../image/platform.ts';
import type { ImageStore, SignalOptions } from '../registry/store.ts';
import { ahead } from './map-ordered.ts';

/** Indexes within indexes. */
export const MAX_NESTING = 4;
/** Entries of an index and of all those within it. */
export const MAX_ENTRIES = 4096;
/** Bytes of all manifests that an index and those within it list, each once. */
export const MAX_LISTED_SIZE = 256 * 1024 * 1024;
/** Manifests that are read at once. */
const READ_AHEAD = 4;

/** A manifest that was read, with its bytes as they are stored. */
export interface ChosenManifest {
  /** The descriptor of the manifest. */
  readonly descriptor: Descriptor;
  /** The parsed manifest. */
  readonly manifest: Manifest;
  /** The manifest as it is stored. */
  readonly bytes: Buffer;
}

export async function readManifest(
  store: ImageStore,
  descriptor: Descriptor,
  options: SignalOptions,
): Promise<ChosenManifest> {
  const bytes = await store.manifest(descriptor, options);
  return { descriptor, bytes, manifest: parseManifest(bytes, store.subject) };
}

/**
 * Everything that an index lists which is not an index itself, in its order. What a nested index lists stands in its place,
 * for its platform where the entry names none. UNSUPPORTED beyond {@link MAX_NESTING}, {@link MAX_ENTRIES}
 * and {@link MAX_LISTED_SIZE}.
 */
export async function listManifests(
  store: ImageStore,
  index: Descriptor,
  options: SignalOptions,
): Promise<Descriptor[]> {
  const listed: Descriptor[] = [];
  /** Entries of each index that was read, as one may be listed more than once. */
  const indexes = new Map<string, readonly Descriptor[]>();
  let seen = 0;
  const walk = async (parent: Descriptor, depth: number): Promise<void> => {
    if (depth === MAX_NESTING) throw tooNested(`indexes are nested more than ${MAX_NESTING} deep`, store);
    const key = `${parent.digest} ${parent.size}`;
    const manifests = indexes.get(key) ?? parseIndex(await store.manifest(parent, options), store.subject).manifests;
    indexes.set(key, manifests);
    seen += manifests.length;
    if (seen > MAX_ENTRIES)
      throw tooNested(`an index and those within it have more than ${MAX_ENTRIES} entries`, store);
    for (const entry of manifests) {
      const inherited = parent.platform === undefined ? entry : { platform: parent.platform, ...entry };
      if (isIndex(entry.mediaType)) await walk(inherited, depth + 1);
      else listed.push(inherited);
    }
  };
  await walk(index, 0);
  const size = [...new Map(listed.map((entry) => [entry.digest, entry.size])).values()].reduce(
    (sum, it) => sum + it,
    0,
  );
  if (size > MAX_LISTED_SIZE)
    throw tooNested(`the manifests of an index have ${size} bytes, more than ${MAX_LISTED_SIZE}`, store);
  return listed;
}

/**
 * The images that an index lists, ordinary and lazy ones: for `platform` the best first, for null all in order. Manifests
 * are read until it is certain; a lone image that names no platform is for every one. UNSUPPORTED when the index lists
 * something, and no image at all.
 */
export async function imagesOf(
  store: ImageStore,
  index: Descriptor,
  platform: Platform | null,
  options: SignalOptions,
): Promise<ChosenManifest[]> {
  const listed = await listManifests(store, index, options);
  const candidates = listed.filter(mayBeImage);
  const fitting = platform === null ? candidates : matchPlatforms(indexOf(candidates), platform);
  const images = await readImages(store, fitting, options);
  if (images.length > 0) return images;
  const unnamed = await readImages(
    store,
    candidates.filter((entry) => !namesPlatform(entry)),
    options,
  );
  const hasNamed = candidates.some(namesPlatform);
  if (!hasNamed && unnamed.length === 0 && listed.length > 0) throw notAnImage(describe(listed), store.subject);
  if (platform === null || (!hasNamed && unnamed.length === 1)) return unnamed;
  return await matchConfigs(store, unnamed, platform, options);
}

async function readImages(
  store: ImageStore,
  entries: readonly Descriptor[],
  options: SignalOptions,
): Promise<ChosenManifest[]> {
  const images: ChosenManifest[] = [];
  // An index may list one manifest under many platforms.
  const readings = new Map<string, Promise<ChosenManifest>>();
  const readOnce = async (entry: Descriptor): Promise<ChosenManifest> => {
    const key = `${entry.digest} ${entry.size}`;
    const reading = readings.get(key) ?? readManifest(store, entry, options);
    readings.set(key, reading);
    return { ...(await reading), descriptor: entry };
  };
  for await (const read of ahead(entries, READ_AHEAD, readOnce)) {
    if (artifactTypeOf(read.manifest) === null) images.push(read);
  }
  return images;
}

/** The images for `platform` according to their configs. */
async function matchConfigs(
  store: ImageStore,
  images: readonly ChosenManifest[],
  platform: Platform,
  options: SignalOptions,
): Promise<ChosenManifest[]> {
  const fitting: ChosenManifest[] = [];
  for (const image of images) {
    const config = parseConfig(await store.manifest(image.manifest.config, options), store.subject);
    const named = platformOfConfig(config);
    const descriptor = named === null ? image.descriptor : { ...image.descriptor, platform: named };
    if (matchPlatform(indexOf([descriptor]), platform) !== null) fitting.push({ ...image, descriptor });
  }
  return fitting;
}

const indexOf = (manifests: Descriptor[]) => ({ schemaVersion: 2 as const, manifests });

const describe = (listed: readonly Descriptor[]): string => {
  const types = new Set(listed.map(({ artifactType, mediaType }) => artifactType ?? mediaType));
  return `an index of ${[...types].slice(0, 4).join(', ')}`;
};

const tooNested = (problem: string, { subject }: ImageStore): LacunaError =>
  new LacunaError('UNSUPPORTED', `${subject}: ${problem}`, { op: 'read index', subject });
