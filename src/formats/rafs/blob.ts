/** Description of a data blob, from the blob table of a bootstrap. */
import type { Compressor, Digester } from '../../native/addon.ts';
import { FEATURE } from './layout.ts';

/** One data blob of the blob table. Sizes and offsets are in bytes. */
export interface RafsBlob {
  /** Lower-case hex sha256 of the whole blob. */
  readonly id: string;
  /** Maximum chunk size. */
  readonly chunkSize: number;
  /** Entries of its chunk info array; the bootstrap may use fewer. */
  readonly chunkCount: number;
  /** Compressor of its chunks. */
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
  /** Cipher (AES-128-XTS) of the chunks and the chunk info of an encrypted blob; else null. */
  readonly cipher: Cipher | null;
  /**
   * SHA-256 of the separate chunk info file, which is named after it; null when the blob has none (SEPARATE is not set).
   * Blobs that are ordinary layers have such a file.
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

/** Whether the chunk info (`blob.meta`) is needed to locate the chunks of a blob: the chunk table is not enough. */
export const needsMeta = (blob: RafsBlob): boolean => (blob.features & (FEATURE.BATCH | FEATURE.ZRAN)) !== 0;

/** Name of a blob's chunk info file in the bootstrap layer, without `.blob.meta`, as nydusd expects it. */
export const metaNameOf = ({ id, metaDigest }: Pick<RafsBlob, 'id' | 'metaDigest'>): string =>
  metaDigest?.toString('hex') ?? id;
