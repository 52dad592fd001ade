/**
 * The chunk info (`blob.meta`) of blobs whose chunks lie in batches or gzip streams: from beside the bootstrap, where whoever
 * unpacked a bootstrap layer may have put it, else from the blob's end, or the file that the blob table names by its
 * digest, wherever blobs come from. Nobody else vouches for it, nor need anybody: what it says is held against the digests
 * of the bootstrap.
 */
import { open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FormatError, LacunaError, toLacunaError } from '../errors.ts';
import { metaNameOf, needsMeta, type RafsBlob } from '../formats/rafs/blob.ts';
import { metaSize } from '../formats/rafs/meta.ts';
import { type MetaPlace, metaPlaceOf, openMetaFile } from '../formats/rafs/metafile.ts';
import { codec } from '../native/codec.ts';
import type { FetchMeta } from './meta-fetcher.ts';

/** Blob id → plain `blob.meta`, for those of `blobs` that need it. */
export async function readMetas(
  bootstrap: string,
  blobs: readonly RafsBlob[],
  fetch: FetchMeta,
): Promise<Map<string, Buffer>> {
  const metas = new Map<string, Buffer>();
  for (const blob of blobs.filter(needsMeta)) {
    const beside =
      (await readBeside(bootstrap, blob.id, blob)) ?? (await readBeside(bootstrap, metaNameOf(blob), blob));
    metas.set(blob.id, beside ?? (await fetchMeta(blob, bootstrap, fetch)));
  }
  return metas;
}

/** Null when there is no such file. */
async function readBeside(bootstrap: string, name: string, blob: RafsBlob): Promise<Buffer | null> {
  const path = join(dirname(bootstrap), `${name}.blob.meta`);
  const file = await open(path, 'r').catch(() => null);
  if (file === null) return null;
  await using opened = file;
  const { size } = await opened.stat();
  if (size !== metaSize(blob)) {
    throw new FormatError('blob.meta', `${size} bytes, not ${metaSize(blob)}`, { op: 'attach', subject: path });
  }
  return await opened.readFile();
}

async function fetchMeta(blob: RafsBlob, subject: string, fetch: FetchMeta): Promise<Buffer> {
  const place = metaPlaceOf(blob, subject);
  try {
    return await firstRightOne(blob, place, fetch);
  } catch (error) {
    const cause = toLacunaError(error);
    const message = `the chunk info (blob.meta) of blob ${blob.id} could not be had: ${cause.message}`;
    throw new LacunaError(cause.code, message, { op: 'attach', subject, cause });
  }
}

async function firstRightOne(blob: RafsBlob, place: MetaPlace, fetch: FetchMeta): Promise<Buffer> {
  let problem: unknown = null;
  for (;;) {
    const found = await fetch(place);
    if (found === null) throw problem;
    const { buffer, byteOffset, byteLength } = found.stored;
    try {
      return await openMetaFile(Buffer.from(buffer, byteOffset, byteLength), blob, codec(), found.subject);
    } catch (error) {
      problem = error;
    }
  }
}
