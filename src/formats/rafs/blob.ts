/**
 * A data blob: what the blob table says about one, and the end of the blobs that we write. Chunk data comes first, then
 * (nydus, storage/src/meta/mod.rs and toc.rs; tar headers come *behind* what they describe, and nothing is padded):
 *
 *     hdr image.blob · chunk info (CI) · CI header · hdr blob.meta · digests · hdr blob.digest · TOC · hdr rafs.blob.toc
 */
import { createHash } from 'node:crypto';
import { DIGEST_SIZE } from '../../blob/table.ts';
import type { Compressor, Digester } from '../../native/addon.ts';
import { putU64 } from './bytes.ts';
import {
  blobMetaFile,
  type ChunkInfo,
  type ChunkList,
  CI_HEADER,
  chunkInfoOf,
  encodeCiHeader,
  type ReferredUnit,
  referredChunkInfo,
  type WrittenChunk,
} from './chunkinfo.ts';
import { alignUp, BLOCK, FEATURE } from './layout.ts';

/** One data blob, as the blob table has it. Sizes and offsets in bytes. */
export interface RafsBlob {
  /** Lower-case hex sha256 of the whole blob. */
  readonly id: string;
  /** Largest chunk. */
  readonly chunkSize: number;
  /** Entries of its chunk info array; the bootstrap may use fewer. */
  readonly chunkCount: number;
  /** How its chunks are compressed. */
  readonly compressor: Compressor;
  /** The hash function of its chunks. */
  readonly digester: Digester;
  /** Bits of {@link FEATURE}. */
  readonly features: number;
  /** Length of the whole blob. */
  readonly compressedSize: number;
  /** Length of its uncompressed address space, whole blocks. */
  readonly uncompressedSize: number;
  /** Length and sha256 of the table of contents with its tar header; 0 and zeros where there is none. */
  readonly tocSize: number;
  /** SHA-256 of the table of contents with its tar header, 32 bytes. */
  readonly tocDigest: Buffer;
  /** The chunk info array (CI): place, lengths and compressor. */
  readonly ciCompressor: Compressor;
  /** First byte of the chunk info array in the blob. */
  readonly ciOffset: number;
  /** Length of the chunk info array as it is stored. */
  readonly ciCompressedSize: number;
  /** Plain length of the chunk info array. */
  readonly ciUncompressedSize: number;
  /** AES-128-XTS: how the chunks and the chunk info of an encrypted blob are read; else null. */
  readonly cipher: Cipher | null;
  /**
   * Of a blob whose chunk info is a file of its own (SEPARATE: references of ordinary layers): sha256 and length of
   * that file, which is named after its digest. Null and 0 for all others.
   */
  readonly metaDigest: Buffer | null;
  /** Length of the chunk info file; 0 where there is none. */
  readonly metaSize: number;
}

/** Key (32 bytes: two AES-128 keys) and the 16-byte tweak that every data unit of the blob uses. */
export interface Cipher {
  /** 32 bytes: the two keys of AES-128-XTS. */
  readonly key: Buffer;
  /** 16 bytes: the tweak. */
  readonly iv: Buffer;
}

/** Whether the chunks of a blob can be found only with its chunk info (`blob.meta`): the chunk table does not say enough. */
export const needsMeta = (blob: RafsBlob): boolean => (blob.features & (FEATURE.BATCH | FEATURE.ZRAN)) !== 0;

const TAR_HEADER = 512;
const TOC_ENTRY = 128;

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
  /** Appends the 512-byte header and gives the lower-case hex sha256 of all that was appended so far. */
  sha256WithHeader(header: Buffer): Promise<string>;
}

export interface BlobOptions {
  readonly chunkSize: number;
  readonly compressor: Compressor;
  readonly digester: Digester;
  /** `separate`: the chunk info does not lie in the blob. Default `one`. */
  readonly form?: 'one' | 'separate';
}

/** What the file with a blob's chunk info is called in the bootstrap layer, without `.blob.meta`: as nydusd looks for it. */
export const metaNameOf = ({ id, metaDigest }: Pick<RafsBlob, 'id' | 'metaDigest'>): string =>
  metaDigest?.toString('hex') ?? id;

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
  const dataDigest = await at.sha256WithHeader(tarHeader('image.blob', at.dataSize));
  const ciOffset = at.dataSize + TAR_HEADER;
  const header = encodeCiHeader(info, features, ciOffset);
  const digests = Buffer.allocUnsafe(chunks.length * DIGEST_SIZE);
  let end = 0;
  for (const { digest } of chunks) end += digest.copy(digests, end);

  const { stored, plain } = info;
  const headerOffset = ciOffset + stored.length;
  const digestOffset = headerOffset + CI_HEADER + TAR_HEADER;
  const toc = Buffer.concat([
    // The aligned size though the flag says "none": what Nydus writes.
    tocEntry('image.blob', 0, dataDigest, 0, at.dataSize, uncompressedSize),
    tocEntry('blob.meta', info.compressor, sha256(plain), ciOffset, stored.length, plain.length),
    tocEntry('blob.meta.header', 0, sha256(header), headerOffset, CI_HEADER, CI_HEADER),
    tocEntry('blob.digest', 0, sha256(digests), digestOffset, digests.length, digests.length),
  ]);
  const tocWithHeader = Buffer.concat([toc, tarHeader('rafs.blob.toc', toc.length)]);
  const tail = Buffer.concat([
    stored,
    header,
    tarHeader('blob.meta', stored.length + CI_HEADER),
    digests,
    tarHeader('blob.digest', digests.length),
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
export function referringBlob(
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
  info: ChunkInfo,
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

const tableFields = (info: ChunkInfo, features: number, ciOffset: number) => ({
  features,
  chunkCount: info.count,
  ciCompressor: info.compressor,
  ciOffset,
  ciCompressedSize: info.stored.length,
  ciUncompressedSize: info.plain.length,
  cipher: null,
});

const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

/** Compressor → flags of a TOC entry: 1 none, 2 zstd. */
function tocEntry(
  name: string,
  compressor: Compressor,
  digest: string,
  offset: number,
  compressedSize: number,
  uncompressedSize: number,
): Buffer {
  const out = Buffer.alloc(TOC_ENTRY);
  out.writeUInt32LE(compressor === 3 ? 2 : 1, 0); // flags
  out.write(name, 8, 16, 'latin1'); // name
  out.write(digest, 24, 'hex'); // uncompressed_digest
  putU64(out, offset, 56); // compressed_offset
  putU64(out, compressedSize, 64); // compressed_size
  putU64(out, uncompressedSize, 72); // uncompressed_size
  return out;
}

/** The bare GNU header that Nydus's builder makes: name, size, mtime 0, nothing else. */
function tarHeader(name: string, size: number): Buffer {
  const out = Buffer.alloc(TAR_HEADER);
  out.write(name, 0, 'latin1');
  out.write(`${size.toString(8).padStart(11, '0')}\0`, 124, 'latin1');
  out.write(`${'0'.repeat(11)}\0`, 136, 'latin1');
  out.fill(' ', 148, 156);
  out.write('0', 156, 'latin1');
  out.write('ustar  \0', 257, 'latin1');
  const sum = out.reduce((total, byte) => total + byte, 0);
  out.write(`${sum.toString(8).padStart(7, '0')}\0`, 148, 'latin1');
  return out;
}
