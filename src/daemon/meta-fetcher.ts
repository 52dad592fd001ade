/** Fetches stored chunk info from an image's sources, without looking into it. */
import type { FetchMeta } from '../cache/blob-metas.ts';
import { HedgedRead } from '../fetch/hedged.ts';
import type { MetaPlace } from '../formats/rafs/metafile.ts';
import type { ImageRecord } from './record.ts';
import type { Sources } from './sources.ts';

/** Milliseconds without progress after which a source is given up: an Attach waits for it. */
const META_STALL = 30_000;

/** Fetches from the image's sources. `silence`: milliseconds without progress after which the next one is asked as well. */
export function metaFetcher(record: ImageRecord, places: Sources, silence: number, signal: AbortSignal): FetchMeta {
  const { standing } = places;
  const reads = new Map<string, HedgedRead>();
  const readOf = ({ id, fileSize, offset, size }: MetaPlace): HedgedRead => {
    const sources = places.of(record, id, fileSize);
    return new HedgedRead({ offset, size }, sources, { standing, silence, stall: META_STALL, signal });
  };
  return async (place) => {
    const read = reads.get(place.id) ?? readOf(place);
    reads.set(place.id, read);
    const delivery = await read.next();
    return delivery && { stored: delivery.bytes, subject: delivery.source.subject };
  };
}
