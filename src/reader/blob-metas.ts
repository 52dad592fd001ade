/** Fetches the chunk info (`blob.meta`) of the blobs that cannot be read without it. */
import { type BlobSource, readRange } from '../blob/source.ts';
import { isLacunaError } from '../errors.ts';
import { metaNameOf, needsMeta, type RafsBlob } from '../formats/rafs/blob.ts';
import { metaSize } from '../formats/rafs/meta.ts';
import { metaPlaceOf, openMetaFile } from '../formats/rafs/metafile.ts';
import type { Codec } from '../native/codec.ts';

export interface MetaPlaces {
  /** The plain `blob.meta` that is named after a hex digest, in the bootstrap layer or beside it; null when there is none. */
  readonly named: (id: string) => Promise<Buffer | null>;
  /** The bytes of a blob, or of the file that {@link RafsBlob.metaDigest} names. */
  readonly sourceOf: (id: string) => BlobSource;
}

/**
 * Blob id → plain `blob.meta`: out of the bootstrap layer, else from the end of the blob or from its own file. A missing
 * one is left out: the tree can be read without it, and reading its chunks throws.
 */
export async function readMetas(
  blobs: readonly RafsBlob[],
  { named, sourceOf }: MetaPlaces,
  codec: Codec,
  signal: AbortSignal,
): Promise<Map<string, Buffer>> {
  const metas = new Map<string, Buffer>();
  const read = async (blob: RafsBlob): Promise<void> => {
    const file = metaNameOf(blob);
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
  const { subject } = source;
  const { offset, size } = metaPlaceOf(blob, subject);
  return openMetaFile(await readRange(source, offset, size, signal), blob, codec, subject);
}
