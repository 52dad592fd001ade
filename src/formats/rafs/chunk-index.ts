/** Chunk indexes of files (struct erofs_inode_chunk_index, with Nydus's use of its spare bits), bytes ⇄ object. */
import { u16, u32 } from '../../binary/fields.ts';
import type { Reader } from '../../binary/reader.ts';
import { struct } from '../../binary/struct.ts';
import { BLOCK, BLOCK_BITS, EROFS_H } from './layout.ts';

export const CHUNK_INDEX = struct('erofs_inode_chunk_index', EROFS_H, 8, {
  low: u16(0, 'startblk_hi', 'bits 0…15 of the number of the chunk in its blob'),
  device: u16(2, 'device_id', 'bits 0…7: place in the blob table + 1; 8…15: bits 16…23 of the chunk number'),
  block: u32(4, 'startblk_lo', 'block of the device'),
});
const { fields: INDEX } = CHUNK_INDEX;

/** Bytes of one index entry. */
export const INDEX_SIZE: number = CHUNK_INDEX.size;

/** Location of a chunk: position of its blob in the blob table, its number in the blob, its offset in the blob device. */
export interface ChunkIndex {
  readonly blobIndex: number;
  readonly index: number;
  /** Bytes, whole blocks. */
  readonly uncompressedOffset: number;
}

export function writeChunkIndex(out: Buffer, at: number, chunk: ChunkIndex): void {
  INDEX.low.write(out, at, chunk.index & 0xffff);
  INDEX.device.write(out, at, ((chunk.index >>> 16) << 8) | (chunk.blobIndex + 1));
  INDEX.block.write(out, at, chunk.uncompressedOffset / BLOCK);
}

/** Writes the index of a chunk on the device itself: startblk_hi and device_id are 0. */
export const writeDeviceIndex = (out: Buffer, at: number, block: number): void => INDEX.block.write(out, at, block);

export function readChunkIndex(reader: Reader, at: number, blockBits = BLOCK_BITS): ChunkIndex {
  const device = INDEX.device.read(reader, at);
  return {
    blobIndex: (device & 0xff) - 1,
    index: ((device >>> 8) << 16) | INDEX.low.read(reader, at),
    uncompressedOffset: INDEX.block.read(reader, at) * 2 ** blockBits,
  };
}
