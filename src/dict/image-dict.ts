/** The chunks of an image's blobs as a dictionary: out of its bootstrap and the ends of its blobs, no data is read. */
import { stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type BlobSource, fileSource, storeSource } from '../blob/source.ts';
import { DIGEST_SIZE } from '../blob/table.ts';
import { LacunaError } from '../errors.ts';
import { metaNameOf, type RafsBlob } from '../formats/rafs/blob.ts';
import { MAX_BOOTSTRAP_SIZE } from '../formats/rafs/limits.ts';
import { openBootstrap, type RafsImage } from '../formats/rafs/open.ts';
import { isSha256Hex } from '../image/digest.ts';
import { hostPlatform, parsePlatform } from '../image/platform.ts';
import { parseReference, type RafsReference } from '../image/reference.ts';
import { readRegular } from '../open-file.ts';
import { readBootstrapLayer } from '../reader/bootstrap.ts';
import type { OpenImageOptions } from '../reader/image.ts';
import { bootstrapLayerOf, chooseManifest } from '../reader/select-manifest.ts';
import { openStore } from '../registry/open.ts';
import { type ByteString, byteString, type FileChunk } from '../tree/node.ts';
import { allChunks } from './all-chunks.ts';
import { type ChunkDict, type ChunkKind, type DictBlob, isUsableBlob, isUsableChunk, type NewBlob } from './dict.ts';
import { locationOf, locationOfFolder } from './locations.ts';

/** The blobs of a lazy image that others may refer to. USAGE when it is not a lazy image. */
export async function readImageBlobs(reference: string, options: OpenImageOptions = {}): Promise<NewBlob[]> {
  const parsed = parseReference(reference);
  const signal = options.signal ?? new AbortController().signal;
  if (parsed.transport === 'rafs') return await readFiles(parsed, reference, signal);
  await using store = await openStore(parsed, options.store);
  const platform = options.platform === undefined ? hostPlatform() : parsePlatform(options.platform);
  const { manifest } = await chooseManifest(store, platform, options);
  const layer = bootstrapLayerOf(manifest);
  if (layer === null) {
    throw new LacunaError('USAGE', 'not a lazy image: the manifest has no bootstrap layer', {
      op: 'read dictionary',
      subject: reference,
      hint: 'convert it first: `lacuna convert SOURCE TARGET`',
    });
  }
  const { bootstrap, metas } = await readBootstrapLayer(store, layer, options);
  const sizes = new Map(manifest.layers.map(({ digest, size }) => [digest, size]));
  const place = locationOf(parsed);
  const describe = (blob: RafsBlob): DictBlob => ({
    blob,
    size: sizes.get(`sha256:${blob.id}`) ?? blob.compressedSize,
    meta: metas.get(metaNameOf(blob)) ?? null,
    places: place === null ? [] : [place],
  });
  const rafs = openBootstrap(bootstrap, { subject: reference, metas });
  return await blobsOf(rafs, describe, ({ blob, size }) => storeSource(store, blob.id, size), signal);
}

async function readFiles(
  { bootstrap: path, blobs }: RafsReference,
  subject: string,
  signal: AbortSignal,
): Promise<NewBlob[]> {
  const bytes = await readRegular(path, MAX_BOOTSTRAP_SIZE, { op: 'read dictionary' });
  const dir = blobs ?? dirname(path);
  const stem = basename(path).replace(/\.boot$/, '');
  const rafs = openBootstrap(bytes, { subject, ...(isSha256Hex(stem) ? { blobId: stem } : {}) });
  const sizes = new Map<string, number>();
  for (const { id, compressedSize } of rafs.blobs) {
    const found = await stat(join(dir, id)).catch(() => null);
    sizes.set(id, found?.size ?? compressedSize);
  }
  const places = [locationOfFolder(dir)];
  const describe = (blob: RafsBlob): DictBlob => ({ blob, size: sizes.get(blob.id)!, meta: null, places });
  return await blobsOf(rafs, describe, ({ blob }) => fileSource(join(dir, blob.id), dir), signal);
}

async function blobsOf(
  rafs: RafsImage,
  describe: (blob: RafsBlob) => DictBlob,
  sourceOf: (blob: DictBlob) => BlobSource,
  signal: AbortSignal,
): Promise<NewBlob[]> {
  const found: NewBlob[] = [];
  for (const [i, blob] of rafs.blobs.entries()) {
    if (!isUsableBlob(blob)) continue;
    const described = describe(blob);
    const chunks = await allChunks({ ...described, source: sourceOf(described) }, rafs.chunksOf(i), signal);
    found.push({ ...described, chunks: chunks.filter(isUsableChunk) });
  }
  return found;
}

/** One image's chunks, in memory. */
export class ImageDict implements ChunkDict {
  readonly subject: string;
  readonly #blobs: ReadonlyMap<string, DictBlob>;
  readonly #chunks = new Map<ByteString, FileChunk>();

  constructor(subject: string, blobs: readonly NewBlob[]) {
    this.subject = subject;
    this.#blobs = new Map(blobs.map((blob) => [blob.blob.id, blob]));
    for (const { chunks } of blobs) {
      for (const chunk of chunks) {
        const key = byteString(chunk.digest);
        if (!this.#chunks.has(key)) this.#chunks.set(key, chunk);
      }
    }
  }

  lookup(digests: Buffer, kind: ChunkKind): ReadonlyMap<ByteString, readonly FileChunk[]> {
    const found = new Map<ByteString, readonly FileChunk[]>();
    for (let at = 0; at < digests.length; at += DIGEST_SIZE) {
      const key = byteString(digests.subarray(at, at + DIGEST_SIZE));
      const chunk = this.#chunks.get(key);
      if (chunk === undefined) continue;
      const { digester, chunkSize } = this.#blobs.get(chunk.blob)!.blob;
      if (digester === kind.digester && chunkSize === kind.chunkSize) found.set(key, [chunk]);
    }
    return found;
  }

  blob(id: string): DictBlob | null {
    return this.#blobs.get(id) ?? null;
  }

  [Symbol.dispose](): void {}
}
