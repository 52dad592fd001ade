/** Writes the chunk table of a bootstrap: each chunk of a blob once, sorted by digest. */
import type { FileChunk } from '../../tree/node.ts';
import type { RafsBlob } from './blob.ts';
import { CHUNK_ENTRY, CHUNK_ENTRY_SIZE, type ChunkEntry, writeChunkEntry } from './chunk-entry.ts';
import { spanOf } from './chunk-info-writer.ts';
import { CHUNK_FLAG } from './layout.ts';

/** Set of chunks: one bit for each chunk of each blob. */
export class SeenChunks {
  readonly #bits: Uint8Array[] = [];

  /** Adds the next blob of the blob table. */
  addBlob({ chunkCount }: RafsBlob): void {
    this.#bits.push(new Uint8Array(Math.ceil(chunkCount / 8)));
  }

  /** Adds a chunk; true when it is new. */
  add(blobIndex: number, index: number): boolean {
    const bits = this.#bits[blobIndex]!;
    const bit = 1 << (index & 7);
    const isNew = (bits[index >>> 3]! & bit) === 0;
    bits[index >>> 3]! |= bit;
    return isNew;
  }
}

/** Entries of a chunk table. They are written in place and sorted there, so that no copy is needed. */
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
    // One literal is used because there can be millions, and spread objects survive more garbage collections.
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

  /** Sorts the added entries. */
  finish(): void {
    const keys = new Float64Array(this.#count);
    const order = new Uint32Array(this.#count);
    for (let i = 0; i < this.#count; i++) {
      // The first 48 bits nearly always decide, and comparing numbers is ten times faster than comparing buffers.
      keys[i] = this.#table.readUIntBE(i * CHUNK_ENTRY_SIZE, 6);
      order[i] = i;
    }
    order.sort((a, b) => keys[a]! - keys[b]! || this.#compare(a * CHUNK_ENTRY_SIZE, b * CHUNK_ENTRY_SIZE));
    this.#permute(order);
  }

  /** Compares the entries at these offsets by digest, blob and number. */
  #compare(a: number, b: number): number {
    const table = this.#table;
    const { digest, blobIndex, index } = CHUNK_ENTRY.fields;
    return (
      table.compare(table, b, b + digest.size, a, a + digest.size) ||
      table.readUInt32LE(a + blobIndex.at) - table.readUInt32LE(b + blobIndex.at) ||
      table.readUInt32LE(a + index.at) - table.readUInt32LE(b + index.at)
    );
  }

  /** Moves entry `order[i]` to position i, one cycle of the permutation after another. Overwrites `order`. */
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

/** Stored range and flags of a chunk. The range is 0 in a batch, since only the chunk info locates its chunks. */
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
