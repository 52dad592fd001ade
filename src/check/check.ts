/**
 * `check`: recomputes every field of an image that can be derived. Manifests, configs, the bootstrap and the metadata of
 * blobs are read whole; of layers and data only presence and size are checked, unless `deep` is set. Problems of the image
 * are listed; errors are thrown only when the image cannot be reached.
 */

import { LacunaError } from '../errors.ts';
import { type Descriptor, examineIndex } from '../image/manifest.ts';
import { isIndex } from '../image/media.ts';
import { formatPlatform, matchPlatforms, namesPlatform, type Platform, parsePlatform } from '../image/platform.ts';
import type { OnProgress } from '../observe/progress.ts';
import type { OpenImageOptions } from '../reader/image.ts';
import { imagesOf, MAX_ENTRIES, MAX_NESTING } from '../reader/index-images.ts';
import { readImage } from '../reader/select-manifest.ts';
import { resolveNamed } from '../registry/named-image.ts';
import { type ImageInput, inputName, openSource, referenceOf } from '../registry/source.ts';
import type { ImageStore } from '../registry/store.ts';
import type { BlobOptions } from './blob-location.ts';
import { readDocument } from './documents.ts';
import { Findings } from './findings.ts';
import { checkRafsFiles } from './rafs-files.ts';
import { type CheckedImage, type CheckReport, reportOf } from './report.ts';
import { checkStoreImage } from './store-image.ts';

/** Options of {@link check}. */
export interface CheckOptions extends Omit<OpenImageOptions, 'digests' | 'referrers'> {
  /** Phase `check`, in bytes of each layer and blob that is read whole. */
  readonly onProgress?: OnProgress;
  /** Read all data: every layer, every chunk. Default false. */
  readonly deep?: boolean;
}

/**
 * Checks an image; of an index every manifest, or those for `options.platform`. Throws UNSUPPORTED when the reference does
 * not name an image.
 */
export async function check(input: ImageInput, options: CheckOptions = {}): Promise<CheckReport> {
  const parsed = referenceOf(input);
  const reference = inputName(input);
  const findings = new Findings(reference);
  const { deep = false, signal = new AbortController().signal, onProgress } = options;
  const how = { deep, signal, ...(onProgress === undefined ? {} : { onProgress }) };
  if (parsed?.transport === 'rafs') {
    const image = await checkRafsFiles(parsed, findings, how);
    return reportOf(reference, deep, findings, [image]);
  }
  const platform = options.platform === undefined ? null : parsePlatform(options.platform);
  await using source = await openSource(input, options.store);
  const images = await checkStore(source.store, platform, findings, how);
  return reportOf(reference, deep, findings, images);
}

async function checkStore(
  store: ImageStore,
  platform: Platform | null,
  findings: Findings,
  options: BlobOptions,
): Promise<CheckedImage[]> {
  const named = await resolveNamed(store, options);
  if (!isIndex(named.mediaType)) {
    const image = await checkStoreImage(store, named, null, findings, options);
    if (image.kind === 'artifact') await readImage(store, named, options);
    return [image];
  }
  const listed = await checkIndex(store, named, findings, options);
  const selected = platform === null ? listed : await fitting(store, named, listed, platform, options);
  const images: CheckedImage[] = [];
  for (const entry of selected) images.push(await checkStoreImage(store, entry, platformOf(entry), findings, options));
  return images;
}

/** Checks an index and returns the manifests that it and its nested indexes list. */
async function checkIndex(
  store: ImageStore,
  named: Descriptor,
  findings: Findings,
  options: BlobOptions,
  budget: { depth: number; entries: number } = { depth: MAX_NESTING, entries: MAX_ENTRIES },
): Promise<Descriptor[]> {
  const indexFindings = findings.forSubject(`index ${named.digest}`);
  const index = await readDocument(store, named, examineIndex, indexFindings, options);
  if (index === null) return [];
  if (index.mediaType !== undefined && index.mediaType !== named.mediaType) {
    indexFindings.error('mediaType', null, `${index.mediaType}, but ${named.mediaType} in its descriptor`);
  }
  budget.entries -= index.manifests.length;
  if (budget.entries < 0) {
    indexFindings.warning('manifests', null, `not checked: the indexes have more than ${MAX_ENTRIES} entries`);
    return [];
  }
  const listed: Descriptor[] = [];
  budget.depth -= 1;
  for (const entry of index.manifests) {
    if (!isIndex(entry.mediaType)) listed.push(entry);
    else if (budget.depth > 0) listed.push(...(await checkIndex(store, entry, findings, options, budget)));
    else
      indexFindings.warning(
        'manifests',
        null,
        `not checked: ${entry.digest} is nested more than ${MAX_NESTING} levels deep`,
      );
  }
  budget.depth += 1;
  return listed;
}

async function fitting(
  store: ImageStore,
  named: Descriptor,
  listed: Descriptor[],
  platform: Platform,
  options: BlobOptions,
): Promise<Descriptor[]> {
  const matching = matchPlatforms({ schemaVersion: 2, manifests: listed }, platform);
  if (matching.length > 0) return matching;
  const images = await imagesOf(store, named, platform, options);
  if (images.length > 0) return images.map(({ descriptor }) => descriptor);
  throw new LacunaError('NOT_FOUND', `the image has no manifest for ${formatPlatform(platform)}`, {
    op: 'check',
    subject: store.subject,
  });
}

const platformOf = (entry: Descriptor): Platform | null => {
  const { platform } = entry;
  if (platform === undefined || !namesPlatform(entry) || platform.os === 'unknown') return null;
  return { os: platform.os, architecture: platform.architecture, variant: platform.variant ?? null };
};
