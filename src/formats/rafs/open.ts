/**
 * Reads a bootstrap that nobody vouches for. What is read is bounded by the bytes there are: every inode, name, target
 * and index entry is paid for out of a budget of the file's length, which structures that do not overlap cannot exceed.
 */

import { Reader } from '../../binary/reader.ts';
import type { ByteString, FileChunk, FileNode } from '../../tree/node.ts';
import type { RafsBlob } from './blob.ts';
import { readBlobEntry } from './blobtable.ts';
import type { ChunkIndex } from './chunk-index.ts';
import { RafsChunkTable } from './chunktable.ts';
import { permute } from './keyed-hash.ts';
import { alignUp, TARFS_BLOCK_BITS } from './layout.ts';
import { MAX_BOOTSTRAP_SIZE } from './limits.ts';
import { describeExcess, excessMeta } from './meta.ts';
import { RafsTree } from './readtree.ts';
import { readSuperblock, type Superblock } from './superblock.ts';

export interface OpenOptions {
  /** What the bytes are, for error messages. */
  readonly subject: string;
  /** Hex id of the blob this bootstrap was taken out of: inside it, it cannot name it. */
  readonly blobId?: string;
  /**
   * Blob id → its `blob.meta`: plain chunk info, padded to blocks, and its header. Needed for blobs that `needsMeta()`
   * names, when their chunks are asked for: NOT_FOUND then where it is missing.
   */
  readonly metas?: ReadonlyMap<string, Buffer>;
}

/** An opened bootstrap. What is not asked for is not read, and not checked. */
export interface RafsImage {
  /** Bytes of the bootstrap. */
  readonly size: number;
  /** The EROFS and the RAFS superblock. */
  readonly superblock: Superblock;
  /** In the order of the kernel's devices. */
  readonly blobs: readonly RafsBlob[];
  /**
   * The tree, which reads itself where it is looked at: its directories and nodes throw FormatError when what they are
   * asked for is damaged, UNSUPPORTED or NOT_FOUND for chunks that cannot be read.
   */
  root(): FileNode;
  /**
   * The chunks of a blob that the image uses, sorted by uncompressed offset, not overlapping. UNSUPPORTED for tarfs,
   * which has none.
   */
  chunksOf(blobIndex: number): readonly FileChunk[];
  /** Bytes of the blob's device: its uncompressed address space. */
  deviceSize(blobIndex: number): number;
  /** What is to be fetched first, in order: paths of files and directories (`/`: everything). Reads the whole tree. */
  prefetch(): ByteString[];
}

/** Opens a RAFS v6 bootstrap. Throws FormatError, or UNSUPPORTED naming the feature and the blob. */
export function openBootstrap(bytes: Buffer, options: OpenOptions): RafsImage {
  return new OpenedBootstrap(new Reader(bytes, options.subject), options);
}

/** The digest of a chunk that has none, in tarfs: nothing hashes to it, so who forgets that cannot read it by accident. */
const NO_DIGEST = Buffer.alloc(0);

class OpenedBootstrap implements RafsImage {
  readonly size: number;
  readonly superblock: Superblock;
  readonly blobs: readonly RafsBlob[];
  readonly #reader: Reader;
  readonly #table: RafsChunkTable;
  readonly #tree: RafsTree;

  constructor(reader: Reader, { blobId, metas: given }: OpenOptions) {
    if (reader.length > MAX_BOOTSTRAP_SIZE) throw reader.bad('bootstrap', `${reader.length} bytes are too many`, 0);
    this.#reader = reader;
    this.size = reader.length;
    this.superblock = readSuperblock(reader);
    const { extraDevices, blobTableOffset } = this.superblock;
    const entry = (_: unknown, i: number) => readBlobEntry(reader, this.superblock, i, blobId ?? null);
    const blobs = Array.from({ length: extraDevices }, entry);
    if (new Set(blobs.map(({ id }) => id)).size !== blobs.length) {
      throw reader.bad('blob_id', 'two blobs have the same', blobTableOffset);
    }
    const excess = excessMeta(blobs);
    if (excess !== null) throw reader.bad('ci_uncompressed_size', describeExcess(excess), blobTableOffset);
    this.blobs = blobs;
    this.#table = new RafsChunkTable(reader, this.superblock, blobs, given ?? new Map());
    const find = (index: ChunkIndex, size: number) => {
      return this.#isTarfs ? this.#tarChunk(index, size) : this.#table.find(index);
    };
    this.#tree = new RafsTree(reader, this.superblock, find);
  }

  get #isTarfs(): boolean {
    return this.superblock.blockBits === TARFS_BLOCK_BITS;
  }

  root(): FileNode {
    return this.#tree.root();
  }

  chunksOf(blobIndex: number): readonly FileChunk[] {
    if (!this.#isTarfs) return this.#table.chunksOf(blobIndex);
    const why = 'its chunks have no digests, so only the whole tar can be verified';
    throw this.#reader.unsupported(`a chunk table of tarfs blob ${this.blobs[blobIndex]!.id}`, why);
  }

  deviceSize(blobIndex: number): number {
    return alignUp(this.blobs[blobIndex]!.uncompressedSize, 2 ** this.superblock.blockBits);
  }

  prefetch(): ByteString[] {
    const { prefetchTableOffset: start, prefetchTableSize: size } = this.superblock;
    const wanted = new Map<number, ByteString | null>();
    for (let at = start; start > 0 && at + 4 <= start + size; at += 4) {
      const nid = this.#reader.u32(at, 'prefetch table');
      // The table is as long as the list of patterns was; what none matched is left 0.
      if (nid === 0) break;
      wanted.set(permute(nid), null);
    }
    if (wanted.size === 0) return [];
    const found: Array<{ path: ByteString; node: FileNode }> = [{ path: '/', node: this.root() }];
    // Grows while it is walked.
    for (const { path, node } of found) {
      const nid = permute(node.nid!);
      if (wanted.get(nid) === null) wanted.set(nid, path);
      const prefix = path === '/' ? '/' : `${path}/`;
      for (const [name, child] of node.children ?? []) found.push({ path: prefix + name, node: child });
    }
    return [...wanted.values()].filter((path) => path !== null);
  }

  /** Tarfs: the device is the tar, content lies in it as it is, and the chunk table says nothing. */
  #tarChunk({ blobIndex, index, uncompressedOffset }: ChunkIndex, size: number): FileChunk | null {
    const blob = this.blobs[blobIndex];
    if (blob === undefined || uncompressedOffset + size > blob.uncompressedSize) return null;
    const sizes = { uncompressedSize: size, compressedSize: size };
    const place = { uncompressedOffset, compressedOffset: uncompressedOffset, ...sizes, blob: blob.id, index };
    return { ...place, compressor: 0, digester: blob.digester, digest: NO_DIGEST, crc32c: null, within: null };
  }
}
