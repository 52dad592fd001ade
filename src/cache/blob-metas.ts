/**
 * The chunk info (`blob.meta`) of blobs whose chunks lie in batches or gzip streams: kept beside a bootstrap or in its layer,
 * else at the end of the blob, or in the file that the blob table names by its digest. Nobody vouches for it, nor need
 * anybody: what it says is held against the digests of the bootstrap.
 */
import { isLacunaError, LacunaError, toLacunaError } from '../errors.ts';
import { metaNameOf, needsMeta, type RafsBlob } from '../formats/rafs/blob.ts';
import { metaSize } from '../formats/rafs/meta.ts';
import { type MetaPlace, metaPlaceOf, openMetaFile } from '../formats/rafs/metafile.ts';
import type { Codec } from '../native/codec.ts';

/** Stored chunk info, and whose it is. */
export interface StoredMeta {
  readonly stored: Uint8Array;
  readonly subject: string;
}

/** Asked again for the same place, it goes to the next source: what came was wrong. Null when there are no more. */
export type FetchMeta = (place: MetaPlace) => Promise<StoredMeta | null>;

export interface MetaSources {
  /** The plain `blob.meta` of `size` bytes that is kept under a hex digest; null when it is not there. */
  readonly kept: (name: string, size: number) => Promise<Buffer | null>;
  readonly fetch: FetchMeta;
  /** Whose chunk info it is, for messages. */
  readonly subject: string;
}

/** Blob id → plain `blob.meta`, for those of `blobs` that need it. */
export async function readMetas(
  blobs: readonly RafsBlob[],
  sources: MetaSources,
  codec: Codec,
): Promise<Map<string, Buffer>> {
  const needed = blobs.filter(needsMeta);
  const metas = await Promise.all(needed.map((blob) => readMeta(blob, sources, codec)));
  return new Map(needed.map((blob, at) => [blob.id, metas[at]!]));
}

/** The same without those that are nowhere: a tree can be read without them. */
export async function readMetasThere(
  blobs: readonly RafsBlob[],
  sources: MetaSources,
  codec: Codec,
): Promise<Map<string, Buffer>> {
  const metas = new Map<string, Buffer>();
  const read = async (blob: RafsBlob): Promise<void> => {
    const meta = await readMeta(blob, sources, codec).catch((error: unknown) => {
      if (isLacunaError(error) && error.code === 'NOT_FOUND') return null;
      throw error;
    });
    if (meta !== null) metas.set(blob.id, meta);
  };
  await Promise.all(blobs.filter(needsMeta).map(read));
  return metas;
}

async function readMeta(blob: RafsBlob, { kept, fetch, subject }: MetaSources, codec: Codec): Promise<Buffer> {
  const size = metaSize(blob);
  const meta = (await kept(blob.id, size)) ?? (await kept(metaNameOf(blob), size));
  if (meta !== null) return meta;
  const place = metaPlaceOf(blob, subject);
  try {
    return await firstRightOne(blob, place, fetch, codec);
  } catch (error) {
    const cause = toLacunaError(error);
    const message = `no chunk info (blob.meta) of blob ${blob.id}: ${cause.message}`;
    throw new LacunaError(cause.code, message, { op: 'read chunk info', subject, cause });
  }
}

async function firstRightOne(blob: RafsBlob, place: MetaPlace, fetch: FetchMeta, codec: Codec): Promise<Buffer> {
  let problem: unknown = new LacunaError('NOT_FOUND', 'there is no source of it');
  for (;;) {
    const found = await fetch(place);
    if (found === null) throw problem;
    const { buffer, byteOffset, byteLength } = found.stored;
    try {
      return await openMetaFile(Buffer.from(buffer, byteOffset, byteLength), blob, codec, found.subject);
    } catch (error) {
      problem = error;
    }
  }
}
