/** Brings stored chunk info from where an image's blobs are; what it says is not looked at here. */
import type { FetchMeta } from '../cache/blob-metas.ts';
import { HedgedRead } from '../fetch/hedged.ts';
import type { MetaPlace } from '../formats/rafs/metafile.ts';
import type { ImageRecord } from './record.ts';
import type { Sources } from './sources.ts';

/** Milliseconds without progress after which a source is given up: whoever attaches waits for it. */
const META_STALL = 30_000;

/** Fetches from the places that the image names. `silence`: milliseconds after which the next one is asked as well. */
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
    const found = await read.next();
    return found && { stored: found.bytes, subject: found.source.subject };
  };
}
