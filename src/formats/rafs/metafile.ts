/** Location of the stored chunk info of a blob, and the decoder of its bytes to the plain `blob.meta`. */
import { createHash } from 'node:crypto';
import { FormatError } from '../../errors.ts';
import type { Codec } from '../../native/codec.ts';
import { metaNameOf, type RafsBlob } from './blob.ts';
import { MAX_META_SIZE } from './limits.ts';
import { checkMetaHeader, metaRange, unpackMeta } from './meta.ts';

/** Range to read: a part of the blob, or the whole separate file, which has a digest. */
export interface MetaPlace {
  /** Hex digest that names the blob or file, and its length in bytes. */
  readonly id: string;
  readonly fileSize: number;
  readonly offset: number;
  readonly size: number;
}

/** Location of the stored chunk info. Throws FormatError when the values of the blob table are impossible. */
export function metaPlaceOf(blob: RafsBlob, subject: string): MetaPlace {
  const { offset, size } = metaRange(blob);
  const id = metaNameOf(blob);
  const isOwn = blob.metaDigest !== null;
  if (isOwn && offset + size > blob.metaSize) {
    throw new FormatError('blob_meta_size', `${blob.metaSize} bytes, but the chunk info ends at ${offset + size}`, {
      subject,
    });
  }
  const place = isOwn
    ? { id, fileSize: blob.metaSize, offset: 0, size: blob.metaSize }
    : { id, fileSize: blob.compressedSize, offset, size };
  if (place.size <= MAX_META_SIZE) return place;
  throw new FormatError('ci_compressed_size', `${place.size} bytes exceed the maximum of ${MAX_META_SIZE} bytes`, {
    subject,
  });
}

/** Decodes `stored`, the bytes of {@link metaPlaceOf}. Throws FormatError when they do not match the blob table. */
export async function openMetaFile(stored: Buffer, blob: RafsBlob, codec: Codec, subject: string): Promise<Buffer> {
  if (blob.metaDigest === null) return await open(stored, blob, codec, subject);
  if (!createHash('sha256').update(stored).digest().equals(blob.metaDigest)) {
    throw new FormatError('blob_meta_digest', 'the chunk info file has another digest', { subject });
  }
  const { offset, size } = metaRange(blob);
  return await open(stored.subarray(offset, offset + size), blob, codec, subject);
}

/** Decodes chunk info. The header is checked first, so that no memory is allocated for content that does not match. */
async function open(stored: Buffer, blob: RafsBlob, codec: Codec, subject: string): Promise<Buffer> {
  if (blob.cipher === null && stored.length >= metaRange(blob).size) checkMetaHeader(stored, blob, subject);
  return await unpackMeta(stored, blob, codec, subject);
}
