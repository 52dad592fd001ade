/** The chunks of an image as a dictionary: out of its bootstrap alone, no blob is read. */
import { readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { DIGEST_SIZE } from '../blob/table.ts';
import { FormatError, LacunaError, toLacunaError } from '../errors.ts';
import { metaNameOf } from '../formats/rafs/blob.ts';
import { MAX_BOOTSTRAP_SIZE } from '../formats/rafs/limits.ts';
import { openBootstrap, type RafsImage } from '../formats/rafs/open.ts';
import { hostPlatform, parsePlatform } from '../image/platform.ts';
import { parseReference, type RafsReference } from '../image/reference.ts';
import { readBootstrapLayer } from '../reader/bootstrap.ts';
import { bootstrapLayerOf, chooseManifest } from '../reader/choose.ts';
import type { OpenImageOptions } from '../reader/image.ts';
import { openStore } from '../registry/open.ts';
import { type ByteString, byteString, type FileChunk } from '../tree/node.ts';
import { type ChunkDict, type ChunkKind, type DictBlob, isFitBlob, isFitChunk, type NewBlob } from './dict.ts';
import { placeOf, placeOfFolder } from './places.ts';

/** The blobs of a lazy image that others may refer to. USAGE when it is none. */
export async function readImageBlobs(reference: string, options: OpenImageOptions = {}): Promise<NewBlob[]> {
  const parsed = parseReference(reference);
  if (parsed.transport === 'rafs') return readFiles(parsed, reference);
  await using store = await openStore(parsed, options.store);
  const platform = options.platform === undefined ? hostPlatform() : parsePlatform(options.platform);
  const { manifest } = await chooseManifest(store, platform, options);
  const layer = bootstrapLayerOf(manifest);
  if (layer === null) {
    throw new LacunaError('USAGE', 'this is no lazy image', {
      op: 'read dictionary',
      subject: reference,
      hint: '`lacuna convert` makes one of it',
    });
  }
  const { bootstrap, metas } = await readBootstrapLayer(store, layer, options);
  const sizes = new Map(manifest.layers.map(({ digest, size }) => [digest, size]));
  const place = placeOf(parsed);
  return blobsOf(openBootstrap(bootstrap, { subject: reference, metas }), (blob) => ({
    blob,
    size: sizes.get(`sha256:${blob.id}`) ?? blob.compressedSize,
    meta: metas.get(metaNameOf(blob)) ?? null,
    places: place === null ? [] : [place],
  }));
}

async function readFiles({ bootstrap: path, blobs }: RafsReference, subject: string): Promise<NewBlob[]> {
  const failed = (cause: unknown): never => {
    throw toLacunaError(cause, { op: 'read dictionary', subject: path });
  };
  const { size } = await stat(path).catch(failed);
  if (size > MAX_BOOTSTRAP_SIZE) throw new FormatError('bootstrap', `${size} bytes are too many`, { subject: path });
  const bytes = await readFile(path).catch(failed);
  const dir = blobs ?? dirname(path);
  const stem = basename(path).replace(/\.boot$/, '');
  const rafs = openBootstrap(bytes, { subject, ...(/^[0-9a-f]{64}$/.test(stem) ? { blobId: stem } : {}) });
  const sizes = new Map<string, number>();
  for (const { id, compressedSize } of rafs.blobs) {
    const found = await stat(join(dir, id)).catch(() => null);
    sizes.set(id, found?.size ?? compressedSize);
  }
  return blobsOf(rafs, (blob) => ({
    blob,
    size: sizes.get(blob.id)!,
    meta: null,
    places: [placeOfFolder(dir)],
  }));
}

function blobsOf(rafs: RafsImage, describe: (blob: RafsImage['blobs'][number]) => DictBlob): NewBlob[] {
  return rafs.blobs.flatMap((blob, i) => {
    if (!isFitBlob(blob)) return [];
    return [{ ...describe(blob), chunks: rafs.chunksOf(i).filter(isFitChunk) }];
  });
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
