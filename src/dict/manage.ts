/** `dict add`, `dict stat` and `dict prune` on a dictionary's database. */
import { isLacunaError } from '../errors.ts';
import { MEDIA } from '../image/media.ts';
import type { OpenImageOptions } from '../reader/image.ts';
import { type ImageInput, inputName } from '../registry/source.ts';
import type { DictGrowth } from './dict.ts';
import { readImageBlobs } from './image-dict.ts';
import { type Location, openLocation } from './locations.ts';
import { type DictStat, SqliteDict } from './sqlite-dict.ts';

/** Adds the blobs of lazy images to the database `path`, which is made when it is missing; each image whole or not at all. */
export async function dictAdd(
  path: string,
  images: readonly ImageInput[],
  options: OpenImageOptions = {},
): Promise<DictGrowth> {
  using dict = await SqliteDict.open(path, { create: true });
  const growth = { blobs: 0, chunks: 0, places: 0 };
  for (const image of images) {
    const { blobs, chunks, places } = dict.add(await readImageBlobs(inputName(image), options));
    growth.blobs += blobs;
    growth.chunks += chunks;
    growth.places += places;
  }
  return growth;
}

/** Counts of the blobs and chunks in the database `path`, and of its places. */
export async function dictStat(path: string): Promise<DictStat> {
  using dict = await SqliteDict.open(path, { create: false });
  return dict.stat();
}

/** Numbers of what was removed from a chunk dictionary. */
export interface DictPruned {
  /** Places that no longer had a blob, as often as that was so, and blobs that were nowhere any more. */
  readonly places: number;
  /** Number of blobs that were removed because no place has them any more. */
  readonly blobs: number;
  /** Places that could not be reached; their blobs stay. */
  readonly unreachable: readonly string[];
}

/** Looks for every blob in each of its places, and removes the ones that are not there. */
export async function dictPrune(path: string, options: OpenImageOptions = {}): Promise<DictPruned> {
  using dict = await SqliteDict.open(path, { create: false });
  const opened = new Map<string, Promise<Location>>();
  const unreachable = new Set<string>();
  const before = dict.stat().blobs;
  const signal = options.signal === undefined ? {} : { signal: options.signal };
  let places = 0;
  try {
    for (const id of dict.ids()) {
      const { size, places: claimed } = dict.blob(id)!;
      for (const name of claimed) {
        options.signal?.throwIfAborted();
        if (unreachable.has(name)) continue;
        const opening = opened.get(name) ?? openLocation(name, options.store ?? {});
        opened.set(name, opening);
        const blob = { mediaType: MEDIA.nydusBlob, digest: `sha256:${id}`, size };
        const isThere = await opening
          .then((place) => place.has(blob, signal))
          .catch((error: unknown) => {
            if (!isLacunaError(error)) throw error;
            // A layout or repository that does not exist any more.
            if (error.code === 'NOT_FOUND') return false;
            options.signal?.throwIfAborted();
            unreachable.add(name);
            return true;
          });
        if (isThere) continue;
        dict.forget(id, name);
        places += 1;
      }
    }
    return { places, blobs: before - dict.stat().blobs, unreachable: [...unreachable].sort() };
  } finally {
    for (const place of await Promise.allSettled(opened.values())) {
      if (place.status === 'fulfilled') await place.value[Symbol.asyncDispose]();
    }
  }
}
