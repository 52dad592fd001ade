/**
 * `check`: every claim of an image recomputed. Manifests, configs, the bootstrap and the metadata of blobs are read whole; layers
 * and data are only looked up, unless `deep` asks for all of it. All problems are listed, none is thrown; what is thrown says that
 * the image could not be reached.
 */

import { LacunaError } from '../errors.ts';
import { type Descriptor, examineIndex } from '../image/manifest.ts';
import { isIndex } from '../image/media.ts';
import { formatPlatform, matchPlatforms, type Platform, parsePlatform } from '../image/platform.ts';
import type { OnProgress } from '../observe/progress.ts';
import type { OpenImageOptions } from '../reader/image.ts';
import { type ImageInput, inputName, openSource, referenceOf } from '../registry/source.ts';
import type { ImageStore } from '../registry/store.ts';
import { readDocument } from './documents.ts';
import { Findings } from './findings.ts';
import type { BlobOptions } from './place.ts';
import { checkRafsFiles } from './rafs-files.ts';
import { type CheckedImage, type CheckReport, reportOf } from './report.ts';
import { checkStoreImage } from './store-image.ts';

export interface CheckOptions extends Omit<OpenImageOptions, 'digests' | 'referrers'> {
  /** Phase `check`, in bytes of each layer and blob that is read whole. */
  readonly onProgress?: OnProgress;
  /** Read all data: every layer, every chunk. Default false. */
  readonly deep?: boolean;
}

/** Checks an image; of an index every manifest, or those for `options.platform`. */
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
  const named = await store.resolve(null, options);
  if (!isIndex(named.mediaType)) return [await checkStoreImage(store, named, null, findings, options)];
  const about = findings.about(`index ${named.digest}`);
  const index = await readDocument(store, named, examineIndex, about, options);
  if (index === null) return [];
  if (index.mediaType !== undefined && index.mediaType !== named.mediaType) {
    about.error('mediaType', null, `${index.mediaType}, and ${named.mediaType} in what lists it`);
  }
  const wanted = platform === null ? index.manifests : matchPlatforms(index, platform);
  if (wanted.length === 0 && platform !== null) {
    throw new LacunaError('NOT_FOUND', `the image has no manifest for ${formatPlatform(platform)}`, {
      op: 'check',
      subject: store.subject,
    });
  }
  const images: CheckedImage[] = [];
  for (const entry of wanted) {
    // An index in an index: its manifests are somebody else's image.
    if (isIndex(entry.mediaType)) continue;
    images.push(await checkStoreImage(store, entry, platformOf(entry), findings, options));
  }
  return images;
}

const platformOf = ({ platform }: Descriptor): Platform | null =>
  platform === undefined || platform.os === 'unknown'
    ? null
    : { os: platform.os, architecture: platform.architecture, variant: platform.variant ?? null };
