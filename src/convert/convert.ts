/** `convert SRC DST`: an OCI or Docker image, one platform or an index → a lazy image in another place. */
import { LacunaError } from '../errors.ts';
import { type Descriptor, type Manifest, parseManifest } from '../image/manifest.ts';
import { ANNOTATION } from '../image/media.ts';
import { formatPlatform } from '../image/platform.ts';
import { formatReference, type Reference } from '../image/reference.ts';
import { resolveNamed } from '../registry/named-image.ts';
import { type ImageInput, inputName, openSource, referenceOf } from '../registry/source.ts';
import { type Conversion, countLayers } from './conversion.ts';
import { blobsIn, openDictionary } from './dictionary.ts';
import { type ConvertedImage, convertImage } from './image.ts';
import { type ConvertOptions, planOf, type TargetForm } from './options.ts';
import { recipeOf } from './recipe.ts';
import { Records } from './records.ts';
import type { ImageReport } from './report.ts';
import { selectManifests } from './select.ts';
import { copyOriginal, nameOriginal, publishIndex } from './target.ts';
import { sumTransfers, type Transfer, transferOf } from './transfer.ts';

/** The result of {@link convert}. */
export interface ConvertResult {
  /** The reference that was converted. */
  readonly source: string;
  /** The reference that was written. */
  readonly target: string;
  /** The form of the target. */
  readonly as: TargetForm;
  /**
   * The name that an archive has for the image (`org.opencontainers.image.ref.name`): the target's, or the source's where
   * the target says none. Null elsewhere.
   */
  readonly name: string | null;
  /** The manifest or index that the target's tag points at; for referrers, their subject. */
  readonly digest: string;
  /** One report for each platform. */
  readonly images: readonly ImageReport[];
  /** Of all images, and of what was copied beside them: originals, blobs of dictionaries. */
  readonly transfer: Transfer;
  /** Milliseconds. */
  readonly duration: number;
}

/**
 * Converts and pushes. The target's tag or `index.json` changes last, in one step, or not at all; a referrer is found as
 * soon as it is there. For referrers `target` may be `source` itself.
 */
export async function convert(
  source: ImageInput,
  target: ImageInput,
  options: ConvertOptions = {},
): Promise<ConvertResult> {
  const began = performance.now();
  const plan = planOf(options);
  const signal = { signal: plan.signal };
  const log = { log: plan.log };
  const targetReference = referenceOf(target);
  if (targetReference?.transport === 'docker-archive') throw unloadable(inputName(target));
  await using opened = await openSource(source, { ...log, ...options.source });
  const from = opened.store;
  const original = await resolveNamed(from, signal);
  const platforms = options.platforms ?? [];
  const selected = await selectManifests(from, original, platforms, signal);
  // Only now: a layout is not made for a source that is not there.
  const targetOptions = { ...log, ...options.target };
  const namedTarget = withName(targetReference, original, referenceOf(source));
  await using made = await openSource(namedTarget ?? target, { create: true, ...targetOptions });
  const to = made.store;
  const recipe = recipeOf(plan, options.dicts ?? []);
  const records = await Records.open({ target: targetReference, to, plan, recipe, store: targetOptions });

  await using dictionary = await openDictionary(options.dicts ?? [], to, plan, { ...log, ...options.source });

  const manifests: Manifest[] = [];
  for (const image of selected) manifests.push(parseManifest(await from.manifest(image, signal), from.subject));
  const copied: Transfer[] = [];
  const conversion: Conversion = {
    ...{ from, to, plan, records, dictionary },
    ...{ layers: new Map(), awaited: countLayers(manifests), counted: new Set(), isOfMany: selected.length > 1 },
    onCopy: (how, bytes) => copied.push(transferOf(how, bytes)),
  };
  const isLone = plan.as === 'lazy' && selected.length === 1;
  // A referrer is there for all to find at once, so what it refers to comes first, and its tag last.
  if (plan.as === 'referrer') await copyOriginal(conversion, original);
  const images: ConvertedImage[] = [];
  for (const image of selected) {
    images.push(await convertImage(forImage(conversion, image, selected), image, isLone ? 'named' : 'by-digest'));
  }
  let root: Descriptor = original;
  if (plan.as === 'referrer') await nameOriginal(conversion, original);
  else if (isLone) root = images[0]!.descriptor;
  else root = await publishIndex(conversion, { original, selected, images, isWhole: platforms.length === 0 });
  // Others cannot find a target that only this process has a store of.
  if (targetReference !== null) dictionary?.grow(blobsIn(images, targetReference));
  await records.save();
  const reports = images.map(({ report }) => report);
  return {
    ...{
      source: from.subject,
      target: targetReference === null ? to.subject : formatReference(targetReference),
      as: plan.as,
      digest: root.digest,
    },
    name: namedTarget?.transport === 'oci-archive' ? namedTarget.ref : null,
    images: reports,
    transfer: sumTransfers([...reports.map(({ transfer }) => transfer), ...copied]),
    duration: performance.now() - began,
  };
}

/** An archive without a name for its image has the one of the source: engines do not import an image without a name. */
function withName(target: Reference | null, original: Descriptor, source: Reference | null): Reference | null {
  if (target?.transport !== 'oci-archive' || target.ref !== null) return target;
  if (source?.transport !== 'docker') return { ...target, ref: original.annotations?.[ANNOTATION.refName] ?? null };
  return source.tag === null ? target : { ...target, ref: `${source.host}/${source.repository}:${source.tag}` };
}

/** With several images each progress event names its platform. */
function forImage(conversion: Conversion, { platform }: Descriptor, all: readonly Descriptor[]): Conversion {
  if (all.length === 1 || platform === undefined) return conversion;
  const { onProgress } = conversion.plan;
  const name = formatPlatform({ ...platform, variant: platform.variant ?? null });
  return {
    ...conversion,
    plan: { ...conversion.plan, onProgress: (event) => onProgress({ ...event, platform: name }) },
  };
}

/** Thrown before any work, because the store would refuse the image at the end. */
const unloadable = (target: string): LacunaError =>
  new LacunaError('UNSUPPORTED', 'docker cannot load a lazy image', {
    op: 'convert',
    subject: target,
    hint: 'write an oci-archive:; `lacuna unpack` makes an ordinary image of a lazy one',
  });
