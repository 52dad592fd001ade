/** Where the stored chunk info of a blob is, and what was read there → its `blob.meta`. */
import { createHash } from 'node:crypto';
import { FormatError } from '../../errors.ts';
import type { Codec } from '../../native/codec.ts';
import { metaNameOf, type RafsBlob } from './blob.ts';
import { MAX_META_SIZE } from './limits.ts';
import { checkMetaHeader, metaRange, unpackMeta } from './meta.ts';

/** What has to be read: a part of the blob, or the whole of a file of its own, which has a digest. */
export interface MetaPlace {
  /** Hex digest that names the blob or file, and its length in bytes. */
  readonly id: string;
  readonly fileSize: number;
  readonly offset: number;
  readonly size: number;
}

/** Throws FormatError when it cannot be as the blob table says. */
export function metaPlaceOf(blob: RafsBlob, subject: string): MetaPlace {
  const { offset, size } = metaRange(blob);
  const id = metaNameOf(blob);
  const isOwn = blob.metaDigest !== null;
  if (isOwn && offset + size > blob.metaSize) {
    throw new FormatError('blob_meta_size', `${blob.metaSize} bytes for chunk info up to ${offset + size}`, {
      subject,
    });
  }
  const place = isOwn
    ? { id, fileSize: blob.metaSize, offset: 0, size: blob.metaSize }
    : { id, fileSize: blob.compressedSize, offset, size };
  if (place.size <= MAX_META_SIZE) return place;
  throw new FormatError('ci_compressed_size', `chunk info of ${place.size} bytes; at most ${MAX_META_SIZE} are read`, {
    subject,
  });
}

/** `stored`: the bytes of {@link metaPlaceOf}. FormatError when they are not what the blob table says. */
export async function openMetaFile(stored: Buffer, blob: RafsBlob, codec: Codec, subject: string): Promise<Buffer> {
  if (blob.metaDigest === null) return await open(stored, blob, codec, subject);
  if (!createHash('sha256').update(stored).digest().equals(blob.metaDigest)) {
    throw new FormatError('blob_meta_digest', 'the file of the chunk info is another one', { subject });
  }
  const { offset, size } = metaRange(blob);
  return await open(stored.subarray(offset, offset + size), blob, codec, subject);
}

/** The header is looked at first: where it is another one, the content is not worth its memory. */
async function open(stored: Buffer, blob: RafsBlob, codec: Codec, subject: string): Promise<Buffer> {
  if (blob.cipher === null && stored.length >= metaRange(blob).size) checkMetaHeader(stored, blob, subject);
  return await unpackMeta(stored, blob, codec, subject);
}
