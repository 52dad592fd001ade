/** Locations of an image's blobs, in a store or in files. */
import type { BlobSource } from '../blob/source.ts';
import type { OnProgress } from '../observe/progress.ts';
import type { CheckedBlob } from './blob-table.ts';

/** Location of one blob. */
export interface BlobLocation {
  readonly source: BlobSource;
  /** Bytes of the whole blob. */
  readonly size: number;
}

/** Finds the blobs of an image. Each method returns null for a missing blob, and records the problem. */
export interface BlobLocations {
  /** Location of the chunk data. */
  data(blob: CheckedBlob): Promise<BlobLocation | null>;
  /** Location of the chunk info of a blob that keeps it in another file. */
  meta(blob: CheckedBlob): Promise<BlobLocation | null>;
  /** Plain chunk info from the bootstrap layer; null when it is not there. */
  packedMeta(blob: CheckedBlob): Buffer | null;
}

export interface BlobOptions {
  readonly deep: boolean;
  readonly signal: AbortSignal;
  readonly onProgress?: OnProgress;
}
