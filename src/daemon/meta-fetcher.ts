/** Brings stored chunk info from where an image's blobs are; what it says is not looked at here. */
import { readRange } from '../blob/source.ts';
import type { MetaPlace } from '../formats/rafs/metafile.ts';
import type { ImageRecord } from './record.ts';
import type { Sources } from './sources.ts';

/** Milliseconds until a source that does not answer is given up: whoever attaches waits for it. */
const TIMEOUT = 30_000;

/** Stored chunk info, and whose it is. */
export interface StoredMeta {
  readonly stored: Uint8Array;
  readonly subject: string;
}

/** Fetches from the source with this number, 0 the first; null when there are no more. */
export type FetchMeta = (place: MetaPlace, source: number) => Promise<StoredMeta | null>;

/** Fetches from the places that the image names. */
export function metaFetcher(record: ImageRecord, places: Sources, signal: AbortSignal): FetchMeta {
  return async ({ id, fileSize, offset, size }, number) => {
    const source = places.of(record, id, fileSize)[number];
    if (source === undefined) return null;
    const until = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT)]);
    return { stored: await readRange(source, offset, size, until), subject: source.subject };
  };
}
