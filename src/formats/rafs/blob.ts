/** What is known of a data blob from the blob table of a bootstrap. */
import type { Compressor, Digester } from '../../native/addon.ts';
import { FEATURE } from './layout.ts';

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

/** What the file with a blob's chunk info is called in the bootstrap layer, without `.blob.meta`: as nydusd looks for it. */
export const metaNameOf = ({ id, metaDigest }: Pick<RafsBlob, 'id' | 'metaDigest'>): string =>
  metaDigest?.toString('hex') ?? id;
