/** Brings stored chunk info from where an image's blobs are; what it says is not looked at here. */
import { HedgedRead } from '../blob/hedged.ts';
import type { MetaPlace } from '../formats/rafs/metafile.ts';
import type { ImageRecord } from './record.ts';
import type { Sources } from './sources.ts';

/** Milliseconds without progress after which a source is given up: whoever attaches waits for it. */
const STALL = 30_000;

/** Stored chunk info, and whose it is. */
export interface StoredMeta {
  readonly stored: Uint8Array;
  readonly subject: string;
}

/**
 * Fetches from the first source that delivers; called again for the same place, from the next one: what came was not right.
 * Null when there are no more.
 */
export type FetchMeta = (place: MetaPlace) => Promise<StoredMeta | null>;

/** Fetches from the places that the image names. `silence`: milliseconds after which the next one is asked as well. */
export function metaFetcher(record: ImageRecord, places: Sources, silence: number, signal: AbortSignal): FetchMeta {
  const { standing } = places;
  const reads = new Map<string, HedgedRead>();
  const readOf = ({ id, fileSize, offset, size }: MetaPlace): HedgedRead => {
    const sources = places.of(record, id, fileSize);
    return new HedgedRead({ offset, size }, sources, { standing, silence, stall: STALL, signal });
  };
  return async (place) => {
    const read = reads.get(place.id) ?? readOf(place);
    reads.set(place.id, read);
    const found = await read.next();
    return found && { stored: found.bytes, subject: found.source.subject };
  };
}
