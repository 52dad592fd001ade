/** Checks of the chunk table: each entry by itself, their order, and that chunks do not overlap in their device. */
import { CHUNK_ENTRY, CHUNK_ENTRY_SIZE, type ChunkEntry, readChunkEntry } from '../formats/rafs/chunk-entry.ts';
import { PairIndex } from '../formats/rafs/keyed-hash.ts';
import { CHUNK_FLAG, FEATURE } from '../formats/rafs/layout.ts';
import { MAX_CHUNKS } from '../formats/rafs/limits.ts';
import type { CheckedBlob } from './blob-table.ts';
import type { Bytes } from './bytes.ts';
import type { CheckedSuperblock } from './superblock.ts';

const { fields: ENTRY } = CHUNK_ENTRY;

export interface TableEntry extends ChunkEntry {
  /** Offset in the bootstrap. */
  readonly at: number;
}

/** The chunk table, by the blob and chunk number that chunk indexes of files have. */
export class CheckedChunks {
  readonly entries: readonly TableEntry[];
  readonly #byPair: PairIndex;
  /** Path of the first file that uses an entry, by entry. */
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

  /** The entry of a blob's chunk, which is marked as used by the file at `path`. */
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

  /** Path of a file that uses a blob's chunk. */
  pathOf(blobIndex: number, index: number): string | null {
    const place = this.#byPair.find(blobIndex, index);
    return place === null ? null : this.#paths[place]!;
  }

  /** Whether a lookup by blob and chunk number finds `entry`, and not a duplicate. */
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
  // The one entry per blob that tarfs has is not used: files are resolved by their blocks.
  if (sb.isTarfs) return chunks;
  for (const [i, entry] of entries.entries()) {
    checkEntry(bytes, sb, entry, blobs);
    if (!chunks.isFirst(entry)) {
      bytes.error(ENTRY.index, entry.at, `duplicate chunk ${entry.index} of blob ${entry.blobIndex}`);
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
    bytes.error(ENTRY.blobIndex, at, `blob ${entry.blobIndex} does not exist: the image has ${blobs.length}`);
    return;
  }
  checkFlags(bytes, entry, blob);
  if (entry.index > MAX_CHUNKS || entry.index >= blob.chunkCount) {
    bytes.error(ENTRY.index, at, `chunk ${entry.index} does not exist: the blob has ${blob.chunkCount}`);
  }
  const plain = entry.uncompressedSize;
  if (plain === 0 || plain > sb.chunkSize) {
    bytes.error(ENTRY.uncompressedSize, at, `${plain} is not from 1 to ${sb.chunkSize}`);
  }
  if (entry.uncompressedOffset % sb.block !== 0) {
    bytes.error(ENTRY.uncompressedOffset, at, `${entry.uncompressedOffset} is not a multiple of ${sb.block}`);
  } else if (!(entry.uncompressedOffset + plain <= blob.uncompressedSize)) {
    bytes.error(ENTRY.uncompressedOffset, at, `exceeds the device's ${blob.uncompressedSize} bytes`);
  }
  checkStored(bytes, entry, blob);
  if (!Number.isSafeInteger(entry.fileOffset) || entry.fileOffset % sb.chunkSize !== 0) {
    bytes.error(ENTRY.fileOffset, at, `${entry.fileOffset} is not a multiple of the chunk size`);
  }
}

function checkFlags(bytes: Bytes, entry: TableEntry, blob: CheckedBlob): void {
  const allFlags = Object.values(CHUNK_FLAG).reduce((all, bit) => all | bit, 0);
  const wrong = (message: string) => bytes.error(ENTRY.flags, entry.at, `0x${entry.flags.toString(16)}: ${message}`);
  if ((entry.flags & ~allFlags) !== 0) wrong('unknown bits');
  if ((entry.flags & CHUNK_FLAG.HOLE) !== 0) wrong('holes are not supported');
  const isEncrypted = (blob.features & FEATURE.ENCRYPTED) !== 0;
  if (isEncrypted !== ((entry.flags & CHUNK_FLAG.ENCRYPTED) !== 0)) {
    wrong(`the blob is ${isEncrypted ? '' : 'not '}encrypted, but the chunk is${isEncrypted ? ' not' : ''}`);
  }
  if ((entry.flags & CHUNK_FLAG.BATCH) !== 0 && (blob.features & FEATURE.BATCH) === 0)
    wrong('a batch chunk in a blob without batches');
  const crc = ENTRY.crc32c.read(bytes, entry.at);
  if ((entry.flags & CHUNK_FLAG.HAS_CRC32) === 0 && crc !== 0) {
    bytes.findings.warning(
      ENTRY.crc32c.name,
      entry.at + ENTRY.crc32c.at,
      'there is a checksum, but the flag for it is not set',
    );
  }
}

/**
 * Checks the stored bytes of a chunk. Only the blob's chunk info tells where chunks of batches and of gzip spans are
 * stored.
 */
function checkStored(bytes: Bytes, entry: TableEntry, blob: CheckedBlob): void {
  const { at, compressedSize: stored, uncompressedSize: plain, flags } = entry;
  const isBatchMember = (blob.features & FEATURE.BATCH) !== 0 && stored === 0;
  if (isBatchMember) {
    if (entry.compressedOffset !== 0) bytes.error(ENTRY.compressedOffset, at, 'a chunk of a batch must have offset 0');
    return;
  }
  if (!(entry.compressedOffset + stored <= blob.compressedSize)) {
    bytes.error(ENTRY.compressedOffset, at, `exceeds the blob's ${blob.compressedSize} bytes`);
  }
  if ((blob.features & FEATURE.ZRAN) !== 0) return;
  const isCompressed = (flags & CHUNK_FLAG.COMPRESSED) !== 0;
  const padded = (flags & CHUNK_FLAG.ENCRYPTED) !== 0 && plain < 16 ? 18 : plain;
  const isFine = isCompressed ? stored > 0 && (stored < plain || stored === padded) : stored === padded;
  if (!isFine) bytes.error(ENTRY.compressedSize, at, `${stored} stored bytes do not match ${plain} plain bytes`);
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
