/**
 * The file `blob.meta` of Nydus: chunk info, padded to blocks, and its header. A blob, or a separate file, has the stored form
 * of both.
 */
import { Reader } from '../../binary/reader.ts';
import type { Unit } from '../../blob/table.ts';
import type { Codec } from '../../native/codec.ts';
import { needsMeta, type RafsBlob } from './blob.ts';
import { CI_HEADER_SIZE, checkCiHeader } from './chunk-info-header.ts';
import { alignUp, BLOCK } from './layout.ts';
import { MAX_META_SIZE } from './limits.ts';

export const OP = 'read blob.meta';

/** Range of the stored chunk info and header in the blob, or in the file of {@link RafsBlob.metaDigest}. */
export function metaRange(blob: RafsBlob): { readonly offset: number; readonly size: number } {
  return { offset: blob.ciOffset, size: blob.ciCompressedSize + CI_HEADER_SIZE };
}

/** Length of the plain `blob.meta`. */
export const metaSize = (blob: RafsBlob): number => alignUp(blob.ciUncompressedSize, BLOCK) + CI_HEADER_SIZE;

/** The first blob whose chunk info exceeds the limit: `total` bytes with that of the blobs before it. */
export interface ExcessMeta {
  readonly blob: RafsBlob;
  readonly total: number;
}

/** The first of `blobs` whose chunk info readers refuse, so that writers must not write it; null when there is none. */
export function excessMeta(blobs: readonly RafsBlob[]): ExcessMeta | null {
  let total = 0;
  for (const blob of blobs.filter(needsMeta)) {
    total += metaSize(blob);
    if (total > MAX_META_SIZE) return { blob, total };
  }
  return null;
}

export const describeExcess = ({ blob, total }: ExcessMeta): string =>
  `the chunk info of blob ${blob.id} and of those before it has ${total} bytes, maximum ${MAX_META_SIZE}`;

/**
 * Decodes the bytes of {@link metaRange} to the plain `blob.meta`: chunk info padded to blocks, then its header. In an
 * encrypted blob, each of the two is an encrypted unit.
 */
export async function unpackMeta(stored: Buffer, blob: RafsBlob, codec: Codec, subject: string): Promise<Buffer> {
  const { size } = metaRange(blob);
  if (stored.length !== size) {
    throw new Reader(stored, subject, OP).bad('ci_compressed_size', `${stored.length} bytes, not ${size}`, 0);
  }
  const { ciCompressedSize, ciUncompressedSize, ciCompressor, cipher } = blob;
  const isRaw = ciCompressedSize === ciUncompressedSize;
  const decode = (from: number, to: number, plain: number, compressor: 0 | 1 | 2 | 3) => {
    const unit = { compressedOffset: from, compressedSize: to - from, size: plain };
    const how = cipher === null ? { kind: 'batch', compressor } : { kind: 'encrypted', ...cipher, compressor };
    // The chunk info of 11 million chunks exceeds the maximum unit size.
    if (cipher === null && compressor === 3) return codec.zstdDecompress(stored.subarray(from, to), plain);
    return codec.decodeUnit(stored.subarray(from, to), { ...unit, decoder: how as Unit['decoder'] });
  };
  const out = Buffer.alloc(metaSize(blob));
  if (ciUncompressedSize > 0) {
    const plain = await decode(0, ciCompressedSize, ciUncompressedSize, isRaw ? 0 : ciCompressor);
    if (plain.length !== ciUncompressedSize) {
      throw new Reader(stored, subject, OP).bad(
        'ci_uncompressed_size',
        `${plain.length} bytes, not ${ciUncompressedSize}`,
        0,
      );
    }
    plain.copy(out);
  }
  const header = stored.subarray(ciCompressedSize);
  (cipher === null ? header : await decode(ciCompressedSize, size, CI_HEADER_SIZE, 0)).copy(
    out,
    out.length - CI_HEADER_SIZE,
  );
  return out;
}

/**
 * Throws FormatError when the header does not match the blob table. `stored`: as for {@link unpackMeta}, of a blob that is
 * not encrypted.
 */
export const checkMetaHeader = (stored: Buffer, blob: RafsBlob, subject: string): void =>
  checkCiHeader(new Reader(stored, `${subject}, blob.meta of ${blob.id}`, OP), stored.length - CI_HEADER_SIZE, blob);
