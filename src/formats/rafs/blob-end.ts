/**
 * The end of the blobs that we write. Chunk data comes first, then (nydus, storage/src/meta/mod.rs and toc.rs; tar headers
 * come *behind* what they describe, and nothing is padded):
 *
 *     hdr image.blob · chunk info (CI) · CI header · hdr blob.meta · digests · hdr blob.digest · TOC · hdr rafs.blob.toc
 */
import { createHash } from 'node:crypto';
import { DIGEST_SIZE } from '../../blob/table.ts';
import type { Compressor, Digester } from '../../native/addon.ts';
import { TAR_HEADER } from '../../tree/tarheader.ts';
import type { RafsBlob } from './blob.ts';
import { CI_HEADER_SIZE } from './chunk-info-header.ts';
import {
  blobMetaFile,
  type ChunkList,
  chunkInfoOf,
  type EncodedChunkInfo,
  encodeCiHeader,
  type ReferredUnit,
  referredChunkInfo,
  type WrittenChunk,
} from './chunk-info-writer.ts';
import { alignUp, BLOCK, FEATURE } from './layout.ts';
import { encodeTocEntry, MEMBER, META_HEADER, memberHeader } from './toc.ts';

/** The end of a blob whose chunk data has been written. */
export interface BlobEnd {
  /** What is still to be appended. */
  readonly tail: Buffer;
  /** All but the id, which is the sha256 of the whole file. */
  readonly blob: Omit<RafsBlob, 'id'>;
  /** The file `blob.meta` of the bootstrap layer, which is named after {@link metaNameOf} of the blob. */
  readonly meta: Buffer;
  /** The chunk info as a file of its own, named after its sha256, where it does not lie in the blob; else null. */
  readonly metaBlob: Buffer | null;
}

export interface BlobSoFar {
  /** Bytes of chunk data. */
  readonly dataSize: number;
  /** Appends the tar header and gives the lower-case hex sha256 of all that was appended so far. */
  sha256WithHeader(header: Buffer): Promise<string>;
}

export interface BlobOptions {
  readonly chunkSize: number;
  readonly compressor: Compressor;
  readonly digester: Digester;
  /** `separate`: the chunk info does not lie in the blob. Default `one`. */
  readonly form?: 'one' | 'separate';
}

/**
 * Makes the end of a blob. `chunks`: every chunk in the order of its data; its place there is its index. Throws
 * UNSUPPORTED for more chunks than a blob can have.
 */
export async function finishBlob(
  chunks: ChunkList<WrittenChunk>,
  at: BlobSoFar,
  options: BlobOptions,
): Promise<BlobEnd> {
  const info = chunkInfoOf(chunks, options.compressor);
  const last = chunks.at(-1)!;
  const uncompressedSize = alignUp(last.uncompressedOffset + last.uncompressedSize, BLOCK);
  const { chunkSize, compressor, digester } = options;
  const common = { chunkSize, compressor, digester, uncompressedSize };
  if (options.form === 'separate') return { tail: Buffer.alloc(0), ...separateEnd(info, common, at.dataSize) };

  const features =
    info.features |
    FEATURE.ALIGNED |
    FEATURE.INLINED_CHUNK_DIGEST |
    FEATURE.HAS_TAR_HEADER |
    FEATURE.HAS_TOC |
    FEATURE.CAP_TAR_TOC;
  const dataDigest = await at.sha256WithHeader(memberHeader(MEMBER.data, at.dataSize));
  const ciOffset = at.dataSize + TAR_HEADER.size;
  const header = encodeCiHeader(info, features, ciOffset);
  const digests = Buffer.allocUnsafe(chunks.length * DIGEST_SIZE);
  let end = 0;
  for (const { digest } of chunks) end += digest.copy(digests, end);

  const { stored, plain } = info;
  const headerOffset = ciOffset + stored.length;
  const digestOffset = headerOffset + CI_HEADER_SIZE + TAR_HEADER.size;
  // The aligned size though the flag says "none": what Nydus writes.
  const data = { ...placeOf(0, at.dataSize, 0), uncompressedSize };
  const toc = Buffer.concat([
    encodeTocEntry({ name: MEMBER.data, digest: dataDigest, ...data }),
    encodeTocEntry({
      name: MEMBER.meta,
      digest: sha256(plain),
      ...placeOf(ciOffset, stored.length, info.compressor),
      uncompressedSize: plain.length,
    }),
    encodeTocEntry({ name: META_HEADER, digest: sha256(header), ...placeOf(headerOffset, header.length, 0) }),
    encodeTocEntry({ name: MEMBER.digests, digest: sha256(digests), ...placeOf(digestOffset, digests.length, 0) }),
  ]);
  const tocWithHeader = Buffer.concat([toc, memberHeader(MEMBER.toc, toc.length)]);
  const tail = Buffer.concat([
    stored,
    header,
    memberHeader(MEMBER.meta, stored.length + CI_HEADER_SIZE),
    digests,
    memberHeader(MEMBER.digests, digests.length),
    tocWithHeader,
  ]);
  return {
    tail,
    meta: blobMetaFile(info, header),
    metaBlob: null,
    blob: {
      ...common,
      ...tableFields(info, features, ciOffset),
      compressedSize: ciOffset + tail.length,
      tocSize: tocWithHeader.length,
      tocDigest: Buffer.from(sha256(tocWithHeader), 'hex'),
      metaDigest: null,
      metaSize: 0,
    },
  };
}

/**
 * Makes what an ordinary gzip layer needs to be the data of an image: chunk info that tells where its files' content lies.
 * `layerSize`: bytes of the layer, whose digest is the blob's id.
 */
export function zranBlob(
  chunks: ChunkList<WrittenChunk>,
  units: readonly ReferredUnit[],
  layerSize: number,
  { chunkSize, digester }: Pick<BlobOptions, 'chunkSize' | 'digester'>,
): Omit<BlobEnd, 'tail'> {
  const last = chunks.at(-1)!;
  const uncompressedSize = alignUp(last.uncompressedOffset + last.uncompressedSize, BLOCK);
  const common = { chunkSize, compressor: 2, digester, uncompressedSize } as const;
  return separateEnd(referredChunkInfo(chunks, units), common, layerSize);
}

/** Data and chunk info in two files. */
function separateEnd(
  info: EncodedChunkInfo,
  common: Pick<RafsBlob, 'chunkSize' | 'compressor' | 'digester' | 'uncompressedSize'>,
  dataSize: number,
): Omit<BlobEnd, 'tail'> {
  const features = info.features | FEATURE.ALIGNED | FEATURE.SEPARATE | FEATURE.CAP_TAR_TOC;
  const header = encodeCiHeader(info, features, 0);
  const metaBlob = Buffer.concat([info.stored, header]);
  return {
    meta: blobMetaFile(info, header),
    metaBlob,
    blob: {
      ...common,
      ...tableFields(info, features, 0),
      compressedSize: dataSize,
      tocSize: 0,
      tocDigest: Buffer.alloc(32),
      metaDigest: Buffer.from(sha256(metaBlob), 'hex'),
      metaSize: metaBlob.length,
    },
  };
}

const tableFields = (info: EncodedChunkInfo, features: number, ciOffset: number) => ({
  features,
  chunkCount: info.count,
  ciCompressor: info.compressor,
  ciOffset,
  ciCompressedSize: info.stored.length,
  ciUncompressedSize: info.plain.length,
  cipher: null,
});

const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

/** Where a member lies, of which as many bytes are stored as it has. */
const placeOf = (compressedOffset: number, size: number, compressor: Compressor) => ({
  compressor,
  compressedOffset,
  compressedSize: size,
  uncompressedSize: size,
});
