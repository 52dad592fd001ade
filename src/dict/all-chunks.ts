/**
 * Every chunk of a blob, also those that an image does not use because upper layers hide their files: a layer that is
 * converted again has them all. Their places come from the chunk info, their digests from the end of the blob.
 */
import { createHash } from 'node:crypto';
import { type BlobSource, readRange } from '../blob/source.ts';
import { DIGEST_SIZE } from '../blob/table.ts';
import { FormatError, isLacunaError } from '../errors.ts';
import type { RafsBlob } from '../formats/rafs/blob.ts';
import { ChunkInfo } from '../formats/rafs/chunk-info.ts';
import { CI_FLAG } from '../formats/rafs/chunk-info-entry.ts';
import { FEATURE } from '../formats/rafs/layout.ts';
import { MAX_TOC_SIZE } from '../formats/rafs/limits.ts';
import { metaSize } from '../formats/rafs/meta.ts';
import { metaPlaceOf, openMetaFile } from '../formats/rafs/metafile.ts';
import { decodeToc, MEMBER, type TocEntry } from '../formats/rafs/toc.ts';
import { codec } from '../native/codec.ts';
import type { FileChunk } from '../tree/node.ts';
import { TAR_HEADER } from '../tree/tarheader.ts';

export interface BlobToRead {
  readonly blob: RafsBlob;
  /** Bytes of the whole blob. */
  readonly size: number;
  /** Its `blob.meta` file where the image carries it. */
  readonly meta: Buffer | null;
  readonly source: BlobSource;
}

const OP = 'read dictionary';

/**
 * `used`: the chunks that the image refers to. They are the result when the blob is gone or when nothing at its end is
 * authenticated by the bootstrap. FormatError for an end that contradicts it.
 */
export async function allChunks(
  { blob, size, meta, source }: BlobToRead,
  used: readonly FileChunk[],
  signal: AbortSignal,
): Promise<readonly FileChunk[]> {
  if (used.length === blob.chunkCount) return used;
  try {
    const toc = await readToc(blob, size, source, signal);
    const digests = toc?.find(({ name }) => name === MEMBER.digests);
    const info = toc?.find(({ name }) => name === MEMBER.meta);
    if (digests === undefined || info === undefined) return used;
    const bytes = await readDigests(digests, blob, source, signal);
    const plain = meta?.length === metaSize(blob) ? meta : await readMeta(blob, source, signal);
    if (!sha256(plain.subarray(0, blob.ciUncompressedSize)).equals(info.digest)) {
      throw differs(MEMBER.meta, source);
    }
    return [...used, ...unusedOf(new ChunkInfo(plain, blob, source.subject), bytes, blob, used, source)];
  } catch (error) {
    if (isLacunaError(error) && error.code === 'NOT_FOUND') return used;
    throw error;
  }
}

/** The table of contents, null when the bootstrap does not have its digest. */
async function readToc(
  blob: RafsBlob,
  size: number,
  source: BlobSource,
  signal: AbortSignal,
): Promise<TocEntry[] | null> {
  const { tocSize, tocDigest, features } = blob;
  const isKnown = (features & FEATURE.INLINED_CHUNK_DIGEST) !== 0 && !tocDigest.equals(Buffer.alloc(DIGEST_SIZE));
  if (!isKnown || tocSize <= TAR_HEADER.size || tocSize > MAX_TOC_SIZE || tocSize > size) return null;
  const bytes = await readRange(source, size - tocSize, tocSize, signal);
  const entries = bytes.subarray(0, tocSize - TAR_HEADER.size);
  // Nydus's Go side leaves the tar header out.
  if (!sha256(bytes).equals(tocDigest) && !sha256(entries).equals(tocDigest)) throw differs(MEMBER.toc, source);
  return decodeToc(entries, source.subject);
}

async function readDigests(
  { compressedOffset, compressedSize, compressor, digest }: TocEntry,
  blob: RafsBlob,
  source: BlobSource,
  signal: AbortSignal,
): Promise<Buffer> {
  if (compressedSize !== blob.chunkCount * DIGEST_SIZE || compressor !== 0) {
    const problem = `${compressedSize} bytes for ${blob.chunkCount} chunks`;
    throw new FormatError(MEMBER.digests, problem, { op: OP, subject: source.subject });
  }
  const bytes = await readRange(source, compressedOffset, compressedSize, signal);
  if (!sha256(bytes).equals(digest)) throw differs(MEMBER.digests, source);
  return bytes;
}

async function readMeta(blob: RafsBlob, source: BlobSource, signal: AbortSignal): Promise<Buffer> {
  const { offset, size } = metaPlaceOf(blob, source.subject);
  return await openMetaFile(await readRange(source, offset, size, signal), blob, codec(), source.subject);
}

function* unusedOf(
  info: ChunkInfo,
  digests: Buffer,
  blob: RafsBlob,
  used: readonly FileChunk[],
  source: BlobSource,
): Generator<FileChunk> {
  const usedIndexes = new Set(used.map(({ index }) => index));
  for (let index = 0; index < info.length; index++) {
    if (usedIndexes.has(index)) continue;
    const { flags, offset, context: _, ...place } = info.entry(index);
    // Members of a batch are not referred to.
    if ((flags & (CI_FLAG.BATCH | CI_FLAG.ZRAN | CI_FLAG.ENCRYPTED)) !== 0) continue;
    const end = place.compressedOffset + place.compressedSize;
    if (end > blob.ciOffset || place.uncompressedSize > blob.chunkSize) {
      throw new FormatError('chunk info', `chunk ${index} lies outside the blob's data`, {
        op: OP,
        subject: source.subject,
      });
    }
    yield {
      ...place,
      compressor: (flags & CI_FLAG.COMPRESSED) === 0 ? 0 : blob.compressor,
      digester: blob.digester,
      digest: digests.subarray(index * DIGEST_SIZE, (index + 1) * DIGEST_SIZE),
      blob: blob.id,
      index,
      crc32c: (flags & CI_FLAG.HAS_CRC32) === 0 ? null : offset,
      within: null,
    };
  }
}

const sha256 = (bytes: Buffer): Buffer => createHash('sha256').update(bytes).digest();

const differs = (name: string, { subject }: BlobSource): FormatError =>
  new FormatError(name, 'digest mismatch: its bytes do not hash to what the image says', { op: OP, subject });
