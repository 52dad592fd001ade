/** Entries of a converted layer in the lazy image's manifest: none, one or two. */

import { FEATURE } from '../formats/rafs/layout.ts';
import { digestOf } from '../image/digest.ts';
import type { Descriptor } from '../image/manifest.ts';
import { ANNOTATION, MEDIA } from '../image/media.ts';
import type { ConvertedLayer } from './layer.ts';

/**
 * Its data blob (unless that is a layer of the original image, which `nydus-ref` names then) and the blob with its chunk
 * info, if there is one. All are uncompressed as OCI counts it: each digest is its own diffID.
 */
export function entriesOf({ blob, metaBlob }: ConvertedLayer): Descriptor[] {
  if (blob === null) return [];
  const data = blobEntry(`sha256:${blob.id}`, blob.compressedSize);
  if (metaBlob === null) return [data];
  const isReference = (blob.features & FEATURE.ZRAN) !== 0;
  const ref: Readonly<Record<string, string>> = isReference ? { [ANNOTATION.nydusRef]: data.digest } : {};
  const meta = blobEntry(digestOf(metaBlob), metaBlob.length, ref);
  return isReference ? [meta] : [data, meta];
}

/** A blob that an image has or refers to. */
export const blobEntry = (digest: string, size: number, more: Readonly<Record<string, string>> = {}): Descriptor => ({
  mediaType: MEDIA.nydusBlob,
  digest,
  size,
  annotations: { [ANNOTATION.uncompressed]: digest, [ANNOTATION.nydusBlob]: 'true', ...more },
});
