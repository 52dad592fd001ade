/**
 * The chunk info (`blob.meta`) of blobs whose chunks lie in batches or gzip streams: from beside the bootstrap, where whoever
 * unpacked a bootstrap layer may have put it, else from the blob's end, or the file that the blob table names by its
 * digest, wherever blobs come from. Nobody else vouches for it, nor need anybody: what it says is held against the digests
 * of the bootstrap.
 */
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type BlobSource, readRange } from '../blob/source.ts';
import { LacunaError, toLacunaError } from '../errors.ts';
import type { RafsBlob } from '../formats/rafs/blob.ts';
import type { ImageRecord } from './record.ts';
import type { Sources } from './sources.ts';

/** Milliseconds until a source that does not answer is given up: whoever attaches waits for it. */
const TIMEOUT = 30_000;

/** Blob id → plain `blob.meta`, for those of `blobs` that need it. */
export async function readMetas(
  record: ImageRecord,
  blobs: readonly RafsBlob[],
  places: Sources,
): Promise<Map<string, Buffer>> {
  const { bootstrap } = record;
  const metas = new Map<string, Buffer>();
  const { metaNameOf, needsMeta } = await import('../formats/rafs/blob.ts');
  const named = (name: string) => readFile(join(dirname(bootstrap), `${name}.blob.meta`)).catch(() => null);
  for (const blob of blobs.filter(needsMeta)) {
    const beside = (await named(blob.id)) ?? (await named(metaNameOf(blob)));
    metas.set(blob.id, beside ?? (await fetchMeta(blob, bootstrap, (id, size) => places.of(record, id, size))));
  }
  return metas;
}

/** `of`: the places of a blob, given its id and length. */
async function fetchMeta(
  blob: RafsBlob,
  subject: string,
  of: (id: string, size: number) => BlobSource[],
): Promise<Buffer> {
  const [{ metaPlaceOf, openMetaFile }, { codec }] = await Promise.all([
    import('../formats/rafs/metafile.ts'),
    import('../native/codec.ts'),
  ]);
  const { id, fileSize, offset, size } = metaPlaceOf(blob, subject);
  let problem: unknown = null;
  for (const source of of(id, fileSize)) {
    try {
      const stored = await readRange(source, offset, size, AbortSignal.timeout(TIMEOUT));
      return await openMetaFile(stored, blob, codec(), source.subject);
    } catch (error) {
      problem = error;
    }
  }
  const cause = toLacunaError(problem);
  const message = `the chunk info (blob.meta) of blob ${blob.id} could not be had: ${cause.message}`;
  throw new LacunaError(cause.code, message, { op: 'attach', subject, cause });
}
