/** `convert SRC DST`: an OCI or Docker image, one platform or an index → a lazy image in another place. */
import type { Descriptor, Index } from '../image/manifest.ts';
import { ANNOTATION, MEDIA } from '../image/media.ts';
import { parseReference } from '../image/reference.ts';
import { openStore } from '../registry/open.ts';
import type { ImageStore } from '../registry/store.ts';
import { convertImage, type ImageReport } from './image.ts';
import { type ConvertOptions, type ConvertPlan, planOf } from './options.ts';
import { selectManifests } from './select.ts';

export interface ConvertResult {
  readonly source: string;
  readonly target: string;
  /** What the target's tag points at: a manifest, or an index when several platforms were converted. */
  readonly digest: string;
  readonly images: readonly ImageReport[];
}

/** Converts and pushes. The target's tag or `index.json` changes last, in one step, or not at all. */
export async function convert(source: string, target: string, options: ConvertOptions = {}): Promise<ConvertResult> {
  const plan = planOf(options);
  const log = { log: plan.log };
  const targetReference = parseReference(target);
  await using from = await openStore(parseReference(source), { ...log, ...options.source });
  const found = await from.resolve(null, { signal: plan.signal });
  const selected = await selectManifests(from, found, options.platforms ?? [], { signal: plan.signal });
  // Only now: a layout is not made for a source that is not there.
  await using to = await openStore(targetReference, { ...log, create: true, ...options.target });
  if (selected.length === 1) {
    const { descriptor, report } = await convertImage(from, to, selected[0]!, 'named', plan);
    return resultOf(from, to, descriptor, [report]);
  }
  return convertIndex(from, to, found, selected, plan);
}

async function convertIndex(
  from: ImageStore,
  to: ImageStore,
  found: Descriptor,
  selected: readonly Descriptor[],
  plan: ConvertPlan,
): Promise<ConvertResult> {
  const manifests: Descriptor[] = [];
  const reports: ImageReport[] = [];
  for (const source of selected) {
    const { descriptor, report } = await convertImage(from, to, source, 'by-digest', plan);
    manifests.push(source.platform === undefined ? descriptor : { ...descriptor, platform: source.platform });
    reports.push(report);
  }
  const index: Index = { schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests };
  const annotated = { ...index, annotations: { [ANNOTATION.nydusSourceDigest]: found.digest } };
  const bytes = Buffer.from(JSON.stringify(annotated));
  return resultOf(from, to, await to.pushManifest(bytes, MEDIA.ociIndex, null, { signal: plan.signal }), reports);
}

const resultOf = (
  from: ImageStore,
  to: ImageStore,
  descriptor: Descriptor,
  images: readonly ImageReport[],
): ConvertResult => ({ source: from.subject, target: to.subject, digest: descriptor.digest, images });
