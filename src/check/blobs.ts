/** Checks of an image's data blobs: their presence, their own metadata, and their data. */
import type { BlobSource } from '../blob/source.ts';
import type { RafsBlob } from '../formats/rafs/blob.ts';
import { FEATURE } from '../formats/rafs/layout.ts';
import { type Codec, codec } from '../native/codec.ts';
import type { OnProgress } from '../observe/progress.ts';
import { reportingPieces } from '../reader/progress.ts';
import { checkData, type ReadData } from './blob-data.ts';
import { type CheckedEnd, checkEnd } from './blob-end.ts';
import type { BlobLocation, BlobLocations, BlobOptions } from './blob-location.ts';
import type { CheckedBlob } from './blob-table.ts';
import type { CheckedBootstrap } from './bootstrap.ts';
import type { TableEntry } from './chunk-table.ts';
import type { Findings } from './findings.ts';

/** Result of `check` for one blob of a lazy image. */
export interface CheckedBlobReport {
  /** Lower-case hex SHA-256 of the blob. */
  readonly id: string;
  /** Bytes of the blob as it is stored; null when it does not exist. */
  readonly size: number | null;
  /** Number of the image's chunks in the blob. */
  readonly chunks: number;
  /** Bytes of stored chunks; null when that is not known. */
  readonly dataSize: number | null;
  /** Bytes of stored chunks that no chunk of this image needs; null when that is not known. */
  readonly unusedSize: number | null;
  /** Whether all of the blob was read, and every chunk decoded. */
  readonly isRead: boolean;
}

export async function checkBlobs(
  image: CheckedBootstrap,
  locations: BlobLocations,
  findings: Findings,
  options: BlobOptions,
): Promise<CheckedBlobReport[]> {
  const reports: CheckedBlobReport[] = [];
  for (const [index, blob] of image.blobs.entries()) {
    options.signal.throwIfAborted();
    // A blob without an id cannot be found; that was recorded with the blob table.
    if (blob.isNamed) reports.push(await checkBlob(image, index, blob, locations, findings, options));
  }
  return reports;
}

const on = ({ features }: CheckedBlob, feature: number): boolean => (features & feature) !== 0;

async function checkBlob(
  image: CheckedBootstrap,
  blobIndex: number,
  blob: CheckedBlob,
  locations: BlobLocations,
  findings: Findings,
  options: BlobOptions,
): Promise<CheckedBlobReport> {
  const blobFindings = findings.forSubject(`blob ${blob.id}`);
  const { chunks } = image;
  const used = chunks.entries.filter((entry) => entry.blobIndex === blobIndex);
  const location = await locations.data(blob);
  if (location !== null && location.size < blob.compressedSize) {
    const message = `${blob.compressedSize} bytes in the blob table, but the blob has ${location.size}`;
    blobFindings.error('compressed_size', null, message, { code: 'SIZE_MISMATCH' });
  }
  const isTarfs = on(blob, FEATURE.TARFS);
  const metaLocation = isTarfs ? null : on(blob, FEATURE.SEPARATE) ? await locations.meta(blob) : location;
  const decodable = decodableBlob(blob);
  const packed = isTarfs ? null : locations.packedMeta(blob);
  const decoder = codec();
  const context = {
    blob,
    decodable,
    blobIndex,
    chunks,
    packed,
    codec: decoder,
    findings: blobFindings,
    signal: options.signal,
  };
  const end =
    metaLocation === null ? null : await checkEnd(metaLocation, location?.size ?? blob.compressedSize, context);
  const isRead = options.deep && location !== null;
  if (isRead) {
    const reported = { size: location.size, source: reportingSource(location, blob.id, options.onProgress) };
    await checkAllData(image, blobIndex, reported, decodable, end, decoder, blobFindings, options.signal);
  }
  const dataSize = end?.dataSize ?? null;
  const covered = on(blob, FEATURE.BATCH) ? null : coveredBytes(used);
  return {
    id: blob.id,
    size: location?.size ?? null,
    chunks: used.length,
    dataSize,
    unusedSize: dataSize === null || covered === null || isTarfs ? null : Math.max(0, dataSize - covered),
    isRead,
  };
}

const reportingSource = (
  { source, size: total }: BlobLocation,
  digest: string,
  onProgress?: OnProgress,
): BlobSource => ({
  subject: source.subject,
  read: (offset, length, signal) =>
    reportingPieces(source.read(offset, length, signal), onProgress, { phase: 'check', digest, total }),
});

/** The blob with its codecs typed; null when a compressor or digester is unknown. */
function decodableBlob(blob: CheckedBlob): RafsBlob | null {
  const { compressor, ciCompressor, digester } = blob;
  const isKnown = compressor <= 3 && ciCompressor <= 3 && digester <= 1;
  return isKnown ? ({ ...blob, compressor, ciCompressor, digester } as RafsBlob) : null;
}

/** Stored bytes that at least one chunk covers. */
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
  location: BlobLocation,
  decodable: RafsBlob | null,
  end: CheckedEnd | null,
  decoder: Codec,
  findings: Findings,
  signal: AbortSignal,
): Promise<void> {
  const blob = image.blobs[blobIndex]!;
  const { meta = null, digests = null, digestMember = null, dataEntry = null } = end ?? {};
  const chunks =
    decodable === null || on(blob, FEATURE.TARFS)
      ? null
      : { blob: decodable, blobIndex, chunks: image.chunks, meta, digests };
  // The digest of the data covers its tar header too.
  const cuts = { prefix: dataEntry === null ? 0 : (end?.dataSize ?? 0) + 512, hole: digestMember };
  const read = await checkData(location, chunks, cuts, decoder, findings, signal);
  if (read === null) return;
  checkId(blob.id, read, findings);
  const expected = dataEntry?.digest.toString('hex');
  if (expected !== undefined && expected !== read.prefix) {
    const message = `${expected} for image.blob, but its bytes have ${read.prefix}`;
    findings.error('uncompressed_digest', dataEntry!.at + 24, message, { code: 'DIGEST_MISMATCH' });
  }
}

function checkId(id: string, read: ReadData, findings: Findings): void {
  if (read.whole === id || read.withoutHole === id) return;
  findings.error('blob_id', null, `the blob's bytes have the digest ${read.whole}`, { code: 'DIGEST_MISMATCH' });
}
