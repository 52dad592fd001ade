/**
 * The chunk table of a bootstrap, read in place. A chunk is a view of its entry, made and checked on first access. Other
 * chunks take only a few bytes of an index by blob and number.
 */

import type { Reader } from '../../binary/reader.ts';
import { MAX_CHUNK_SIZE, MAX_UNIT_SIZE, type Within } from '../../blob/table.ts';
import { LacunaError } from '../../errors.ts';
import type { Compressor, Digester } from '../../native/addon.ts';
import type { FileChunk } from '../../tree/node.ts';
import { needsMeta, type RafsBlob } from './blob.ts';
import { CHUNK_ENTRY, CHUNK_ENTRY_SIZE } from './chunk-entry.ts';
import type { ChunkIndex } from './chunk-index.ts';
import { ChunkInfo, storedRaw } from './chunk-info.ts';
import { PairIndex } from './keyed-hash.ts';
import { BLOCK, CHUNK_FLAG } from './layout.ts';
import { MAX_CHUNKS } from './limits.ts';
import type { Superblock } from './superblock.ts';

const { fields: ENTRY } = CHUNK_ENTRY;
const KNOWN_FLAGS = Object.values(CHUNK_FLAG).reduce((all, bit) => all | bit, 0);

export class RafsChunkTable {
  readonly #reader: Reader;
  readonly #start: number;
  readonly #rows: number;
  readonly #blobs: readonly RafsBlob[];
  readonly #metas: ReadonlyMap<string, Buffer>;
  readonly #infos = new Map<string, ChunkInfo>();
  /** Rows by blob and number. */
  #index: PairIndex | null = null;
  /** The rows of each blob, in their order. */
  #rowsOf: readonly Uint32Array[] | null = null;
  /** Views by row, made on first access. Each chunk has one object, so that chunks can be compared by identity. */
  readonly #views: TableChunk[] = [];

  constructor(
    reader: Reader,
    { chunkTableOffset, chunkTableSize }: Superblock,
    blobs: readonly RafsBlob[],
    metas: ReadonlyMap<string, Buffer>,
  ) {
    this.#reader = reader;
    this.#start = chunkTableOffset;
    this.#rows = chunkTableSize / CHUNK_ENTRY_SIZE;
    this.#blobs = blobs;
    this.#metas = metas;
  }

  /** The chunk of an index entry; null when there is none. */
  find(wanted: ChunkIndex): FileChunk | null {
    this.#index ??= this.#makeIndex();
    const row = this.#index.find(wanted.blobIndex, wanted.index);
    if (row === null) return null;
    const chunk = this.#view(row);
    return chunk.uncompressedOffset === wanted.uncompressedOffset ? chunk : null;
  }

  /** All chunks of a blob, sorted by uncompressed offset. FormatError when two overlap. */
  chunksOf(blobIndex: number): FileChunk[] {
    this.#index ??= this.#makeIndex();
    this.#rowsOf ??= this.#groupRows();
    const { id } = this.#blobs[blobIndex]!;
    const rows = this.#rowsOf[blobIndex]!;
    const offsets = Float64Array.from(rows, (row) => ENTRY.uncompressedOffset.read(this.#reader, this.#at(row)));
    // Comparing numbers is many times faster than comparing fields of views.
    const order = Uint32Array.from(rows.keys()).sort((a, b) => offsets[a]! - offsets[b]!);
    let end = 0;
    return Array.from(order, (place) => {
      const chunk = this.#view(rows[place]!);
      if (offsets[place]! < end) {
        const problem = `chunk ${chunk.index} of blob ${id} overlaps another`;
        throw this.#reader.bad('uncompressed_offset', problem, this.#start);
      }
      end = offsets[place]! + chunk.uncompressedSize;
      return chunk;
    });
  }

  /** Unit of a chunk, and its offset there. Throws NOT_FOUND when that needs chunk info that was not given. */
  withinOf(blob: RafsBlob, index: number, size: number): Within | null {
    let info = this.#infos.get(blob.id);
    if (info === undefined) {
      const meta = this.#metas.get(blob.id);
      if (meta === undefined) {
        throw new LacunaError('NOT_FOUND', `the chunk info (blob.meta) of blob ${blob.id} is missing`, {
          op: 'read chunk',
          subject: this.#reader.subject,
          hint: 'look for it in the bootstrap layer, at the end of the blob, or in a separate file',
        });
      }
      info = new ChunkInfo(meta, blob, this.#reader.subject);
      this.#infos.set(blob.id, info);
    }
    return info.within(index, size);
  }

  #at(row: number): number {
    return this.#start + row * CHUNK_ENTRY_SIZE;
  }

  #view(row: number): TableChunk {
    const existing = this.#views[row];
    if (existing !== undefined) return existing;
    const at = this.#at(row);
    const blob = this.#blobs[ENTRY.blobIndex.read(this.#reader, at)]!;
    checkEntry(this.#reader, at, blob);
    const view = new TableChunk(this, this.#reader, at, blob);
    this.#views[row] = view;
    return view;
  }

  #makeIndex(): PairIndex {
    const index = new PairIndex(this.#rows, (row, blob, number) => {
      return this.#numberOf(row) === number && this.#blobOf(row) === blob;
    });
    // The array is filled at once, since V8 would turn a sparse array into a dictionary.
    this.#views.length = this.#rows;
    this.#reader.check(this.#start, this.#rows * CHUNK_ENTRY_SIZE, 'chunk table');
    for (let row = 0; row < this.#rows; row++) {
      const blobIndex = this.#blobOf(row);
      const number = this.#numberOf(row);
      const blob = this.#blobs[blobIndex];
      if (blob === undefined)
        throw ENTRY.blobIndex.bad(this.#reader, this.#at(row), `blob ${blobIndex} does not exist`);
      if (!index.add(row, blobIndex, number)) {
        throw ENTRY.index.bad(this.#reader, this.#at(row), `duplicate chunk ${number} of blob ${blob.id}`);
      }
    }
    return index;
  }

  /** Sorts the rows by blob, in two passes for any number of blobs. */
  #groupRows(): Uint32Array[] {
    const counts = new Uint32Array(this.#blobs.length);
    for (let row = 0; row < this.#rows; row++) counts[this.#blobOf(row)]! += 1;
    const groups = Array.from(counts, (count) => new Uint32Array(count));
    counts.fill(0);
    for (let row = 0; row < this.#rows; row++) {
      const blob = this.#blobOf(row);
      groups[blob]![counts[blob]!++] = row;
    }
    return groups;
  }

  /** Index of a row's blob. The range of the row has been checked. */
  #blobOf(row: number): number {
    return this.#reader.bytes.readUInt32LE(this.#at(row) + ENTRY.blobIndex.at);
  }
  #numberOf(row: number): number {
    return this.#reader.bytes.readUInt32LE(this.#at(row) + ENTRY.index.at);
  }
}

/** An entry of the table as a chunk. */
class TableChunk implements FileChunk {
  readonly #table: RafsChunkTable;
  readonly #reader: Reader;
  readonly #at: number;
  readonly #blob: RafsBlob;
  #within: Within | null | undefined = undefined;

  constructor(table: RafsChunkTable, reader: Reader, at: number, blob: RafsBlob) {
    this.#table = table;
    this.#reader = reader;
    this.#at = at;
    this.#blob = blob;
  }

  get blob(): string {
    return this.#blob.id;
  }
  get index(): number {
    return ENTRY.index.read(this.#reader, this.#at);
  }
  get uncompressedOffset(): number {
    return ENTRY.uncompressedOffset.read(this.#reader, this.#at);
  }
  get uncompressedSize(): number {
    return ENTRY.uncompressedSize.read(this.#reader, this.#at);
  }
  get compressedOffset(): number {
    return this.within?.unit.compressedOffset ?? ENTRY.compressedOffset.read(this.#reader, this.#at);
  }
  get compressedSize(): number {
    return this.within?.unit.compressedSize ?? ENTRY.compressedSize.read(this.#reader, this.#at);
  }
  get compressor(): Compressor {
    const decoder = this.within?.unit.decoder;
    if (decoder !== undefined) return decoder.kind === 'zran' ? 2 : decoder.compressor;
    return (this.#flags & CHUNK_FLAG.COMPRESSED) === 0 ? 0 : this.#blob.compressor;
  }
  get digester(): Digester {
    return this.#blob.digester;
  }
  get digest(): Buffer {
    return ENTRY.digest.read(this.#reader, this.#at);
  }
  get crc32c(): number | null {
    return (this.#flags & CHUNK_FLAG.HAS_CRC32) === 0 ? null : ENTRY.crc32c.read(this.#reader, this.#at);
  }
  get within(): Within | null {
    if (this.#within === undefined) this.#within = this.#findWithin();
    return this.#within;
  }

  get #flags(): number {
    return ENTRY.flags.read(this.#reader, this.#at);
  }

  #findWithin(): Within | null {
    const [blob, size] = [this.#blob, this.uncompressedSize];
    const within = needsMeta(blob) ? this.#table.withinOf(blob, this.index, size) : null;
    if (within !== null) return within;
    if (needsMeta(blob)) checkStored(this.#reader, this.#at, blob);
    if (blob.cipher === null || (this.#flags & CHUNK_FLAG.ENCRYPTED) === 0) return null;
    const compressor = (this.#flags & CHUNK_FLAG.COMPRESSED) === 0 ? 0 : blob.compressor;
    const compressedOffset = ENTRY.compressedOffset.read(this.#reader, this.#at);
    const compressedSize = ENTRY.compressedSize.read(this.#reader, this.#at);
    const decoder = { kind: 'encrypted', ...blob.cipher, compressor } as const;
    return { unit: { compressedOffset, compressedSize, size, decoder }, offset: 0 };
  }
}

/** Checks an entry by itself; of a chunk that may be in a unit, only its position in the device. */
function checkEntry(reader: Reader, at: number, blob: RafsBlob): void {
  const flags = ENTRY.flags.read(reader, at);
  const uncompressedOffset = ENTRY.uncompressedOffset.read(reader, at);
  const uncompressedSize = ENTRY.uncompressedSize.read(reader, at);
  const index = ENTRY.index.read(reader, at);
  if ((flags & ~KNOWN_FLAGS) !== 0) throw ENTRY.flags.bad(reader, at, `unknown bits 0x${flags.toString(16)}`);
  if ((flags & CHUNK_FLAG.HOLE) !== 0) {
    throw reader.unsupported(`blob ${blob.id}: a hole in the chunk table`, 'RAFS v6 does not store holes as chunks');
  }
  if ((flags & CHUNK_FLAG.ENCRYPTED) !== 0 && blob.cipher === null)
    throw ENTRY.flags.bad(reader, at, 'the chunk is encrypted, but the blob has no key');
  if (index > MAX_CHUNKS || (blob.chunkCount > 0 && index >= blob.chunkCount)) {
    throw ENTRY.index.bad(reader, at, `chunk ${index} does not exist: the blob has ${blob.chunkCount}`);
  }
  if (uncompressedSize === 0 || uncompressedSize > MAX_CHUNK_SIZE) {
    throw ENTRY.uncompressedSize.bad(reader, at, `${uncompressedSize} is not from 1 byte to 16 MiB`);
  }
  if (uncompressedOffset % BLOCK !== 0 || uncompressedOffset + uncompressedSize > blob.uncompressedSize) {
    throw ENTRY.uncompressedOffset.bad(reader, at, 'not aligned, or not inside the blob');
  }
  if (!needsMeta(blob)) checkStored(reader, at, blob);
}

/** Checks the stored range of a chunk that is stored alone. */
function checkStored(reader: Reader, at: number, blob: RafsBlob): void {
  const flags = ENTRY.flags.read(reader, at);
  const uncompressedSize = ENTRY.uncompressedSize.read(reader, at);
  const compressedOffset = ENTRY.compressedOffset.read(reader, at);
  const compressedSize = ENTRY.compressedSize.read(reader, at);
  const isEncrypted = (flags & CHUNK_FLAG.ENCRYPTED) !== 0;
  const isCompressed = (flags & CHUNK_FLAG.COMPRESSED) !== 0;
  const isRaw = isCompressed || storedRaw(compressedSize, uncompressedSize, isEncrypted);
  if (compressedSize === 0 || compressedSize > (isEncrypted ? MAX_UNIT_SIZE : MAX_CHUNK_SIZE) || !isRaw) {
    throw ENTRY.compressedSize.bad(
      reader,
      at,
      `${compressedSize} stored bytes do not match ${uncompressedSize} plain bytes`,
    );
  }
  if (compressedOffset + compressedSize > blob.compressedSize) {
    throw ENTRY.compressedOffset.bad(reader, at, 'exceeds the blob');
  }
}
