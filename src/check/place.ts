/** Where the bytes of an image's blobs are, whatever it is made of. */
import type { BlobSource } from '../blob/source.ts';
import type { OnProgress } from '../observe/progress.ts';
import type { CheckedBlob } from './blob-table.ts';

/** Where a blob is. */
export interface BlobPlace {
  readonly source: BlobSource;
  /** Bytes of the whole blob. */
  readonly size: number;
}

/** How the blobs of an image are found. Each notes what is missing, and gives null then. */
export interface BlobPlaces {
  /** The data. */
  data(blob: CheckedBlob): Promise<BlobPlace | null>;
  /** What has the chunk info, of a blob that has it elsewhere. */
  meta(blob: CheckedBlob): Promise<BlobPlace | null>;
  /** The plain chunk info that travels with the bootstrap; null where none does. */
  packedMeta(blob: CheckedBlob): Buffer | null;
}

export interface BlobOptions {
  readonly deep: boolean;
  readonly signal: AbortSignal;
  readonly onProgress?: OnProgress;
}
