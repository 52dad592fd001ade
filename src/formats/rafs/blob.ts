/**
 * A data blob: what the blob table says about one, and the end of the blobs that we write. Chunk data comes first, then
 * (nydus, storage/src/meta/mod.rs and toc.rs; tar headers come *behind* what they describe, and nothing is padded):
 *
 *     hdr image.blob · chunk info (CI) · CI header · hdr blob.meta · digests · hdr blob.digest · TOC · hdr rafs.blob.toc
 */
import { createHash } from 'node:crypto';
import type { Chunk } from '../../blob/table.ts';
import { LacunaError } from '../../errors.ts';
import { addon, type Compressor, type Digester } from '../../native/addon.ts';
import { putU64 } from './bytes.ts';
import { alignUp, BLOCK, FEATURE, MAX_CHUNKS } from './layout.ts';

/** One data blob, as the blob table has it. Sizes and offsets in bytes. */
export interface RafsBlob {
  /** Lower-case hex sha256 of the whole blob. */
  readonly id: string;
  /** Largest chunk. */
  readonly chunkSize: number;
  /** Entries of its chunk info array; the bootstrap may use fewer. */
  readonly chunkCount: number;
  readonly compressor: Compressor;
  readonly digester: Digester;
  /** Bits of {@link FEATURE}. */
  readonly features: number;
  /** Length of the whole blob. */
  readonly compressedSize: number;
  /** Length of its uncompressed address space, whole blocks. */
  readonly uncompressedSize: number;
  /** Length and sha256 of the table of contents with its tar header; 0 and zeros where there is none. */
  readonly tocSize: number;
  readonly tocDigest: Buffer;
  /** The chunk info array (CI): place, lengths and compressor. */
  readonly ciCompressor: Compressor;
  readonly ciOffset: number;
  readonly ciCompressedSize: number;
  readonly ciUncompressedSize: number;
  /** AES-128-XTS: how the chunks and the chunk info of an encrypted blob are read; else null. */
  readonly cipher: Cipher | null;
  /**
   * Of a blob whose chunk info is a file of its own (SEPARATE: references of ordinary layers): sha256 and length of that file,
   * which is named after its digest. Null and 0 for all others.
   */
  readonly metaDigest: Buffer | null;
  readonly metaSize: number;
}

/** Key (32 bytes: two AES-128 keys) and the 16-byte tweak that every data unit of the blob uses. */
export interface Cipher {
  readonly key: Buffer;
  readonly iv: Buffer;
}

/** Whether the chunks of a blob can be found only with its chunk info (`blob.meta`): the chunk table does not say enough. */
export const needsMeta = (blob: RafsBlob): boolean => (blob.features & (FEATURE.BATCH | FEATURE.ZRAN)) !== 0;

/** What the blobs that we write are: aligned chunks, their digests and a table of contents inside. */
const OUR_FEATURES =
  FEATURE.ALIGNED | FEATURE.INLINED_CHUNK_DIGEST | FEATURE.HAS_TAR_HEADER | FEATURE.HAS_TOC | FEATURE.CAP_TAR_TOC;

/** Bytes of one V1 chunk info entry. */
const CI_ENTRY = 16;
const CI_HEADER = 4096;
const CI_MAGIC = 0xb10bb10b;
const TAR_HEADER = 512;
const TOC_ENTRY = 128;
/** Level of the chunk info: a few kilobytes of metadata, compressed once. */
const CI_LEVEL = 3;

/** The end of a blob whose chunk data has been written. */
export interface BlobEnd {
  /** What follows the `image.blob` header, which {@link BlobSoFar.sha256WithHeader} was given to append. */
  readonly tail: Buffer;
  /** All but the id, which is the sha256 of the whole file. */
  readonly blob: Omit<RafsBlob, 'id'>;
  /** The file `image/<id>.blob.meta` of the bootstrap layer: CI, plain, padded to blocks, and its header. */
  readonly meta: Buffer;
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
}

/**
 * Makes the end of a blob. `chunks`: every chunk in the order of its data; its place there is its index. Throws
 * UNSUPPORTED for more chunks than a blob can have.
 */
export async function finishBlob(chunks: readonly Chunk[], at: BlobSoFar, options: BlobOptions): Promise<BlobEnd> {
  if (chunks.length === 0) throw wrong('a blob without chunks');
  if (chunks.length > MAX_CHUNKS) {
    throw new LacunaError('UNSUPPORTED', `${chunks.length} chunks; a blob has at most ${MAX_CHUNKS}`, {
      op: 'write blob',
      hint: 'choose a larger chunk size',
    });
  }
  const last = chunks[chunks.length - 1]!;
  const uncompressedSize = alignUp(last.uncompressedOffset + last.uncompressedSize, BLOCK);
  const dataDigest = await at.sha256WithHeader(tarHeader('image.blob', at.dataSize));

  const plain = encodeChunkInfo(chunks);
  const packed = addon().zstdCompress(plain, CI_LEVEL);
  const ciCompressor: Compressor = packed.length < plain.length ? 3 : 0;
  const ci = ciCompressor === 3 ? packed : plain;
  const ciOffset = at.dataSize + TAR_HEADER;
  const header = encodeCiHeader(chunks.length, ciCompressor, ciOffset, ci.length, plain.length);
  const digests = Buffer.concat(chunks.map((chunk) => chunk.digest));

  const headerOffset = ciOffset + ci.length;
  const digestOffset = headerOffset + CI_HEADER + TAR_HEADER;
  const toc = Buffer.concat([
    // The aligned size though the flag says "none": what Nydus writes.
    tocEntry('image.blob', 0, dataDigest, 0, at.dataSize, uncompressedSize),
    tocEntry('blob.meta', ciCompressor, sha256(plain), ciOffset, ci.length, plain.length),
    tocEntry('blob.meta.header', 0, sha256(header), headerOffset, CI_HEADER, CI_HEADER),
    tocEntry('blob.digest', 0, sha256(digests), digestOffset, digests.length, digests.length),
  ]);
  const tocWithHeader = Buffer.concat([toc, tarHeader('rafs.blob.toc', toc.length)]);
  const tail = Buffer.concat([
    ci,
    header,
    tarHeader('blob.meta', ci.length + CI_HEADER),
    digests,
    tarHeader('blob.digest', digests.length),
    tocWithHeader,
  ]);
  return {
    tail,
    meta: Buffer.concat([plain, Buffer.alloc(alignUp(plain.length, BLOCK) - plain.length), header]),
    blob: {
      chunkSize: options.chunkSize,
      compressor: options.compressor,
      digester: options.digester,
      chunkCount: chunks.length,
      features: OUR_FEATURES,
      compressedSize: ciOffset + tail.length,
      uncompressedSize,
      tocSize: tocWithHeader.length,
      tocDigest: Buffer.from(sha256(tocWithHeader), 'hex'),
      ciCompressor,
      ciOffset,
      ciCompressedSize: ci.length,
      ciUncompressedSize: plain.length,
      cipher: null,
      metaDigest: null,
      metaSize: 0,
    },
  };
}

const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');
const wrong = (what: string): LacunaError => new LacunaError('INTERNAL', what, { op: 'write blob' });

/**
 * Chunk info V1, two u64: 0xfffff000 and 12 bits above of the uncompressed offset, 40 bits of the compressed one; the
 * sizes minus one lie in the upper 20 bits, their bits 20…23 in 8…11 of the first and 40…43 of the second word.
 */
function encodeChunkInfo(chunks: readonly Chunk[]): Buffer {
  const out = Buffer.alloc(chunks.length * CI_ENTRY);
  let plainEnd = 0;
  let storedEnd = 0;
  for (const [i, chunk] of chunks.entries()) {
    if (chunk.uncompressedOffset !== plainEnd || chunk.compressedOffset !== storedEnd) {
      throw wrong(`chunk ${i} does not follow the one before it`);
    }
    plainEnd = alignUp(plainEnd + chunk.uncompressedSize, BLOCK);
    storedEnd += chunk.compressedSize;
    const usize = chunk.uncompressedSize - 1;
    const csize = chunk.compressedSize - 1;
    const uoffHigh = Math.floor(chunk.uncompressedOffset / 2 ** 32);
    const coffHigh = Math.floor(chunk.compressedOffset / 2 ** 32);
    const at = i * CI_ENTRY;
    out.writeUInt32LE(((chunk.uncompressedOffset % 2 ** 32) + ((usize >>> 20) << 8)) >>> 0, at);
    out.writeUInt32LE(((usize << 12) | uoffHigh) >>> 0, at + 4);
    out.writeUInt32LE(chunk.compressedOffset % 2 ** 32, at + 8);
    out.writeUInt32LE(((csize << 12) | ((csize >>> 20) << 8) | coffHigh) >>> 0, at + 12);
  }
  return out;
}

function encodeCiHeader(
  entries: number,
  compressor: Compressor,
  offset: number,
  compressedSize: number,
  uncompressedSize: number,
): Buffer {
  const out = Buffer.alloc(CI_HEADER);
  out.writeUInt32LE(CI_MAGIC, 0); // s_magic
  out.writeUInt32LE(OUR_FEATURES, 4); // s_features
  out.writeUInt32LE(compressor, 8); // s_ci_compressor
  out.writeUInt32LE(entries, 12); // s_ci_entries
  putU64(out, offset, 16); // s_ci_offset
  putU64(out, compressedSize, 24); // s_ci_compressed_size
  putU64(out, uncompressedSize, 32); // s_ci_uncompressed_size
  out.writeUInt32LE(CI_MAGIC, CI_HEADER - 4); // s_magic2
  return out;
}

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
