/** Serialises a planned bootstrap. The same tree and blobs always give the same bytes. */
import { LacunaError } from '../../errors.ts';
import type { Compressor, Digester } from '../../native/addon.ts';
import type { ByteString, FileChunk, FileNode } from '../../tree/node.ts';
import type { RafsBlob } from './blob.ts';
import { BLOB_ENTRY_SIZE, writeBlobEntry } from './blob-entry.ts';
import { CHUNK_ENTRY_SIZE } from './chunk-entry.ts';
import { INDEX_SIZE, writeChunkIndex } from './chunk-index.ts';
import { ChunkTableWriter } from './chunktable-writer.ts';
import { writeDeviceSlot } from './device-slot.ts';
import { CHUNK_FORMAT_BITS, CHUNK_FORMAT_INDEXES } from './inode.ts';
import {
  alignUp,
  BLOCK,
  BLOCK_BITS,
  COMPRESSION_FLAG,
  DEVICE_ALIGN,
  FEATURE,
  FLAG,
  HASH_FLAG,
  PREFETCH_ENTRY_SIZE,
  ROOT_NID,
} from './layout.ts';
import { MAX_BLOCKS } from './limits.ts';
import { describeExcess, excessMeta } from './meta.ts';
import { cannot, type OnDropped, type Plan, planBootstrap } from './plan.ts';
import { writeSuperblock } from './superblock.ts';
import { writePlannedInode } from './writeinode.ts';

export interface BootstrapOptions {
  /** Bytes of every chunk except the last of a file: a power of two of 4 KiB … 16 MiB. */
  readonly chunkSize: number;
  /** Compressor in the flags of the image; a blob may use another. */
  readonly compressor: Compressor;
  readonly digester: Digester;
  /**
   * Paths to prefetch, in this order, with symlinks followed; the root stands for everything. Missing paths are skipped.
   * An image without blobs has no prefetch table.
   */
  readonly prefetch?: readonly ByteString[];
  /** Alignment of devices in the flat address space, in bytes: a power of two of at least 4 KiB. Default: 512 KiB. */
  readonly align?: number;
  /** Called for each extended attribute that EROFS cannot store, which is then left out. Default: throw UNSUPPORTED. */
  readonly onDropped?: OnDropped;
}

/**
 * Writes the bootstrap of a tree. `blobs`: all blobs of its chunks, in any order; unused ones are left out, and the blob
 * table is in the order of first use. Throws UNSUPPORTED beyond the limits of RAFS v6.
 */
export function writeBootstrap(root: FileNode, blobs: readonly RafsBlob[], options: BootstrapOptions): Buffer {
  return buildBootstrap(root, blobs, options).bytes;
}

/** A bootstrap and the blobs that it refers to. */
export interface BuiltBootstrap {
  /** The whole bootstrap. */
  readonly bytes: Buffer;
  /** The used blobs, in the order of the blob table. */
  readonly blobs: readonly RafsBlob[];
}

/** As {@link writeBootstrap}, and returns the used blobs too. */
export function buildBootstrap(root: FileNode, blobs: readonly RafsBlob[], options: BootstrapOptions): BuiltBootstrap {
  const plan = planBootstrap(root, blobs, options);
  const excess = excessMeta(plan.blobs);
  if (excess !== null) {
    throw new LacunaError('UNSUPPORTED', describeExcess(excess), {
      op: 'write bootstrap',
      hint: 'convert the layers instead of referring to them (--oci-ref)',
    });
  }
  const out = Buffer.alloc(plan.size);
  const mapped = writeDevices(out, plan, options.align ?? DEVICE_ALIGN);
  writeSuperblock(out, {
    blockBits: BLOCK_BITS,
    buildTime: { sec: 0, nsec: 0 },
    rootNid: ROOT_NID,
    inos: plan.inodes.names,
    blocks: mapped,
    metaBlkaddr: plan.metaOffset / BLOCK,
    extraDevices: plan.blobs.length,
    flags: flagsOf(plan, options),
    blobTableOffset: plan.blobTableOffset,
    blobTableSize: plan.blobs.length * BLOB_ENTRY_SIZE,
    chunkSize: options.chunkSize,
    chunkTableOffset: plan.chunkTableOffset,
    chunkTableSize: plan.chunkCount * CHUNK_ENTRY_SIZE,
    prefetchTableOffset: plan.prefetch.length === 0 ? 0 : plan.prefetchTableOffset,
    prefetchTableSize: plan.prefetch.length * PREFETCH_ENTRY_SIZE,
  });
  for (const [i, inode] of plan.prefetch.entries()) {
    out.writeUInt32LE(plan.inodes.nid(inode, plan.metaOffset), plan.prefetchTableOffset + i * PREFETCH_ENTRY_SIZE);
  }
  const table = new ChunkTableWriter(out.subarray(plan.chunkTableOffset), plan.blobs);
  for (let number = 0; number < plan.inodes.count; number++) writePlanned(out, plan, number, options.chunkSize, table);
  table.finish();
  return { bytes: out, blobs: plan.blobs };
}

/** Writes device slots and blob table; returns the blocks of all devices. */
function writeDevices(out: Buffer, plan: Plan, align: number): number {
  let blocks = 0;
  // The flat address space has the bootstrap first, then the devices in order, each aligned.
  let mapped = plan.size;
  for (const [i, blob] of plan.blobs.entries()) {
    mapped = alignUp(mapped, align);
    writeDeviceSlot(out, i, blob, mapped / BLOCK);
    writeBlobEntry(out, plan.blobTableOffset + i * BLOB_ENTRY_SIZE, i, blob);
    mapped += blob.uncompressedSize;
    blocks += blob.uncompressedSize / BLOCK;
    if (mapped / BLOCK > MAX_BLOCKS) throw cannot(`the blobs exceed 16 TiB in total, each aligned to ${align} bytes`);
  }
  return blocks;
}

function flagsOf(plan: Plan, options: BootstrapOptions): number {
  const hasXattrs = plan.inodes.xattrs.size > 0;
  const hasDigests = plan.blobs.length > 0 && plan.blobs.every((blob) => blob.features & FEATURE.INLINED_CHUNK_DIGEST);
  return (
    (COMPRESSION_FLAG[options.compressor] |
      HASH_FLAG[options.digester] |
      FLAG.EXPLICIT_UID_GID |
      FLAG.ENCRYPTION_NONE |
      (hasXattrs ? FLAG.HAS_XATTR : 0) |
      (hasDigests ? FLAG.INLINED_CHUNK_DIGEST : 0)) >>>
    0
  );
}

function writePlanned(out: Buffer, plan: Plan, number: number, chunkSize: number, table: ChunkTableWriter): void {
  const { inodes } = plan;
  const { type, size, chunks } = inodes.nodes[number]!;
  if (type !== 'reg') {
    writePlannedInode(out, inodes, number, plan.metaOffset);
    return;
  }
  const format = CHUNK_FORMAT_INDEXES | (Math.log2(extentSize(chunks, size, chunkSize)) - BLOCK_BITS);
  writePlannedInode(out, inodes, number, plan.metaOffset, format);
  const at = alignUp(inodes.behindXattrs(number), INDEX_SIZE);
  let fileOffset = 0;
  for (const [i, chunk] of chunks.entries()) {
    const blobIndex = plan.blobIndexes.get(chunk.blob)!;
    const { index, uncompressedOffset } = chunk;
    writeChunkIndex(out, at + i * INDEX_SIZE, { blobIndex, index, uncompressedOffset });
    table.add(chunk, blobIndex, fileOffset);
    fileOffset += chunk.uncompressedSize;
  }
}

/** Maximum extent size: five bits for the logarithm above that of a block. */
const MAX_EXTENT = 2 ** (BLOCK_BITS + CHUNK_FORMAT_BITS);

/**
 * The chunk size for the kernel. A file that is contiguous in one blob is one chunk to the kernel, so that it maps the file
 * with one lookup and its read-ahead crosses chunk borders. Nydus writes the same, and does not read this field.
 */
function extentSize(chunks: readonly FileChunk[], size: number, chunkSize: number): number {
  const [first] = chunks;
  const isOnePiece = chunks.every(
    (chunk, i) => chunk.blob === first!.blob && chunk.uncompressedOffset === first!.uncompressedOffset + i * chunkSize,
  );
  const isExtent = isOnePiece && chunks.length > 1 && size <= MAX_EXTENT;
  return isExtent ? 2 ** Math.ceil(Math.log2(size)) : chunkSize;
}
