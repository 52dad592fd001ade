/** `convert SRC DST`: an OCI or Docker image, one platform or an index → a lazy image in another place. */
import { LacunaError } from '../errors.ts';
import { type Descriptor, type Index, parseIndex } from '../image/manifest.ts';
import { ANNOTATION, isIndex, isManifest, MEDIA, NYDUS_OS_FEATURE } from '../image/media.ts';
import { matchPlatform, parsePlatform } from '../image/platform.ts';
import { parseReference } from '../image/reference.ts';
import { openStore } from '../registry/open.ts';
import type { ImageStore } from '../registry/store.ts';
import { convertImage, type ImageReport } from './image.ts';
import { type ConvertOptions, type ConvertPlan, planOf } from './options.ts';

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
  // Only now: a layout is not made for a source that is not there.
  await using to = await openStore(targetReference, { ...log, create: true, ...options.target });
  if (!isIndex(found.mediaType)) {
    const { descriptor, report } = await convertImage(from, to, found, 'named', plan);
    return resultOf(from, to, descriptor, [report]);
  }
  const index = parseIndex(await from.manifest(found, { signal: plan.signal }), from.subject);
  const wanted = wantedManifests(index, options.platforms ?? [], from.subject);
  if (wanted.length === 1) {
    const { descriptor, report } = await convertImage(from, to, wanted[0]!, 'named', plan);
    return resultOf(from, to, descriptor, [report]);
  }
  return convertIndex(from, to, found, wanted, plan);
}

async function convertIndex(
  from: ImageStore,
  to: ImageStore,
  found: Descriptor,
  wanted: readonly Descriptor[],
  plan: ConvertPlan,
): Promise<ConvertResult> {
  const manifests: Descriptor[] = [];
  const reports: ImageReport[] = [];
  for (const source of wanted) {
    const { descriptor, report } = await convertImage(from, to, source, 'by-digest', plan);
    manifests.push(source.platform === undefined ? descriptor : { ...descriptor, platform: source.platform });
    reports.push(report);
  }
  const index: Index = { schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests };
  const annotated = { ...index, annotations: { [ANNOTATION.nydusSourceDigest]: found.digest } };
  const bytes = Buffer.from(JSON.stringify(annotated));
  return resultOf(from, to, await to.pushManifest(bytes, MEDIA.ociIndex, null, { signal: plan.signal }), reports);
}

/** The manifests of an index that are to be converted: the ones for `platforms`, or every original image. */
function wantedManifests(index: Index, platforms: readonly string[], subject: string): Descriptor[] {
  if (platforms.length === 0) {
    const images = index.manifests.filter(isOriginalImage);
    if (images.length > 0) return images;
    throw new LacunaError('NOT_FOUND', 'the index has no image that could be converted', { op: 'convert', subject });
  }
  const originals = { ...index, manifests: index.manifests.filter(isOriginalImage) };
  const matches = platforms.map((platform) => {
    const match = matchPlatform(originals, parsePlatform(platform));
    if (match !== null) return match;
    const offered = originals.manifests.flatMap((entry) =>
      entry.platform === undefined ? [] : [`${entry.platform.os}/${entry.platform.architecture}`],
    );
    throw new LacunaError('NOT_FOUND', `no image for ${platform}`, {
      op: 'convert',
      subject,
      hint: `the index has ${offered.join(', ') || 'no platforms'}`,
    });
  });
  // linux/arm64 and linux/arm64/v8 may mean the same manifest.
  return [...new Set(matches)];
}

/** Not a build attestation (their platform is unknown/unknown), not a nested index, not a lazy image. */
function isOriginalImage(entry: Descriptor): boolean {
  if (!isManifest(entry.mediaType) || entry.platform?.os === 'unknown') return false;
  const features = entry.platform?.['os.features'] ?? [];
  return entry.artifactType !== MEDIA.nydusArtifact && !features.includes(NYDUS_OS_FEATURE);
}

const resultOf = (
  from: ImageStore,
  to: ImageStore,
  descriptor: Descriptor,
  images: readonly ImageReport[],
): ConvertResult => ({ source: from.subject, target: to.subject, digest: descriptor.digest, images });
