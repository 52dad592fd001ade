/** Claims of the chunk info table: every entry by itself, its order, and that chunks do not overlap in their device. */
import { CHUNK_ENTRY, CHUNK_ENTRY_SIZE, type ChunkEntry, readChunkEntry } from '../formats/rafs/chunk-entry.ts';
import { PairIndex } from '../formats/rafs/keyed-hash.ts';
import { CHUNK_FLAG, FEATURE } from '../formats/rafs/layout.ts';
import { MAX_CHUNKS } from '../formats/rafs/limits.ts';
import type { CheckedBlob } from './blob-table.ts';
import type { Bytes } from './bytes.ts';
import type { CheckedSuperblock } from './superblock.ts';

const { fields: ENTRY } = CHUNK_ENTRY;

export interface TableEntry extends ChunkEntry {
  /** Place in the bootstrap. */
  readonly at: number;
}

/** The table as it was found, by what index entries of files say. */
export class CheckedChunks {
  readonly entries: readonly TableEntry[];
  readonly #byPair: PairIndex;
  /** By entry: the first file that uses it. */
  readonly #paths: Array<string | null>;

  constructor(entries: readonly TableEntry[]) {
    this.entries = entries;
    this.#paths = new Array<string | null>(entries.length).fill(null);
    this.#byPair = new PairIndex(entries.length, (row, blobIndex, index) => {
      const entry = entries[row]!;
      return entry.index === index && entry.blobIndex === blobIndex;
    });
    for (const [i, { blobIndex, index }] of entries.entries()) this.#byPair.add(i, blobIndex, index);
  }

  /** The entry of a blob's chunk, which the file at `path` uses. */
  use(blobIndex: number, index: number, path: string): TableEntry | null {
    const place = this.#byPair.find(blobIndex, index);
    if (place === null) return null;
    this.#paths[place] ??= path;
    return this.entries[place]!;
  }

  /** The entry of a blob's chunk. */
  find(blobIndex: number, index: number): TableEntry | null {
    const place = this.#byPair.find(blobIndex, index);
    return place === null ? null : this.entries[place]!;
  }

  *unused(): Generator<TableEntry> {
    for (const [i, entry] of this.entries.entries()) if (this.#paths[i] === null) yield entry;
  }

  /** A file that uses a blob's chunk. */
  pathOf(blobIndex: number, index: number): string | null {
    const place = this.#byPair.find(blobIndex, index);
    return place === null ? null : this.#paths[place]!;
  }

  /** Whether `entry` is the one that its blob and index find. */
  isFirst(entry: TableEntry): boolean {
    return this.find(entry.blobIndex, entry.index) === entry;
  }
}

export function checkChunkTable(bytes: Bytes, sb: CheckedSuperblock, blobs: readonly CheckedBlob[]): CheckedChunks {
  const entries = Array.from({ length: sb.chunks }, (_, i) => {
    const at = sb.chunkTableOffset + i * CHUNK_ENTRY_SIZE;
    return { ...readChunkEntry(bytes, at), at };
  });
  const chunks = new CheckedChunks(entries);
  // The one entry that tarfs has per blob says nothing: files are resolved by their blocks.
  if (sb.isTarfs) return chunks;
  for (const [i, entry] of entries.entries()) {
    checkEntry(bytes, sb, entry, blobs);
    if (!chunks.isFirst(entry)) {
      bytes.error(ENTRY.index, entry.at, `chunk ${entry.index} of blob ${entry.blobIndex} twice`);
    }
    const before = entries[i - 1];
    if (before !== undefined && byDigest(before, entry) > 0) {
      bytes.findings.warning('block_id', entry.at, 'the table is not sorted by digest and blob');
    }
  }
  checkOverlap(bytes, entries);
  return chunks;
}

const byDigest = (a: ChunkEntry, b: ChunkEntry): number => a.digest.compare(b.digest) || a.blobIndex - b.blobIndex;

function checkEntry(bytes: Bytes, sb: CheckedSuperblock, entry: TableEntry, blobs: readonly CheckedBlob[]): void {
  const { at } = entry;
  const blob = blobs[entry.blobIndex];
  if (blob === undefined) {
    bytes.error(ENTRY.blobIndex, at, `${entry.blobIndex} of ${blobs.length} blobs`);
    return;
  }
  checkFlags(bytes, entry, blob);
  if (entry.index > MAX_CHUNKS || entry.index >= blob.chunkCount) {
    bytes.error(ENTRY.index, at, `chunk ${entry.index} of ${blob.chunkCount}`);
  }
  const plain = entry.uncompressedSize;
  if (plain === 0 || plain > sb.chunkSize) {
    bytes.error(ENTRY.uncompressedSize, at, `${plain} is not 1 … ${sb.chunkSize}`);
  }
  if (entry.uncompressedOffset % sb.block !== 0) {
    bytes.error(ENTRY.uncompressedOffset, at, `${entry.uncompressedOffset} is no multiple of ${sb.block}`);
  } else if (!(entry.uncompressedOffset + plain <= blob.uncompressedSize)) {
    bytes.error(ENTRY.uncompressedOffset, at, `runs out of the blob's ${blob.uncompressedSize} bytes`);
  }
  checkStored(bytes, entry, blob);
  if (!Number.isSafeInteger(entry.fileOffset) || entry.fileOffset % sb.chunkSize !== 0) {
    bytes.error(ENTRY.fileOffset, at, `${entry.fileOffset} is no multiple of the chunk size`);
  }
}

function checkFlags(bytes: Bytes, entry: TableEntry, blob: CheckedBlob): void {
  const known = Object.values(CHUNK_FLAG).reduce((all, bit) => all | bit, 0);
  const wrong = (message: string) => bytes.error(ENTRY.flags, entry.at, `0x${entry.flags.toString(16)}: ${message}`);
  if ((entry.flags & ~known) !== 0) wrong('unknown bits');
  if ((entry.flags & CHUNK_FLAG.HOLE) !== 0) wrong('a hole, which no file can have');
  const isEncrypted = (blob.features & FEATURE.ENCRYPTED) !== 0;
  if (isEncrypted !== ((entry.flags & CHUNK_FLAG.ENCRYPTED) !== 0)) {
    wrong(`the blob is ${isEncrypted ? '' : 'not '}encrypted, the chunk otherwise`);
  }
  if ((entry.flags & CHUNK_FLAG.BATCH) !== 0 && (blob.features & FEATURE.BATCH) === 0)
    wrong('a batch of a blob without');
  const crc = ENTRY.crc32c.read(bytes, entry.at);
  if ((entry.flags & CHUNK_FLAG.HAS_CRC32) === 0 && crc !== 0) {
    bytes.findings.warning(ENTRY.crc32c.name, entry.at + ENTRY.crc32c.at, 'a checksum that the flags deny');
  }
}

/**
 * Where and how the chunk is stored. Of members of a batch and of spans of a gzip stream only the blob's chunk info
 * knows.
 */
function checkStored(bytes: Bytes, entry: TableEntry, blob: CheckedBlob): void {
  const { at, compressedSize: stored, uncompressedSize: plain, flags } = entry;
  const isBatchMember = (blob.features & FEATURE.BATCH) !== 0 && stored === 0;
  if (isBatchMember) {
    if (entry.compressedOffset !== 0) bytes.error(ENTRY.compressedOffset, at, 'a place for a member of a batch');
    return;
  }
  if (!(entry.compressedOffset + stored <= blob.compressedSize)) {
    bytes.error(ENTRY.compressedOffset, at, `runs out of the blob's ${blob.compressedSize} bytes`);
  }
  if ((blob.features & FEATURE.ZRAN) !== 0) return;
  const isCompressed = (flags & CHUNK_FLAG.COMPRESSED) !== 0;
  const padded = (flags & CHUNK_FLAG.ENCRYPTED) !== 0 && plain < 16 ? 18 : plain;
  const isFine = isCompressed ? stored > 0 && (stored < plain || stored === padded) : stored === padded;
  if (!isFine) bytes.error(ENTRY.compressedSize, at, `${stored} bytes for ${plain} plain ones`);
}

function checkOverlap(bytes: Bytes, entries: readonly TableEntry[]): void {
  const sorted = entries.toSorted(
    (a, b) => a.blobIndex - b.blobIndex || a.uncompressedOffset - b.uncompressedOffset || a.index - b.index,
  );
  let last: TableEntry | null = null;
  for (const entry of sorted) {
    const isSame = last?.blobIndex === entry.blobIndex;
    if (isSame && entry.uncompressedOffset < last!.uncompressedOffset + last!.uncompressedSize) {
      const message = `chunk ${entry.index} of blob ${entry.blobIndex} overlaps chunk ${last!.index} in the device`;
      bytes.error(ENTRY.uncompressedOffset, entry.at, message);
    }
    last = entry;
  }
}
