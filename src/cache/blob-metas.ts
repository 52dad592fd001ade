/**
 * Chunk info (`blob.meta`) of blobs whose chunks lie in batches or gzip streams. It lies beside a bootstrap or in its layer,
 * else at the end of the blob, or in the file that the blob table names by its digest. It is not trusted: chunks are
 * verified against the digests of the bootstrap.
 */
import { FormatError, isLacunaError, LacunaError, toLacunaError } from '../errors.ts';
import { metaNameOf, needsMeta, type RafsBlob } from '../formats/rafs/blob.ts';
import { metaSize } from '../formats/rafs/meta.ts';
import { type MetaPlace, metaPlaceOf, openMetaFile } from '../formats/rafs/metafile.ts';
import type { Codec } from '../native/codec.ts';

const OP = 'read chunk info';

/** Stored chunk info, and the source that it came from. */
export interface StoredMeta {
  readonly stored: Uint8Array;
  readonly subject: string;
}

/** Fetches stored chunk info. A second call for a place asks the next source; null when no source is left. */
export type FetchMeta = (place: MetaPlace) => Promise<StoredMeta | null>;

export type KeptMeta = () => Promise<Buffer>;

export interface MetaSources {
  /** The plain `blob.meta` of `size` bytes that is kept under a hex digest, not read yet; null when it is not there. */
  readonly kept: (name: string, size: number) => Promise<KeptMeta | null>;
  readonly fetch: FetchMeta;
  /** Resolves when `size` bytes may be decoded; default: at once. */
  readonly admit?: (size: number) => Promise<void>;
  /** The image that the chunk info belongs to, for messages. */
  readonly subject: string;
}

/**
 * Blob id → plain `blob.meta`, for those of `blobs` that need it. Decoding starts when everything has been fetched: a few
 * kilobytes may become many megabytes, which no silent source may keep in memory. Only after a source sent wrong bytes is
 * the next source waited for later.
 */
export async function readMetas(
  blobs: readonly RafsBlob[],
  sources: MetaSources,
  codec: Codec,
): Promise<Map<string, Buffer>> {
  const opening: Array<{ readonly blob: RafsBlob; readonly open: () => Promise<Buffer> }> = [];
  for (const blob of blobs.filter(needsMeta)) opening.push({ blob, open: await locateMeta(blob, sources, codec) });
  const size = opening.reduce((sum, { blob }) => sum + metaSize(blob), 0);
  if (size > 0) await sources.admit?.(size);
  const metas = new Map<string, Buffer>();
  for (const { blob, open } of opening) metas.set(blob.id, await open());
  return metas;
}

/** {@link readMetas} without chunk info that no source has: a tree can be read without it. */
export async function readMetasThere(
  blobs: readonly RafsBlob[],
  sources: MetaSources,
  codec: Codec,
): Promise<Map<string, Buffer>> {
  const metas = new Map<string, Buffer>();
  const read = async (blob: RafsBlob): Promise<void> => {
    try {
      const open = await locateMeta(blob, sources, codec);
      metas.set(blob.id, await open());
    } catch (error) {
      if (!isLacunaError(error) || error.code !== 'NOT_FOUND') throw error;
    }
  };
  await Promise.all(blobs.filter(needsMeta).map(read));
  return metas;
}

/** Finds or fetches the chunk info of a blob. Returns the function that decodes it. */
async function locateMeta(
  blob: RafsBlob,
  { kept, fetch, subject }: MetaSources,
  codec: Codec,
): Promise<() => Promise<Buffer>> {
  const size = metaSize(blob);
  const meta = (await kept(blob.id, size)) ?? (await kept(metaNameOf(blob), size));
  if (meta !== null) return meta;
  const place = metaPlaceOf(blob, subject);
  const next = (): Promise<StoredMeta | null> => explained(blob, subject, () => fetch(place));
  const first = await next();
  return () => explained(blob, subject, () => firstValid(first, next, blob, codec));
}

async function explained<T>(blob: RafsBlob, subject: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const cause = toLacunaError(error);
    // It names the field and whose it is.
    if (cause instanceof FormatError || cause.op === OP) throw cause;
    const message = `could not read the chunk info (blob.meta) of blob ${blob.id}: ${cause.message}`;
    throw new LacunaError(cause.code, message, { op: OP, subject, cause });
  }
}

async function firstValid(
  first: StoredMeta | null,
  next: () => Promise<StoredMeta | null>,
  blob: RafsBlob,
  codec: Codec,
): Promise<Buffer> {
  let problem: unknown = new LacunaError('NOT_FOUND', 'no source has it');
  for (let found = first; found !== null; found = await next()) {
    const { buffer, byteOffset, byteLength } = found.stored;
    try {
      return await openMetaFile(Buffer.from(buffer, byteOffset, byteLength), blob, codec, found.subject);
    } catch (error) {
      problem = error;
    }
  }
  throw problem;
}
