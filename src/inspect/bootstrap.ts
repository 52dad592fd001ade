/** Counts of a bootstrap's blobs, chunks and tree; no blob is read. */
import { toLacunaError } from '../errors.ts';
import type { RafsBlob } from '../formats/rafs/blob.ts';
import { FEATURE, FLAG } from '../formats/rafs/layout.ts';
import { metaRange } from '../formats/rafs/meta.ts';
import type { RafsImage } from '../formats/rafs/open.ts';
import { type ByteString, display, type FileChunk } from '../tree/node.ts';
import { COMPRESSORS, DIGESTERS } from './format-names.ts';
import { describeChunk, type StatChunk } from './stat.ts';
import { describeTree, type InspectedTree } from './tree.ts';

/** One blob of a lazy image. Sizes and offsets in bytes. */
export interface InspectedBlob {
  /** Lower-case hex SHA-256 of the blob. */
  readonly id: string;
  /** Bytes in the registry, and of the blob device. */
  readonly compressedSize: number;
  /** Length of its plain address space, in whole blocks. */
  readonly uncompressedSize: number;
  /** How its chunks are compressed. */
  readonly compressor: string;
  /** The hash function of its chunks. */
  readonly digester: string;
  /** Bytes of its largest chunk. */
  readonly chunkSize: number;
  /** Names of its features. */
  readonly features: readonly string[];
  /** Chunks that it has. */
  readonly chunks: number;
  /**
   * Chunks that this image uses, their plain bytes, and the bytes that are fetched for them. Null where only its chunk
   * info or tar has them.
   */
  readonly usedChunks: number | null;
  /** Plain bytes of the chunks that the image uses; null where the chunks are not known. */
  readonly usedUncompressed: number | null;
  /** Bytes that are fetched for the chunks that the image uses; null where the chunks are not known. */
  readonly usedCompressed: number | null;
  /** Bytes of its data that this image never fetches: what upper layers delete or replace. */
  readonly unusedCompressed: number | null;
  /**
   * Where its chunk info lies in it, with its header, how it is compressed, and how long it is plain; null where it has
   * none.
   */
  readonly chunkInfo: {
    readonly offset: number;
    readonly size: number;
    readonly uncompressedSize: number;
    readonly compressor: string;
    /** Hex sha256 of the file that has it instead, where it is not a part of the blob. */
    readonly file: string | null;
  } | null;
  /** Its table of contents with the tar header; null where it has none. */
  readonly toc: { readonly size: number; readonly digest: string } | null;
}

/** Chunks of the whole image. Sizes in bytes. */
export interface InspectedChunks {
  /** Number of chunk references of all files. */
  readonly count: number;
  /** Plain bytes of the chunks. */
  readonly uncompressed: number;
  /** Null where a blob's used bytes are not known. */
  readonly compressed: number | null;
  /** Chunks with the content of another chunk of the image, stored again in another layer's blob or in the same. */
  readonly duplicates: number;
  /** Plain bytes of chunks whose content the image stores more than once. */
  readonly duplicateBytes: number;
}

/** The bootstrap of a lazy image. Sizes in bytes. */
export interface InspectedBootstrap {
  /** Bytes, plain. */
  readonly size: number;
  /** Share of the metadata in all plain bytes, 0 … 1. */
  readonly share: number;
  /** Size of a block of the file system. */
  readonly blockSize: number;
  /** Size of the largest chunk. */
  readonly chunkSize: number;
  /** Names of its flags. */
  readonly flags: readonly string[];
  /** Paths, as the superblock says. */
  readonly paths: number;
  /** Entries of the prefetch table. */
  readonly prefetchEntries: number;
  /** The blobs in the order of the blob table. */
  readonly blobs: readonly InspectedBlob[];
  /** Null for tarfs, whose chunks are only in its inodes. */
  readonly chunks: InspectedChunks | null;
  /** Only where it was asked for: it takes reading every inode. */
  readonly tree: InspectedTree | null;
  /** Paths to be fetched first, in order; with the tree. */
  readonly prefetch: readonly string[] | null;
  /** Every chunk by its blob and its place there; only where it was asked for. */
  readonly chunkList: readonly Omit<StatChunk, 'fileOffset'>[] | null;
}

/** Which parts of a bootstrap are counted. */
export interface InspectBootstrapOptions {
  /** Count the tree and what its files share. Default false. */
  readonly tree?: boolean;
  /** List every chunk. Default false. */
  readonly chunks?: boolean;
}

export function describeBootstrap(rafs: RafsImage, options: InspectBootstrapOptions): InspectedBootstrap {
  const { superblock, size } = rafs;
  const used = rafs.blobs.map((_, index) => orNull(() => rafs.chunksOf(index)));
  const blobs = rafs.blobs.map((blob, index) => describeBlob(blob, used[index]!));
  const all = used.some((chunks) => chunks === null) ? null : used.flatMap((chunks) => chunks!);
  const plain = rafs.blobs.reduce((sum, { uncompressedSize }) => sum + uncompressedSize, 0);
  const wantsTree = options.tree === true;
  return {
    size,
    share: size / (size + plain),
    blockSize: 2 ** superblock.blockBits,
    chunkSize: superblock.chunkSize,
    flags: namesOf(superblock.flags, FLAG),
    paths: superblock.inos,
    prefetchEntries: superblock.prefetchTableOffset === 0 ? 0 : superblock.prefetchTableSize / 4,
    blobs,
    chunks: all === null ? null : describeChunks(all, blobs),
    tree: wantsTree ? describeTree(rafs.root()) : null,
    prefetch: wantsTree ? rafs.prefetch().map(shownPath) : null,
    chunkList: options.chunks === true ? (all ?? []).map(listed) : null,
  };
}

const shownPath = (path: ByteString): string => display(path);

const namesOf = (bits: number, names: Readonly<Record<string, number>>): string[] =>
  Object.entries(names).flatMap(([name, bit]) => ((bits & bit) === 0 ? [] : [name]));

function describeBlob(blob: RafsBlob, used: readonly FileChunk[] | null): InspectedBlob {
  const usedCompressed = used === null ? null : orNull(() => fetchedFor(used));
  const chunkInfo = describeChunkInfo(blob);
  // Chunk info, digests and the table of contents lie behind the data.
  const dataSize = chunkInfo === null || chunkInfo.file !== null ? blob.compressedSize : chunkInfo.offset;
  return {
    id: blob.id,
    compressedSize: blob.compressedSize,
    uncompressedSize: blob.uncompressedSize,
    compressor: COMPRESSORS[blob.compressor],
    digester: DIGESTERS[blob.digester],
    chunkSize: blob.chunkSize,
    features: namesOf(blob.features, FEATURE),
    chunks: blob.chunkCount,
    usedChunks: used?.length ?? null,
    usedUncompressed: used?.reduce((sum, chunk) => sum + chunk.uncompressedSize, 0) ?? null,
    usedCompressed,
    unusedCompressed: usedCompressed === null ? null : Math.max(0, dataSize - usedCompressed),
    chunkInfo,
    toc: blob.tocSize === 0 ? null : { size: blob.tocSize, digest: blob.tocDigest.toString('hex') },
  };
}

function describeChunkInfo(blob: RafsBlob): InspectedBlob['chunkInfo'] {
  if (blob.ciUncompressedSize === 0) return null;
  return {
    ...metaRange(blob),
    uncompressedSize: blob.ciUncompressedSize,
    compressor: COMPRESSORS[blob.ciCompressor],
    file: blob.metaDigest?.toString('hex') ?? null,
  };
}

/** Stored bytes of chunks; those of a unit count once, however many of its chunks there are. */
function fetchedFor(chunks: readonly FileChunk[]): number {
  const units = new Set<unknown>();
  let bytes = 0;
  for (const chunk of chunks) {
    const what = chunk.within?.unit ?? chunk;
    if (!units.has(what)) bytes += chunk.compressedSize;
    units.add(what);
  }
  return bytes;
}

function describeChunks(chunks: readonly FileChunk[], blobs: readonly InspectedBlob[]): InspectedChunks {
  const seen = new Set<string>();
  let [uncompressed, duplicates, duplicateBytes] = [0, 0, 0];
  for (const { digest, digester, uncompressedSize } of chunks) {
    const content = `${digester}${digest.toString('latin1')}`;
    uncompressed += uncompressedSize;
    if (seen.has(content)) {
      duplicates++;
      duplicateBytes += uncompressedSize;
    }
    seen.add(content);
  }
  const compressed = blobs.reduce<number | null>(
    (sum, { usedCompressed }) => (sum === null || usedCompressed === null ? null : sum + usedCompressed),
    0,
  );
  return { count: chunks.length, uncompressed, compressed, duplicates, duplicateBytes };
}

function listed(chunk: FileChunk): Omit<StatChunk, 'fileOffset'> {
  const { fileOffset: _, ...described } = describeChunk(chunk, 0);
  return described;
}

/**
 * The result is null when it needs missing chunk info (NOT_FOUND) or is never available (UNSUPPORTED); damage is an
 * error.
 */
function orNull<T>(tell: () => T): T | null {
  try {
    return tell();
  } catch (error) {
    const { code } = toLacunaError(error);
    if (code === 'NOT_FOUND' || code === 'UNSUPPORTED') return null;
    throw error;
  }
}
