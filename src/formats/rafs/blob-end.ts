/**
 * Encodes the end of a blob. It follows the chunk data (nydus, storage/src/meta/mod.rs and toc.rs; tar headers *follow* the
 * member that they describe, and nothing is padded):
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

/** The encoded end of a blob whose chunk data has been written. */
export interface BlobEnd {
  /** Bytes to append to the blob. */
  readonly tail: Buffer;
  /** The blob without its id, which is the sha256 of the whole file. */
  readonly blob: Omit<RafsBlob, 'id'>;
  /** The file `blob.meta` of the bootstrap layer, which is named {@link metaNameOf} of the blob. */
  readonly meta: Buffer;
  /** The separate chunk info file, named after its sha256; null when the blob contains its chunk info. */
  readonly metaBlob: Buffer | null;
}

export interface BlobSoFar {
  /** Length of the chunk data in bytes. */
  readonly dataSize: number;
  /** Appends the tar header and returns the lower-case hex sha256 of all bytes so far. */
  sha256WithHeader(header: Buffer): Promise<string>;
}

export interface BlobOptions {
  readonly chunkSize: number;
  readonly compressor: Compressor;
  readonly digester: Digester;
  /** `separate`: the chunk info is a separate file. Default `one`: the blob contains it. */
  readonly form?: 'one' | 'separate';
}

/**
 * Makes the end of a blob. `chunks`: all chunks in the order of their data; the position of a chunk is its index. Throws
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
  // Nydus writes the aligned size, though the flag means that the data is not compressed.
  const data = { ...storedRange(0, at.dataSize, 0), uncompressedSize };
  const toc = Buffer.concat([
    encodeTocEntry({ name: MEMBER.data, digest: dataDigest, ...data }),
    encodeTocEntry({
      name: MEMBER.meta,
      digest: sha256(plain),
      ...storedRange(ciOffset, stored.length, info.compressor),
      uncompressedSize: plain.length,
    }),
    encodeTocEntry({ name: META_HEADER, digest: sha256(header), ...storedRange(headerOffset, header.length, 0) }),
    encodeTocEntry({ name: MEMBER.digests, digest: sha256(digests), ...storedRange(digestOffset, digests.length, 0) }),
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
 * Makes the chunk info with which an ordinary gzip layer can be a blob: it locates the content of the layer's files.
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

/** The end of a blob with data and chunk info in two files. */
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

/** Location and sizes of a TOC entry; its plain size is that of the stored bytes. */
const storedRange = (compressedOffset: number, size: number, compressor: Compressor) => ({
  compressor,
  compressedOffset,
  compressedSize: size,
  uncompressedSize: size,
});
