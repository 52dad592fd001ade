/**
 * The chunk info (`blob.meta`) of blobs whose chunks lie in batches or gzip streams: from beside the bootstrap, where whoever
 * unpacked a bootstrap layer may have put it, else from the blob's end, or the file that the blob table names, wherever
 * blobs come from. Nobody vouches for it, nor need anybody: what it says is held against the digests of the bootstrap.
 */
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { BlobSource } from '../blob/source.ts';
import { LacunaError, toLacunaError } from '../errors.ts';
import type { RafsBlob } from '../formats/rafs/blob.ts';
import type { ImageRecord } from './record.ts';
import type { Sources } from './sources.ts';

/** 24 bytes a chunk, and windows of 32 KiB a megabyte of gzip: a layer of several GiB, or a blob of ten million chunks. */
const MAX_STORED_META = 256 * 1024 * 1024;

/** Milliseconds until a source that does not answer is given up: whoever attaches waits for it. */
const TIMEOUT = 30_000;

/** Blob id → plain `blob.meta`, for those of `blobs` that need it. */
export async function readMetas(
  { bootstrap, sources }: ImageRecord,
  blobs: readonly RafsBlob[],
  places: Sources,
): Promise<Map<string, Buffer>> {
  const metas = new Map<string, Buffer>();
  const { needsMeta } = await import('../formats/rafs/blob.ts');
  for (const blob of blobs.filter(needsMeta)) {
    const beside = await readFile(join(dirname(bootstrap), `${blob.id}.blob.meta`)).catch(() => null);
    metas.set(blob.id, beside ?? (await fetchMeta(blob, bootstrap, (id, size) => places.of(sources, id, size))));
  }
  return metas;
}

/** `of`: the places of a blob, given its id and length. */
async function fetchMeta(
  blob: RafsBlob,
  subject: string,
  of: (id: string, size: number) => BlobSource[],
): Promise<Buffer> {
  const [{ metaRange, unpackMeta }, { codec }] = await Promise.all([
    import('../formats/rafs/meta.ts'),
    import('../native/codec.ts'),
  ]);
  const { offset, size } = metaRange(blob);
  if (size > MAX_STORED_META) {
    throw new LacunaError('UNSUPPORTED', `chunk info of ${size} bytes`, { op: 'attach', subject });
  }
  const isOwnFile = blob.metaDigest !== null;
  const id = blob.metaDigest?.toString('hex') ?? blob.id;
  let problem: unknown = null;
  for (const source of of(id, isOwnFile ? blob.metaSize : blob.compressedSize)) {
    try {
      const pieces: Buffer[] = [];
      for await (const piece of source.read(offset, size, AbortSignal.timeout(TIMEOUT))) pieces.push(piece);
      return await unpackMeta(Buffer.concat(pieces), blob, codec(), subject);
    } catch (error) {
      problem = error;
    }
  }
  const cause = toLacunaError(problem);
  const message = `the chunk info (blob.meta) of blob ${blob.id} could not be had: ${cause.message}`;
  throw new LacunaError(cause.code, message, { op: 'attach', subject, cause });
}
