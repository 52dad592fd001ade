/** The chunk dictionary of a conversion: opened before it, grown after it. */
import type { NewBlob } from '../dict/dict.ts';
import { locationOf } from '../dict/locations.ts';
import { openDict } from '../dict/open.ts';
import { DictSession } from '../dict/session.ts';
import type { Reference } from '../image/reference.ts';
import type { ImageStore, StoreOptions } from '../registry/store.ts';
import type { ConvertedImage } from './image.ts';
import type { ConvertPlan } from './options.ts';

/** Null when no dictionary is named. `store`: how the images of the dictionary and their blobs are reached. */
export async function openDictionary(
  specs: readonly string[],
  to: ImageStore,
  plan: ConvertPlan,
  store: StoreOptions,
): Promise<DictSession | null> {
  if (specs.length === 0) return null;
  const dicts: Awaited<ReturnType<typeof openDict>>[] = [];
  try {
    for (const spec of specs) dicts.push(await openDict(spec, { store, signal: plan.signal }));
  } catch (error) {
    for (const dict of dicts) dict[Symbol.dispose]();
    throw error;
  }
  const { layer: kind, log, signal } = plan;
  return new DictSession({ dicts, to, kind, compressor: kind.compressor, store, log, signal });
}

/** The blobs that a dictionary can take from images pushed to `target`. */
export function blobsIn(images: readonly ConvertedImage[], target: Reference): NewBlob[] {
  const place = locationOf(target);
  if (place === null) return [];
  const blobs = images.flatMap(({ dictBlobs }) => dictBlobs.map((blob) => ({ ...blob, places: [place] })));
  return [...new Map(blobs.map((blob) => [blob.blob.id, blob])).values()];
}
