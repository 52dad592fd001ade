/**
 * Reads an untrusted bootstrap. A budget of the file's length bounds all reads of inodes, names, targets and index entries,
 * since structures that do not overlap cannot exceed it.
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
  /** Subject of error messages: the file or blob of the bytes. */
  readonly subject: string;
  /** Hex id of the blob that contained this bootstrap, which then does not store it. */
  readonly blobId?: string;
  /**
   * Blob id → its `blob.meta`: plain chunk info, padded to blocks, and its header. Reading chunks of blobs that
   * `needsMeta()` throws NOT_FOUND without it.
   */
  readonly metas?: ReadonlyMap<string, Buffer>;
}

/** An opened bootstrap. Structures are read and checked on access. */
export interface RafsImage {
  /** Length of the bootstrap in bytes. */
  readonly size: number;
  /** The EROFS and the RAFS superblock. */
  readonly superblock: Superblock;
  /** The blobs in the order of the kernel's devices. */
  readonly blobs: readonly RafsBlob[];
  /**
   * The tree, which is read on access. Directories and nodes throw FormatError when they are damaged, and UNSUPPORTED or
   * NOT_FOUND for chunks that cannot be read.
   */
  root(): FileNode;
  /**
   * The chunks of a blob that the image uses, sorted by uncompressed offset, not overlapping. Throws UNSUPPORTED for
   * tarfs, which has none.
   */
  chunksOf(blobIndex: number): readonly FileChunk[];
  /** Bytes of the blob's device: its uncompressed address space. */
  deviceSize(blobIndex: number): number;
  /** Paths of files and directories to prefetch, in order (`/`: everything). Reads the whole tree. */
  prefetch(): ByteString[];
}

/** Opens a RAFS v6 bootstrap. Throws FormatError, or UNSUPPORTED naming the feature and the blob. */
export function openBootstrap(bytes: Buffer, options: OpenOptions): RafsImage {
  return new OpenedBootstrap(new Reader(bytes, options.subject), options);
}

/** Digest of tarfs chunks, which have none. No bytes hash to it, so verifying such a chunk always fails. */
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
      throw reader.bad('blob_id', 'two blobs have the same id', blobTableOffset);
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
    const pathByNid = new Map<number, ByteString | null>();
    for (let at = start; start > 0 && at + 4 <= start + size; at += 4) {
      const nid = this.#reader.u32(at, 'prefetch table');
      // The table has an entry for each pattern of its writer; a pattern without a match left a 0.
      if (nid === 0) break;
      pathByNid.set(permute(nid), null);
    }
    if (pathByNid.size === 0) return [];
    const found: Array<{ path: ByteString; node: FileNode }> = [{ path: '/', node: this.root() }];
    // The loop adds nodes to the list while it walks it.
    for (const { path, node } of found) {
      const nid = permute(node.nid!);
      if (pathByNid.get(nid) === null) pathByNid.set(nid, path);
      const prefix = path === '/' ? '/' : `${path}/`;
      for (const [name, child] of node.children ?? []) found.push({ path: prefix + name, node: child });
    }
    return [...pathByNid.values()].filter((path) => path !== null);
  }

  /** A chunk of tarfs: the device is the tar, content is uncompressed, and the chunk table is not used. */
  #tarChunk({ blobIndex, index, uncompressedOffset }: ChunkIndex, size: number): FileChunk | null {
    const blob = this.blobs[blobIndex];
    if (blob === undefined || uncompressedOffset + size > blob.uncompressedSize) return null;
    const sizes = { uncompressedSize: size, compressedSize: size };
    const place = { uncompressedOffset, compressedOffset: uncompressedOffset, ...sizes, blob: blob.id, index };
    return { ...place, compressor: 0, digester: blob.digester, digest: NO_DIGEST, crc32c: null, within: null };
  }
}
