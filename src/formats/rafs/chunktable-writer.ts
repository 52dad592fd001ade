/** The chunk info table of a bootstrap that is being written: each chunk of a blob once, sorted by digest. */
import type { FileChunk } from '../../tree/node.ts';
import type { RafsBlob } from './blob.ts';
import { CHUNK_ENTRY, CHUNK_ENTRY_SIZE, type ChunkEntry, writeChunkEntry } from './chunk-entry.ts';
import { spanOf } from './chunk-info-writer.ts';
import { CHUNK_FLAG } from './layout.ts';

/** Which chunks have been seen: a bit for each chunk of each blob. */
export class SeenChunks {
  readonly #bits: Uint8Array[] = [];

  /** Adds the next blob of the blob table. */
  addBlob({ chunkCount }: RafsBlob): void {
    this.#bits.push(new Uint8Array(Math.ceil(chunkCount / 8)));
  }

  /** True the first time. */
  add(blobIndex: number, index: number): boolean {
    const bits = this.#bits[blobIndex]!;
    const bit = 1 << (index & 7);
    const isNew = (bits[index >>> 3]! & bit) === 0;
    bits[index >>> 3]! |= bit;
    return isNew;
  }
}

/** Entries are written where they belong and then put into their order, so that there is nothing beside them. */
export class ChunkTableWriter {
  readonly #table: Buffer;
  readonly #seen = new SeenChunks();
  #count = 0;

  /** `table`: the table's bytes. */
  constructor(table: Buffer, blobs: readonly RafsBlob[]) {
    this.#table = table;
    for (const blob of blobs) this.#seen.addBlob(blob);
  }

  add(chunk: FileChunk, blobIndex: number, fileOffset: number): void {
    if (!this.#seen.add(blobIndex, chunk.index)) return;
    const { flags, compressedOffset, compressedSize } = storedAt(chunk);
    // One literal: a million of these are made, and spread objects outlive the next collections.
    writeChunkEntry(this.#table, this.#count * CHUNK_ENTRY_SIZE, {
      digest: chunk.digest,
      blobIndex,
      flags,
      compressedSize,
      uncompressedSize: chunk.uncompressedSize,
      compressedOffset,
      uncompressedOffset: chunk.uncompressedOffset,
      fileOffset,
      index: chunk.index,
      crc32c: chunk.crc32c,
    });
    this.#count++;
  }

  /** Sorts what was added. */
  finish(): void {
    const keys = new Float64Array(this.#count);
    const order = new Uint32Array(this.#count);
    for (let i = 0; i < this.#count; i++) {
      // Nearly always the first 48 bits decide, and numbers compare ten times faster than buffers.
      keys[i] = this.#table.readUIntBE(i * CHUNK_ENTRY_SIZE, 6);
      order[i] = i;
    }
    order.sort((a, b) => keys[a]! - keys[b]! || this.#compare(a * CHUNK_ENTRY_SIZE, b * CHUNK_ENTRY_SIZE));
    this.#permute(order);
  }

  /** Entries at these offsets: digest, blob, number. */
  #compare(a: number, b: number): number {
    const table = this.#table;
    const { digest, blobIndex, index } = CHUNK_ENTRY.fields;
    return (
      table.compare(table, b, b + digest.size, a, a + digest.size) ||
      table.readUInt32LE(a + blobIndex.at) - table.readUInt32LE(b + blobIndex.at) ||
      table.readUInt32LE(a + index.at) - table.readUInt32LE(b + index.at)
    );
  }

  /** Entry `order[i]` goes to place i, one circle of entries that take each other's places after another. Uses `order` up. */
  #permute(order: Uint32Array): void {
    const table = this.#table;
    const first = Buffer.alloc(CHUNK_ENTRY_SIZE);
    for (let start = 0; start < order.length; start++) {
      if (order[start] === start) continue;
      table.copy(first, 0, start * CHUNK_ENTRY_SIZE, (start + 1) * CHUNK_ENTRY_SIZE);
      let place = start;
      for (let from = order[place]!; from !== start; from = order[place]!) {
        table.copyWithin(place * CHUNK_ENTRY_SIZE, from * CHUNK_ENTRY_SIZE, (from + 1) * CHUNK_ENTRY_SIZE);
        order[place] = place;
        place = from;
      }
      first.copy(table, place * CHUNK_ENTRY_SIZE);
      order[place] = place;
    }
  }
}

/** Where the stored bytes are, and how. The members of a batch are found with the chunk info of their blob only. */
function storedAt(chunk: FileChunk): Pick<ChunkEntry, 'flags' | 'compressedOffset' | 'compressedSize'> {
  const { compressedOffset, compressedSize } = chunk;
  const crc = chunk.crc32c === null ? 0 : CHUNK_FLAG.HAS_CRC32;
  const compressed = chunk.compressor === 0 ? 0 : CHUNK_FLAG.COMPRESSED;
  switch (chunk.within?.unit.decoder.kind) {
    case 'batch':
      return { flags: crc, compressedOffset: 0, compressedSize: 0 };
    case 'zran': {
      const { offset, length } = spanOf(chunk);
      return { flags: CHUNK_FLAG.COMPRESSED | crc, compressedOffset: offset, compressedSize: length };
    }
    case 'encrypted':
      return { flags: CHUNK_FLAG.ENCRYPTED | compressed | crc, compressedOffset, compressedSize };
    case undefined:
      return { flags: compressed | crc, compressedOffset, compressedSize };
  }
}
