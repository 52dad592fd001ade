/** Which manifest of an image is pulled: the lazy one for the platform, where there is one. */
import { LacunaError } from '../errors.ts';
import { type Descriptor, type Manifest, parseIndex, parseManifest } from '../image/manifest.ts';
import { ANNOTATION, isIndex, MEDIA } from '../image/media.ts';
import { formatPlatform, matchPlatforms, type Platform } from '../image/platform.ts';
import type { ImageStore } from '../registry/store.ts';

export interface Choice {
  readonly descriptor: Descriptor;
  readonly manifest: Manifest;
  readonly bytes: Buffer;
}

/** Whether the image's last layer is a bootstrap. Neither artifactType nor os.features is set by all converters. */
export const isLazy = (manifest: Manifest): boolean => isBootstrap(manifest.layers.at(-1));

export const isBootstrap = (layer: Descriptor | undefined): boolean =>
  layer?.annotations?.[ANNOTATION.nydusBootstrap] === 'true';

export const isBlob = (layer: Descriptor): boolean =>
  layer.annotations?.[ANNOTATION.nydusBlob] === 'true' || layer.mediaType === MEDIA.nydusBlob;

/**
 * An index may hold two manifests for one platform, the original and the lazy one, and only the manifests themselves
 * tell which is which: all of them are read, at once. NOT_FOUND when there is none for the platform.
 */
export async function chooseManifest(
  store: ImageStore,
  platform: Platform,
  options: { signal?: AbortSignal } = {},
): Promise<Choice> {
  const descriptor = await store.resolve(null, options);
  const bytes = await store.manifest(descriptor, options);
  if (!isIndex(descriptor.mediaType)) return { descriptor, bytes, manifest: parseManifest(bytes, store.subject) };

  const index = parseIndex(bytes, store.subject);
  const fitting = matchPlatforms(index, platform);
  const [only] = index.manifests;
  if (fitting.length === 0 && index.manifests.length === 1 && only?.platform === undefined) fitting.push(only!);
  const choices = await Promise.all(
    fitting.map(async (entry): Promise<Choice> => {
      const content = await store.manifest(entry, options);
      return { descriptor: entry, bytes: content, manifest: parseManifest(content, store.subject) };
    }),
  );
  const chosen = choices.find(({ manifest }) => isLazy(manifest)) ?? choices[0];
  if (chosen !== undefined) return chosen;
  throw new LacunaError('NOT_FOUND', `the image has no manifest for ${formatPlatform(platform)}`, {
    op: 'pull',
    subject: store.subject,
    hint: 'choose another one with --platform',
  });
}
