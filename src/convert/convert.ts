/** `convert SRC DST`: an OCI or Docker image, one platform or an index → a lazy image in another place. */
import { LacunaError } from '../errors.ts';
import { type Descriptor, type Manifest, parseManifest } from '../image/manifest.ts';
import { type ImageInput, inputName, openSource, referenceOf } from '../registry/source.ts';
import { countLayers } from './conversion.ts';
import { blobsIn, openDictionary } from './dictionary.ts';
import { type ConvertedImage, convertImage, type ImageReport } from './image.ts';
import { type ConvertOptions, planOf, type TargetForm } from './options.ts';
import { selectManifests } from './select.ts';
import { bringOriginal, nameOriginal, publishIndex } from './target.ts';

export interface ConvertResult {
  readonly source: string;
  readonly target: string;
  readonly as: TargetForm;
  /** What the target's tag points at: a manifest, or an index; of referrers, what they refer to. */
  readonly digest: string;
  readonly images: readonly ImageReport[];
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
  const plan = planOf(options);
  const signal = { signal: plan.signal };
  const log = { log: plan.log };
  const targetReference = referenceOf(target);
  if (targetReference?.transport === 'docker-archive') throw unloadable(inputName(target));
  await using opened = await openSource(source, { ...log, ...options.source });
  const from = opened.store;
  const found = await from.resolve(null, signal);
  const platforms = options.platforms ?? [];
  const selected = await selectManifests(from, found, platforms, signal);
  // Only now: a layout is not made for a source that is not there.
  await using made = await openSource(target, { ...log, create: true, ...options.target });
  const to = made.store;

  await using dictionary = await openDictionary(options.dicts ?? [], to, plan, { ...log, ...options.source });

  const manifests: Manifest[] = [];
  for (const image of selected) manifests.push(parseManifest(await from.manifest(image, signal), from.subject));
  const conversion = { from, to, plan, layers: new Map(), awaited: countLayers(manifests), dictionary };
  const isLone = plan.as === 'lazy' && selected.length === 1;
  // A referrer is there for all to find at once, so what it refers to comes first, and its tag last.
  if (plan.as === 'referrer') await bringOriginal(conversion, found);
  const images: ConvertedImage[] = [];
  for (const image of selected) images.push(await convertImage(conversion, image, isLone ? 'named' : 'by-digest'));
  let root: Descriptor = found;
  if (plan.as === 'referrer') await nameOriginal(conversion, found);
  else if (isLone) root = images[0]!.descriptor;
  else root = await publishIndex(conversion, { found, selected, images, isWhole: platforms.length === 0 });
  // A place that only this process has a store of is none that others can find.
  if (targetReference !== null) dictionary?.grow(blobsIn(images, targetReference));
  const reports = images.map(({ report }) => report);
  return { source: from.subject, target: to.subject, as: plan.as, digest: root.digest, images: reports };
}

/** Before any work: what the store would say at its end. */
const unloadable = (target: string): LacunaError =>
  new LacunaError('UNSUPPORTED', 'docker cannot load a lazy image', {
    op: 'convert',
    subject: target,
    hint: 'write an oci-archive:; `lacuna unpack` makes an ordinary image of a lazy one',
  });
