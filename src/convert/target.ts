/**
 * The target of a conversion besides lazy manifests: an index of them, with the originals or without, or the original
 * image.
 */
import { type Descriptor, type Index, parseIndex } from '../image/manifest.ts';
import { ANNOTATION, isIndex, MEDIA, NYDUS_OS_FEATURE } from '../image/media.ts';
import { copyImage } from '../registry/copy.ts';
import type { Conversion } from './conversion.ts';
import type { ConvertedImage } from './image.ts';
import { originalsOf } from './select.ts';

export interface Converted {
  /** The source, a manifest or an index. */
  readonly original: Descriptor;
  /** Its manifests that were converted, and in the same order what they became. */
  readonly selected: readonly Descriptor[];
  readonly images: readonly ConvertedImage[];
  /** Whether all of the source is converted. */
  readonly isWhole: boolean;
}

/** Pushes the index of the lazy manifests, for `as: index` with the originals before them. */
export async function publishIndex(conversion: Conversion, converted: Converted): Promise<Descriptor> {
  const { to, plan } = conversion;
  const { original, images } = converted;
  const isCombined = plan.as === 'index';
  const originals = isCombined ? await copyOriginals(conversion, converted) : [];
  const lazy = images.map(({ descriptor, platform }, at) => {
    if (isCombined) return markedLazy(descriptor, platform);
    const named = converted.selected[at]!.platform;
    return named === undefined ? descriptor : { ...descriptor, platform: named };
  });
  const index: Index = {
    schemaVersion: 2,
    mediaType: MEDIA.ociIndex,
    // Clients that take the first manifest of their platform, as containerd and Docker do, take the original.
    manifests: [...originals, ...lazy],
    annotations: {
      ...(isCombined ? await annotationsOf(conversion, original) : {}),
      [ANNOTATION.nydusSourceDigest]: original.digest,
    },
  };
  const bytes = Buffer.from(JSON.stringify(index));
  return await to.pushManifest(bytes, MEDIA.ociIndex, null, { signal: plan.signal });
}

/** Makes sure that the target has the source as it is. */
export async function copyOriginal({ from, to, plan, onCopy }: Conversion, original: Descriptor): Promise<void> {
  await copyImage(from, to, original, original.digest, { signal: plan.signal, onCopy });
}

/** Gives the original the target's name, unless it has it already. */
export async function nameOriginal({ from, to, plan }: Conversion, original: Descriptor): Promise<void> {
  if (from.subject !== to.subject) await copyImage(from, to, original, null, { signal: plan.signal });
}

async function copyOriginals({ from, to, plan, onCopy }: Conversion, converted: Converted): Promise<Descriptor[]> {
  const { original, selected, images, isWhole } = converted;
  const signal = { signal: plan.signal };
  const entries: Descriptor[] = [];
  for (const entry of await originalsOf(from, original, selected, isWhole, signal)) {
    await copyImage(from, to, entry, entry.digest, { ...signal, onCopy });
    const platform = images[selected.findIndex(({ digest }) => digest === entry.digest)]?.platform ?? entry.platform;
    entries.push(unnamed(platform === undefined ? entry : { ...entry, platform }));
  }
  return entries;
}

/** As both generations of nydusify mark it; engines that know neither mark come to it only behind the original. */
const markedLazy = (descriptor: Descriptor, platform: NonNullable<Descriptor['platform']>): Descriptor => ({
  ...descriptor,
  artifactType: MEDIA.nydusArtifact,
  platform: { ...platform, 'os.features': [...(platform['os.features'] ?? []), NYDUS_OS_FEATURE] },
});

async function annotationsOf({ from, plan }: Conversion, original: Descriptor): Promise<Record<string, string>> {
  if (!isIndex(original.mediaType)) return {};
  return parseIndex(await from.manifest(original, { signal: plan.signal }), from.subject).annotations ?? {};
}

/** Without the name that a layout gave it. */
function unnamed(entry: Descriptor): Descriptor {
  const { annotations, ...rest } = entry;
  const { [ANNOTATION.refName]: _, ...others } = annotations ?? {};
  return Object.keys(others).length === 0 ? rest : { ...rest, annotations: others };
}
