/** Entries of a blob's chunk info, of both versions, bytes ⇄ object. */
import { type FieldPlace, u8, u24, u32, u40, u64 } from '../../binary/fields.ts';
import type { Reader } from '../../binary/reader.ts';
import { struct } from '../../binary/struct.ts';
import { BLOCK, FEATURE, META_RS } from './layout.ts';

/** Flags of a V2 entry. Their numbers are not those of the chunk table. */
export const CI_FLAG = { COMPRESSED: 0x1, ZRAN: 0x2, BATCH: 0x4, ENCRYPTED: 0x8, HAS_CRC32: 0x10 } as const;
export const KNOWN_CI_FLAGS = Object.values(CI_FLAG).reduce((all, bit) => all | bit, 0);

/** Entries of V1: two words of bit fields. */
export const CHUNK_INFO_V1 = struct('BlobChunkInfoV1Ondisk', `${META_RS}/chunk_info_v1.rs`, 16, {
  plain: u64(0, 'uncomp_info', 'bits 12…43: offset in the device, whole blocks; 44…63, then 8…11: size − 1'),
  stored: u64(8, 'comp_info', 'bits 0…39: offset in the blob; 44…63, then 40…43: size − 1'),
});

export const CHUNK_INFO_V2 = struct('BlobChunkInfoV2Ondisk', `${META_RS}/chunk_info_v2.rs`, 24, {
  block: u32(0, 'uncompressed_offset', `in the device, in units of ${BLOCK} bytes`),
  lastByte: u24(4, 'uncompressed_size', 'bytes − 1'),
  flags: u8(7, 'flags', '1 compressed, 2 zran, 4 batch, 8 encrypted, 16 has a CRC-32C'),
  compressedOffset: u40(8, 'compressed_offset', 'bytes, in the blob'),
  compressedSize: u24(13, 'compressed_size', 'bytes as stored; 0 in a batch'),
  offset: u32(16, 'offset', 'bytes, in what the unit decodes to'),
  crc32c: u32(16, 'crc32', 'in the same place: CRC-32C of a chunk that is stored alone and has one'),
  context: u32(20, 'context', 'number of the batch or span that the chunk lies in'),
});

const { plain: PLAIN, stored: STORED } = CHUNK_INFO_V1.fields;
const { fields: V2 } = CHUNK_INFO_V2;

/** Part of a V1 entry with the stored size: the upper half of its second word. */
export const V1_STORED_SIZE: FieldPlace = { name: V2.compressedSize.name, at: STORED.at + 4 };

/** One entry: what V1 and V2 have in common, and what V2 adds. */
export interface ChunkInfoEntry {
  readonly uncompressedOffset: number;
  readonly uncompressedSize: number;
  readonly compressedOffset: number;
  readonly compressedSize: number;
  /** Bits of {@link CI_FLAG}. V1 has no flags, but its sizes show whether a chunk is compressed. */
  readonly flags: number;
  /** V2 only: context and offset in its decoded unit, or the CRC-32C in `offset`. */
  readonly context: number;
  readonly offset: number;
}

/** Length in bytes of one chunk info entry of a blob with `features`. */
export const chunkInfoSize = (features: number): number =>
  (features & FEATURE.CHUNK_INFO_V2) === 0 ? CHUNK_INFO_V1.size : CHUNK_INFO_V2.size;

/** Decodes the entry of `size` bytes at `at`. Values are not checked. Throws FormatError beyond the end. */
export const decodeChunkInfo = (reader: Reader, at: number, size: number): ChunkInfoEntry =>
  size === CHUNK_INFO_V1.size ? decodeV1(reader, at) : decodeV2(reader, at);

/** Decodes a V1 entry in halves, since its words have more bits than a number can hold exactly. */
function decodeV1(reader: Reader, at: number): ChunkInfoEntry {
  const half = (offset: number) => reader.u32(at + offset, 'chunk info');
  const [low, high] = [half(PLAIN.at), half(PLAIN.at + 4)];
  const [storedLow, storedHigh] = [half(STORED.at), half(STORED.at + 4)];
  const uncompressedSize = ((((low >>> 8) & 0xf) << 20) | (high >>> 12)) + 1;
  const compressedSize = ((((storedHigh >>> 8) & 0xf) << 20) | (storedHigh >>> 12)) + 1;
  return {
    uncompressedOffset: (high & 0xfff) * 2 ** 32 + ((low & 0xfffff000) >>> 0),
    uncompressedSize,
    compressedOffset: (storedHigh & 0xff) * 2 ** 32 + storedLow,
    compressedSize,
    flags: compressedSize === uncompressedSize ? 0 : CI_FLAG.COMPRESSED,
    context: 0,
    offset: 0,
  };
}

export function writeChunkInfoV1(
  out: Buffer,
  at: number,
  chunk: Pick<ChunkInfoEntry, 'uncompressedOffset' | 'uncompressedSize' | 'compressedOffset' | 'compressedSize'>,
): void {
  const plain = chunk.uncompressedSize - 1;
  const stored = chunk.compressedSize - 1;
  const plainHigh = Math.floor(chunk.uncompressedOffset / 2 ** 32);
  const storedHigh = Math.floor(chunk.compressedOffset / 2 ** 32);
  out.writeUInt32LE(((chunk.uncompressedOffset % 2 ** 32) + ((plain >>> 20) << 8)) >>> 0, at + PLAIN.at);
  out.writeUInt32LE(((plain << 12) | plainHigh) >>> 0, at + PLAIN.at + 4);
  out.writeUInt32LE(chunk.compressedOffset % 2 ** 32, at + STORED.at);
  out.writeUInt32LE(((stored << 12) | ((stored >>> 20) << 8) | storedHigh) >>> 0, at + STORED.at + 4);
}

function decodeV2(reader: Reader, at: number): ChunkInfoEntry {
  return {
    uncompressedOffset: V2.block.read(reader, at) * BLOCK,
    uncompressedSize: V2.lastByte.read(reader, at) + 1,
    compressedOffset: V2.compressedOffset.read(reader, at),
    compressedSize: V2.compressedSize.read(reader, at),
    flags: V2.flags.read(reader, at),
    context: V2.context.read(reader, at),
    offset: V2.offset.read(reader, at),
  };
}

export function writeChunkInfoV2(out: Buffer, at: number, entry: ChunkInfoEntry): void {
  V2.block.write(out, at, entry.uncompressedOffset / BLOCK);
  V2.lastByte.write(out, at, entry.uncompressedSize - 1);
  V2.flags.write(out, at, entry.flags);
  V2.compressedOffset.write(out, at, entry.compressedOffset);
  V2.compressedSize.write(out, at, entry.compressedSize);
  V2.offset.write(out, at, entry.offset);
  V2.context.write(out, at, entry.context);
}
