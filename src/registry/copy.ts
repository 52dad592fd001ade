/** Copies blobs and whole images between stores; blobs that the target has are not transferred again. */
import { LacunaError } from '../errors.ts';
import { type Descriptor, parseArtifact, parseIndex, parseManifest } from '../image/manifest.ts';
import { isDocument, isIndex, MEDIA } from '../image/media.ts';
import type { BlobUpload, ImageStore, SignalOptions } from './store.ts';
import { uploadBlob } from './upload-blob.ts';

/** Maximum depth of indexes within indexes. */
const MAX_DEPTH = 4;

/** Way in which a blob came into a store: it was there, was mounted from another repository, or was copied. */
export type BlobCopy = 'there' | 'mounted' | 'copied';

export interface CopyOptions extends SignalOptions {
  /** Called for every config and layer, with its size in bytes. */
  readonly onCopy?: (how: BlobCopy, bytes: number) => void;
}

/** Makes sure that `to` has a blob of `from`. NOT_FOUND when neither has it. */
export async function copyBlob(
  from: ImageStore,
  to: ImageStore,
  blob: Descriptor,
  options: SignalOptions = {},
): Promise<BlobCopy> {
  if (await to.has(blob, options)) return 'there';
  if (await to.mountFrom(blob, from, options)) return 'mounted';
  const copy = async (upload: BlobUpload): Promise<void> => {
    for await (const piece of from.open(blob, options)) await upload.write(piece);
    await upload.commit(blob.digest, blob.size);
  };
  await uploadBlob(to, copy, options);
  return 'copied';
}

/**
 * Makes sure that `to` has a manifest of `from` with everything it needs, or an index with all its manifests; `ref` is
 * the name it gets, a tag or its digest, null for the one that the target's reference has.
 */
export async function copyImage(
  from: ImageStore,
  to: ImageStore,
  image: Descriptor,
  ref: string | null,
  options: CopyOptions = {},
): Promise<void> {
  await copyTree(from, to, image, ref, options, 0);
}

async function copyTree(
  from: ImageStore,
  to: ImageStore,
  image: Descriptor,
  ref: string | null,
  options: CopyOptions,
  depth: number,
): Promise<void> {
  // An index may list something that is neither a manifest nor an index: it is copied as a blob.
  if (!isDocument(image.mediaType)) {
    await copyBlob(from, to, image, options);
    return;
  }
  // A manifest is pushed after its parts, so a store that has it has them.
  const isThere = await to.has(image, options);
  if (isThere && ref === image.digest) return;
  const bytes = await from.manifest(image, options);
  if (!isThere && isIndex(image.mediaType)) {
    if (depth === MAX_DEPTH) throw tooDeep(from);
    const { manifests } = parseIndex(bytes, from.subject);
    for (const child of manifests) await copyTree(from, to, child, child.digest, options, depth + 1);
  } else if (!isThere) {
    for (const part of partsOf(bytes, image, from.subject)) {
      // Layers that may not be distributed stay at their urls, and are fetched from there.
      if (part.urls !== undefined && !(await from.has(part, options))) continue;
      // The copy is not an argument of the optional call: without a callback it would not run.
      const how = await copyBlob(from, to, part, options);
      options.onCopy?.(how, part.size);
    }
  }
  await to.pushManifest(bytes, image.mediaType, ref, options);
}

/** The blobs that a manifest names. */
function partsOf(bytes: Buffer, { mediaType }: Descriptor, subject: string): Descriptor[] {
  if (mediaType === MEDIA.ociArtifact) return parseArtifact(bytes, subject).blobs;
  const { config, layers } = parseManifest(bytes, subject);
  return [config, ...layers];
}

const tooDeep = (from: ImageStore): LacunaError =>
  new LacunaError('UNSUPPORTED', `indexes are nested more than ${MAX_DEPTH} levels deep`, {
    op: 'copy',
    subject: from.subject,
  });
