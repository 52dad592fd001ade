/**
 * The chunks of one blob as it grows, in the order of their data: 64 bytes each in pages, and found by their digest
 * through a table of numbers, because a blob can have millions. Chunk objects are views of them, made when asked for.
 */
import { DIGEST_SIZE, type Unit, type Within } from '../blob/table.ts';
import type { ChunkList } from '../formats/rafs/chunk-info-writer.ts';
import { hashBytes } from '../formats/rafs/keyed-hash.ts';
import { alignUp, BLOCK } from '../formats/rafs/layout.ts';
import type { Compressor, Digester } from '../native/addon.ts';
import type { ChunkSource } from '../tree/file.ts';
import type { FileChunk } from '../tree/node.ts';

/**
 * digest[32] · uncompressed_offset in blocks u32 · uncompressed_size u32 · compressed_offset u64 · compressed_size u32 ·
 * crc u32 · flags u32 · offset in the unit u32
 */
const RECORD = 64;
export const CHUNK_RECORD_SIZE = RECORD;
const AT = { plain: 32, size: 36, stored: 40, storedSize: 48, crc: 52, flags: 56, within: 60 } as const;
/** Flags: it is compressed; above, the number of its unit + 1. */
const COMPRESSED = 1;
const UNIT_SHIFT = 1;

const PAGE_RECORDS = 4096;

/** A unit whose place becomes known when it is written. */
export type UnitDraft = { -readonly [K in keyof Unit]: Unit[K] };

export class BlobChunks implements ChunkSource, ChunkList<FileChunk> {
  readonly digester: Digester;
  readonly compressor: Compressor;
  /** Lower-case hex; known when the blob is whole. */
  blob = '';
  readonly #pages: Buffer[] = [];
  #count = 0;
  readonly #units: UnitDraft[] = [];
  #plainEnd = 0;
  /** Open addressing: index + 1 of a chunk, 0 where there is none. At most half full. */
  #buckets = new Uint32Array(1024);

  constructor(digester: Digester, compressor: Compressor) {
    this.digester = digester;
    this.compressor = compressor;
  }

  /**
   * Rebuilds the chunks from {@link records} and {@link units}. `records`: whole records of chunks that follow each other; the caller has
   * checked that their units are there.
   */
  static restore(digester: Digester, compressor: Compressor, records: Buffer, units: readonly Unit[]): BlobChunks {
    const chunks = new BlobChunks(digester, compressor);
    chunks.#units.push(...units);
    for (let at = 0; at < records.length; at += RECORD) {
      const index = chunks.add(records.subarray(at, at + DIGEST_SIZE), records.readUInt32LE(at + AT.size));
      const [page, place] = chunks.record(index);
      records.copy(page, place, at, at + RECORD);
    }
    return chunks;
  }

  get length(): number {
    return this.#count;
  }

  get units(): readonly Unit[] {
    return this.#units;
  }

  /** Every chunk's {@link CHUNK_RECORD_SIZE} bytes, page by page. */
  *records(): Generator<Buffer> {
    for (const [i, page] of this.#pages.entries()) {
      yield page.subarray(0, Math.min(this.#count - i * PAGE_RECORDS, PAGE_RECORDS) * RECORD);
    }
  }

  /** The chunk with this index, which is there. */
  chunk(index: number): FileChunk {
    return new ChunkView(this, index);
  }

  at(index: number): FileChunk | undefined {
    const place = index < 0 ? this.#count + index : index;
    return place >= 0 && place < this.#count ? this.chunk(place) : undefined;
  }

  *[Symbol.iterator](): Generator<FileChunk> {
    for (let index = 0; index < this.#count; index++) yield this.chunk(index);
  }

  /** Adds a chunk behind the others; returns its index. */
  add(digest: Buffer, size: number): number {
    const index = this.#count++;
    if (index % PAGE_RECORDS === 0) this.#pages.push(Buffer.alloc(PAGE_RECORDS * RECORD));
    const [page, at] = this.record(index);
    digest.copy(page, at);
    page.writeUInt32LE(this.#plainEnd / BLOCK, at + AT.plain);
    page.writeUInt32LE(size, at + AT.size);
    this.#plainEnd += alignUp(size, BLOCK);
    if (this.#count * 2 > this.#buckets.length) this.#grow();
    else this.#insert(this.#buckets, index);
    return index;
  }

  /** The index of the chunk with this digest; null when there is none. */
  find(digest: Buffer): number | null {
    const { length } = this.#buckets;
    for (let bucket = hashOf(digest, 0) % length; this.#buckets[bucket] !== 0; bucket = (bucket + 1) % length) {
      const index = this.#buckets[bucket]! - 1;
      const [page, at] = this.record(index);
      if (digest.compare(page, at, at + DIGEST_SIZE) === 0) return index;
    }
    return null;
  }

  /** It lies alone at `offset` of the blob. */
  place(index: number, offset: number, size: number, isCompressed: boolean, crc32c: number): void {
    const [page, at] = this.record(index);
    putU48(page, offset, at + AT.stored);
    page.writeUInt32LE(size, at + AT.storedSize);
    page.writeUInt32LE(crc32c, at + AT.crc);
    page.writeUInt32LE(isCompressed ? COMPRESSED : 0, at + AT.flags);
  }

  /** Adds a unit; returns its number. */
  addUnit(unit: UnitDraft): number {
    return this.#units.push(unit) - 1;
  }

  /** It is a part of a unit. */
  placeWithin(index: number, unit: number, offset: number, crc32c: number): void {
    const [page, at] = this.record(index);
    page.writeUInt32LE((unit + 1) << UNIT_SHIFT, at + AT.flags);
    page.writeUInt32LE(offset, at + AT.within);
    page.writeUInt32LE(crc32c, at + AT.crc);
  }

  unit(number: number): Unit {
    return this.#units[number]!;
  }

  record(index: number): readonly [page: Buffer, at: number] {
    return [this.#pages[Math.floor(index / PAGE_RECORDS)]!, (index % PAGE_RECORDS) * RECORD];
  }

  #insert(buckets: Uint32Array, index: number): void {
    const [page, at] = this.record(index);
    let bucket = hashOf(page, at) % buckets.length;
    while (buckets[bucket] !== 0) bucket = (bucket + 1) % buckets.length;
    buckets[bucket] = index + 1;
  }

  #grow(): void {
    const buckets = new Uint32Array(this.#buckets.length * 2);
    for (let index = 0; index < this.#count; index++) this.#insert(buckets, index);
    this.#buckets = buckets;
  }
}

/** With a key, since a record of a layer may claim any digests. */
const hashOf = (bytes: Buffer, at: number): number => hashBytes(bytes, at, DIGEST_SIZE) >>> 0;

function putU48(out: Buffer, value: number, at: number): void {
  out.writeUIntLE(value, at, 6);
}

class ChunkView implements FileChunk {
  readonly #chunks: BlobChunks;
  readonly index: number;

  constructor(chunks: BlobChunks, index: number) {
    this.#chunks = chunks;
    this.index = index;
  }

  get uncompressedOffset(): number {
    return this.#u32(AT.plain) * BLOCK;
  }

  get uncompressedSize(): number {
    return this.#u32(AT.size);
  }

  get compressedOffset(): number {
    const unit = this.#unit();
    if (unit !== null) return unit.compressedOffset;
    const [page, at] = this.#chunks.record(this.index);
    return page.readUIntLE(at + AT.stored, 6);
  }

  get compressedSize(): number {
    return this.#unit()?.compressedSize ?? this.#u32(AT.storedSize);
  }

  get compressor(): Compressor {
    const unit = this.#unit();
    if (unit?.decoder.kind === 'batch') return unit.decoder.compressor;
    return (this.#u32(AT.flags) & COMPRESSED) === 0 ? 0 : this.#chunks.compressor;
  }

  get digester(): Digester {
    return this.#chunks.digester;
  }

  get digest(): Buffer {
    const [page, at] = this.#chunks.record(this.index);
    return page.subarray(at, at + DIGEST_SIZE);
  }

  get blob(): string {
    return this.#chunks.blob;
  }

  get crc32c(): number {
    return this.#u32(AT.crc);
  }

  get within(): Within | null {
    const unit = this.#unit();
    return unit === null ? null : { unit, offset: this.#u32(AT.within) };
  }

  #unit(): Unit | null {
    const number = this.#u32(AT.flags) >>> UNIT_SHIFT;
    return number === 0 ? null : this.#chunks.unit(number - 1);
  }

  #u32(field: number): number {
    const [page, at] = this.#chunks.record(this.index);
    return page.readUInt32LE(at + field);
  }
}
