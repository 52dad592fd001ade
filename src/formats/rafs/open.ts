/**
 * Reads a bootstrap that nobody vouches for. What is read is bounded by the bytes there are: every inode, name, target
 * and index entry is paid for out of a budget of the file's length, which structures that do not overlap cannot exceed.
 */
import { type Chunk, MAX_CHUNK_SIZE } from '../../blob/table.ts';
import { LacunaError } from '../../errors.ts';
import type { FileChunk, FileNode } from '../../tree/node.ts';
import type { RafsBlob } from './blob.ts';
import { readBlobEntry } from './blobtable.ts';
import { Reader } from './bytes.ts';
import { type ChunkEntry, readChunkEntry } from './chunks.ts';
import { alignUp, BLOCK, CHUNK_ENTRY_SIZE, CHUNK_FLAG, MAX_CHUNKS } from './layout.ts';
import { readTree } from './readtree.ts';
import { readSuperblock, type Superblock } from './superblock.ts';

export interface OpenOptions {
  /** What the bytes are, for error messages. */
  readonly subject: string;
  /** Hex id of the blob this bootstrap was taken out of: inside it, it cannot name it. */
  readonly blobId?: string;
  /**
   * Blob id → its `blob.meta`: plain chunk info, padded to blocks, and its header. Needed for blobs that `needsMeta()` names, when
   * their chunks are asked for: NOT_FOUND then where it is missing.
   */
  readonly metas?: ReadonlyMap<string, Buffer>;
}

/** An opened bootstrap. What is not asked for is not read, and not checked. */
export interface RafsImage {
  readonly superblock: Superblock;
  /** In the order of the kernel's devices. */
  readonly blobs: readonly RafsBlob[];
  /** The whole tree. Throws FormatError, or UNSUPPORTED for chunks that this version does not read. */
  root(): FileNode;
  /** The chunks of a blob that the image uses, sorted by uncompressed offset, not overlapping. */
  chunksOf(blobIndex: number): readonly Chunk[];
  /** Bytes of the blob's device: its uncompressed address space. */
  deviceSize(blobIndex: number): number;
}

/** Opens a RAFS v6 bootstrap. Throws FormatError, or UNSUPPORTED naming the feature and the blob. */
export function openBootstrap(bytes: Buffer, options: OpenOptions): RafsImage {
  return new OpenedImage(new Reader(bytes, options.subject), options.blobId ?? null);
}

class OpenedImage implements RafsImage {
  readonly superblock: Superblock;
  readonly blobs: readonly RafsBlob[];
  readonly #reader: Reader;
  #chunks: Map<number, FileChunk> | null = null;
  #root: FileNode | null = null;

  constructor(reader: Reader, blobId: string | null) {
    this.#reader = reader;
    this.superblock = readSuperblock(reader);
    const { blobTableOffset, extraDevices } = this.superblock;
    const blobs = Array.from({ length: extraDevices }, (_, i) => readBlobEntry(reader, blobTableOffset, i, blobId));
    if (new Set(blobs.map(({ id }) => id)).size !== blobs.length) {
      throw reader.bad('blob_id', 'two blobs have the same', blobTableOffset);
    }
    this.blobs = blobs;
  }

  root(): FileNode {
    this.#root ??= readTree(this.#reader, this.superblock, (index) => {
      const chunk = this.#table().get(chunkKey(index.blobIndex, index.index));
      return chunk?.uncompressedOffset === index.uncompressedOffset ? chunk : null;
    });
    return this.#root;
  }

  chunksOf(blobIndex: number): readonly Chunk[] {
    const { id } = this.blobs[blobIndex]!;
    const chunks = [...this.#table().values()].filter((chunk) => chunk.blob === id);
    chunks.sort((a, b) => a.uncompressedOffset - b.uncompressedOffset);
    let end = 0;
    for (const chunk of chunks) {
      if (chunk.uncompressedOffset < end) {
        const at = this.superblock.chunkTableOffset;
        throw this.#reader.bad('uncompressed_offset', `chunk ${chunk.index} of blob ${id} overlaps another`, at);
      }
      end = chunk.uncompressedOffset + chunk.uncompressedSize;
    }
    return chunks;
  }

  deviceSize(blobIndex: number): number {
    return alignUp(this.blobs[blobIndex]!.uncompressedSize, BLOCK);
  }

  #table(): ReadonlyMap<number, FileChunk> {
    this.#chunks ??= this.#readTable();
    return this.#chunks;
  }

  #readTable(): Map<number, FileChunk> {
    const { chunkTableOffset, chunkTableSize } = this.superblock;
    const chunks = new Map<number, FileChunk>();
    for (let at = chunkTableOffset; at < chunkTableOffset + chunkTableSize; at += CHUNK_ENTRY_SIZE) {
      const entry = readChunkEntry(this.#reader, at);
      const blob = this.blobs[entry.blobIndex];
      if (blob === undefined) throw this.#reader.bad('blob_index', `${entry.blobIndex} is no blob`, at + 32);
      const key = chunkKey(entry.blobIndex, entry.index);
      if (chunks.has(key)) throw this.#reader.bad('index', `chunk ${entry.index} of blob ${blob.id} twice`, at + 72);
      chunks.set(key, chunkOf(this.#reader, at, entry, blob));
    }
    return chunks;
  }
}

const chunkKey = (blobIndex: number, index: number): number => blobIndex * (MAX_CHUNKS + 1) + index;

function chunkOf(reader: Reader, at: number, entry: ChunkEntry, blob: RafsBlob): FileChunk {
  refuseFlags(reader, at, entry, blob);
  const { uncompressedOffset, uncompressedSize, compressedOffset, compressedSize } = entry;
  const isCompressed = (entry.flags & CHUNK_FLAG.COMPRESSED) !== 0;
  if (entry.index > MAX_CHUNKS || (blob.chunkCount > 0 && entry.index >= blob.chunkCount)) {
    throw reader.bad('index', `chunk ${entry.index} of ${blob.chunkCount}`, at + 72);
  }
  if (uncompressedSize === 0 || uncompressedSize > MAX_CHUNK_SIZE) {
    throw reader.bad('uncompressed_size', `${uncompressedSize} is not 1 … 16 MiB`, at + 44);
  }
  if (uncompressedOffset % BLOCK !== 0 || uncompressedOffset + uncompressedSize > blob.uncompressedSize) {
    throw reader.bad('uncompressed_offset', 'not aligned, or not inside the blob', at + 56);
  }
  if (
    compressedSize === 0 ||
    compressedSize > MAX_CHUNK_SIZE ||
    (!isCompressed && compressedSize !== uncompressedSize)
  ) {
    throw reader.bad('compressed_size', `${compressedSize} for ${uncompressedSize} bytes`, at + 40);
  }
  if (compressedOffset + compressedSize > blob.compressedSize) {
    throw reader.bad('compressed_offset', 'runs out of the blob', at + 48);
  }
  return {
    uncompressedOffset,
    uncompressedSize,
    compressedOffset,
    compressedSize,
    compressor: isCompressed ? blob.compressor : 0,
    digester: blob.digester,
    digest: entry.digest,
    blob: blob.id,
    index: entry.index,
    crc32c: entry.crc32c,
    within: null,
  };
}

function refuseFlags(reader: Reader, at: number, { flags }: ChunkEntry, blob: RafsBlob): void {
  const plain = CHUNK_FLAG.COMPRESSED | CHUNK_FLAG.HAS_CRC32;
  const known = Object.values(CHUNK_FLAG).reduce((all, bit) => all | bit, 0);
  if ((flags & ~known) !== 0) throw reader.bad('flags', `unknown bits 0x${flags.toString(16)}`, at + 36);
  if ((flags & ~plain) === 0) return;
  throw new LacunaError(
    'UNSUPPORTED',
    `blob ${blob.id}: hole, batch or encrypted chunks are not supported by this version`,
    {
      op: 'read bootstrap',
      subject: reader.subject,
    },
  );
}
