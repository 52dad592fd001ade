/** Brings the chunk info (`blob.meta`) of the blobs that cannot be read without it. */
import { createHash } from 'node:crypto';
import type { BlobSource } from '../blob/source.ts';
import { FormatError, isLacunaError } from '../errors.ts';
import { needsMeta, type RafsBlob } from '../formats/rafs/blob.ts';
import { MAX_META_SIZE } from '../formats/rafs/limits.ts';
import { metaRange, metaSize, unpackMeta } from '../formats/rafs/meta.ts';
import type { Codec } from '../native/codec.ts';
import { readRange } from './whole-blob.ts';

export interface MetaPlaces {
  /** The plain `blob.meta` that is named after a hex digest, in the bootstrap layer or beside it; null when there is none. */
  readonly named: (id: string) => Promise<Buffer | null>;
  /** The bytes of a blob, or of the file that {@link RafsBlob.metaDigest} names. */
  readonly sourceOf: (id: string) => BlobSource;
}

/**
 * Blob id → plain `blob.meta`: out of the bootstrap layer, else from the end of the blob or from its own file. One that is nowhere is
 * left out: the tree can be read without it, and who asks for its chunks is told.
 */
export async function readMetas(
  blobs: readonly RafsBlob[],
  { named, sourceOf }: MetaPlaces,
  codec: Codec,
  signal: AbortSignal,
): Promise<Map<string, Buffer>> {
  const metas = new Map<string, Buffer>();
  const read = async (blob: RafsBlob): Promise<void> => {
    const file = blob.metaDigest?.toString('hex') ?? blob.id;
    const meta = (await named(blob.id)) ?? (await named(file));
    // Beside lz4 blobs only the header is kept there.
    if (meta?.length === metaSize(blob)) metas.set(blob.id, meta);
    else metas.set(blob.id, await readMeta(blob, sourceOf(file), codec, signal));
  };
  const results = await Promise.allSettled(blobs.filter(needsMeta).map(read));
  for (const result of results) {
    if (result.status === 'fulfilled') continue;
    if (!isLacunaError(result.reason) || result.reason.code !== 'NOT_FOUND') throw result.reason;
  }
  return metas;
}

async function readMeta(blob: RafsBlob, source: BlobSource, codec: Codec, signal: AbortSignal): Promise<Buffer> {
  const { offset, size } = metaRange(blob);
  const { subject } = source;
  if (blob.metaDigest === null) {
    return unpackMeta(await readRange(source, offset, size, signal), blob, codec, subject);
  }
  if (blob.metaSize > MAX_META_SIZE || offset + size > blob.metaSize) {
    throw new FormatError('blob_meta_size', `${blob.metaSize} bytes for chunk info up to ${offset + size}`, {
      subject,
    });
  }
  const file = await readRange(source, 0, blob.metaSize, signal);
  if (!createHash('sha256').update(file).digest().equals(blob.metaDigest)) {
    throw new FormatError('blob_meta_digest', 'the file of the chunk info is another one', { subject });
  }
  return unpackMeta(file.subarray(offset, offset + size), blob, codec, subject);
}
