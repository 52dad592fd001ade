/** The data blobs of an image: that they are there, and what their own metadata and their data say. */
import type { BlobSource } from '../blob/source.ts';
import type { RafsBlob } from '../formats/rafs/blob.ts';
import { FEATURE } from '../formats/rafs/layout.ts';
import { type Codec, codec } from '../native/codec.ts';
import type { OnProgress } from '../observe/progress.ts';
import { reportingPieces } from '../reader/progress.ts';
import { checkData, type ReadData } from './blob-data.ts';
import { type CheckedEnd, checkEnd } from './blob-end.ts';
import type { CheckedBlob } from './blob-table.ts';
import type { CheckedBootstrap } from './bootstrap.ts';
import type { TableEntry } from './chunk-table.ts';
import type { Findings } from './findings.ts';
import type { BlobOptions, BlobPlace, BlobPlaces } from './place.ts';

/** What `check` found out about one blob of a lazy image. */
export interface CheckedBlobReport {
  /** Lower-case hex SHA-256 of the blob. */
  readonly id: string;
  /** Bytes of the blob as it is stored, null when it is not there. */
  readonly size: number | null;
  /** Chunks of the image in it. */
  readonly chunks: number;
  /** Bytes of stored chunks, and how many of them no chunk of this image needs; null when that is not known. */
  readonly dataSize: number | null;
  /** Bytes of stored chunks that no chunk of this image needs; null when that is not known. */
  readonly unusedSize: number | null;
  /** Whether all of it was read, and every chunk decoded. */
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
    options.signal.throwIfAborted();
    // What has no id cannot be looked for, and is an error already.
    if (blob.isNamed) reports.push(await checkBlob(image, index, blob, places, findings, options));
  }
  return reports;
}

const on = ({ features }: CheckedBlob, feature: number): boolean => (features & feature) !== 0;

async function checkBlob(
  image: CheckedBootstrap,
  blobIndex: number,
  blob: CheckedBlob,
  places: BlobPlaces,
  findings: Findings,
  options: BlobOptions,
): Promise<CheckedBlobReport> {
  const about = findings.about(`blob ${blob.id}`);
  const { chunks } = image;
  const used = chunks.entries.filter((entry) => entry.blobIndex === blobIndex);
  const place = await places.data(blob);
  if (place !== null && place.size < blob.compressedSize) {
    const message = `${blob.compressedSize} bytes in the blob table, and ${place.size} are there`;
    about.error('compressed_size', null, message, { code: 'SIZE_MISMATCH' });
  }
  const isTarfs = on(blob, FEATURE.TARFS);
  const metaPlace = isTarfs ? null : on(blob, FEATURE.SEPARATE) ? await places.meta(blob) : place;
  const known = knownBlob(blob);
  const packed = isTarfs ? null : places.packedMeta(blob);
  const decoder = codec();
  const context = { blob, known, blobIndex, chunks, packed, codec: decoder, findings: about, signal: options.signal };
  const end = metaPlace === null ? null : await checkEnd(metaPlace, place?.size ?? blob.compressedSize, context);
  const isRead = options.deep && place !== null;
  if (isRead) {
    const told = { size: place.size, source: reportingSource(place, blob.id, options.onProgress) };
    await checkAllData(image, blobIndex, told, known, end, decoder, about, options.signal);
  }
  const dataSize = end?.dataSize ?? null;
  const covered = on(blob, FEATURE.BATCH) ? null : coveredBytes(used);
  return {
    id: blob.id,
    size: place?.size ?? null,
    chunks: used.length,
    dataSize,
    unusedSize: dataSize === null || covered === null || isTarfs ? null : Math.max(0, dataSize - covered),
    isRead,
  };
}

const reportingSource = ({ source, size: total }: BlobPlace, digest: string, onProgress?: OnProgress): BlobSource => ({
  subject: source.subject,
  read: (offset, length, signal) =>
    reportingPieces(source.read(offset, length, signal), onProgress, { phase: 'check', digest, total }),
});

/** Null when something in the table has a number that nobody knows. */
function knownBlob(blob: CheckedBlob): RafsBlob | null {
  const { compressor, ciCompressor, digester } = blob;
  const isKnown = compressor <= 3 && ciCompressor <= 3 && digester <= 1;
  return isKnown ? ({ ...blob, compressor, ciCompressor, digester } as RafsBlob) : null;
}

/** Stored bytes that at least one chunk takes up. */
function coveredBytes(chunks: readonly TableEntry[]): number {
  let [end, covered] = [0, 0];
  for (const { compressedOffset: at, compressedSize } of chunks.toSorted(
    (a, b) => a.compressedOffset - b.compressedOffset,
  )) {
    covered += Math.max(0, at + compressedSize - Math.max(at, end));
    end = Math.max(end, at + compressedSize);
  }
  return covered;
}

async function checkAllData(
  image: CheckedBootstrap,
  blobIndex: number,
  place: BlobPlace,
  known: RafsBlob | null,
  end: CheckedEnd | null,
  decoder: Codec,
  findings: Findings,
  signal: AbortSignal,
): Promise<void> {
  const blob = image.blobs[blobIndex]!;
  const { meta = null, digests = null, digestMember = null, dataEntry = null } = end ?? {};
  const chunks =
    known === null || on(blob, FEATURE.TARFS) ? null : { blob: known, blobIndex, chunks: image.chunks, meta, digests };
  // The digest of the data is of its tar header too.
  const cuts = { prefix: dataEntry === null ? 0 : (end?.dataSize ?? 0) + 512, hole: digestMember };
  const read = await checkData(place, chunks, cuts, decoder, findings, signal);
  if (read === null) return;
  checkId(blob.id, read, findings);
  const wanted = dataEntry?.digest.toString('hex');
  if (wanted !== undefined && wanted !== read.prefix) {
    const message = `${wanted} for image.blob, the bytes have ${read.prefix}`;
    findings.error('uncompressed_digest', dataEntry!.at + 24, message, { code: 'DIGEST_MISMATCH' });
  }
}

function checkId(id: string, read: ReadData, findings: Findings): void {
  if (read.whole === id || read.withoutHole === id) return;
  findings.error('blob_id', null, `the blob's bytes have the digest ${read.whole}`, { code: 'DIGEST_MISMATCH' });
}
