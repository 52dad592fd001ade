/** The data blobs of an image: that they are there, and what their own metadata and their data say. */
import type { BlobSource } from '../blob/source.ts';
import type { CheckedBlob } from './blob-table.ts';
import type { CheckedBootstrap } from './bootstrap.ts';
import type { Findings } from './findings.ts';

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
  /** What has the chunk info: the blob itself, or of a referenced layer a file of its own. */
  meta(blob: CheckedBlob): Promise<BlobPlace | null>;
  /** The plain chunk info that travels with the bootstrap; null where none does. */
  packedMeta(blob: CheckedBlob): Buffer | null;
}

export interface BlobOptions {
  readonly deep: boolean;
  readonly signal: AbortSignal;
}

export interface CheckedBlobReport {
  readonly id: string;
  /** Bytes of the blob as it is stored, null when it is not there. */
  readonly size: number | null;
  /** Chunks of the image in it. */
  readonly chunks: number;
  /** Stored bytes that chunks of this image take up, and bytes of data that none does. */
  readonly usedBytes: number;
  readonly unusedBytes: number;
  /** Whether all of its data was read and decoded. */
  readonly isRead: boolean;
}

export async function checkBlobs(
  image: CheckedBootstrap,
  places: BlobPlaces,
  findings: Findings,
  options: BlobOptions,
): Promise<CheckedBlobReport[]> {
  const reports: CheckedBlobReport[] = [];
  for (const [index, blob] of image.blobs.entries()) {
    if (!blob.isNamed) continue;
    options.signal.throwIfAborted();
    const about = findings.about(`blob ${blob.id}`);
    const place = await places.data(blob);
    const chunks = image.chunks.entries.filter(({ blobIndex }) => blobIndex === index);
    const usedBytes = chunks.reduce((sum, chunk) => sum + chunk.compressedSize, 0);
    void about;
    reports.push({
      id: blob.id,
      size: place?.size ?? null,
      chunks: chunks.length,
      usedBytes,
      unusedBytes: 0,
      isRead: false,
    });
  }
  return reports;
}
