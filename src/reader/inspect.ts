/** `inspect`: what an image consists of, from its manifest, config and bootstrap; no layer and no blob is read. */
import { FEATURE } from '../formats/rafs/layout.ts';
import type { RafsImage } from '../formats/rafs/open.ts';
import type { ImageConfig } from '../image/manifest.ts';
import { parseReference } from '../image/reference.ts';
import { openStore } from '../registry/open.ts';
import type { FileNode } from '../tree/node.ts';
import type { OpenImageOptions } from './image.ts';
import { type InspectedManifest, readManifestAndConfig } from './inspect-manifest.ts';
import { openRafsFiles, openStored } from './lazy-image.ts';
import { COMPRESSORS, DIGESTERS } from './names.ts';

export interface InspectedBlob {
  readonly id: string;
  /** Bytes in the registry, and of the blob device. */
  readonly compressedSize: number;
  readonly uncompressedSize: number;
  readonly compressor: string;
  readonly digester: string;
  /** Names of its features. */
  readonly features: readonly string[];
  readonly chunks: number;
  /** Chunks that this image uses, their stored bytes and their plain bytes. */
  readonly usedChunks: number;
  readonly usedCompressed: number;
  readonly usedUncompressed: number;
}

export interface InspectedTree {
  /** Paths by type. */
  readonly regularFiles: number;
  readonly directories: number;
  readonly symlinks: number;
  readonly others: number;
  readonly inodes: number;
  /** Sum of the sizes of all regular inodes. */
  readonly bytes: number;
  /** Chunks that files refer to, of how many different ones, and the plain bytes that are stored once instead of again. */
  readonly chunkReferences: number;
  readonly chunks: number;
  readonly sharedBytes: number;
}

export interface Inspection {
  readonly reference: string;
  /** `lazy`: bootstrap and blobs; `layers`: an ordinary image. */
  readonly kind: 'lazy' | 'layers';
  readonly manifest: InspectedManifest | null;
  /** The image config as it is, null for bare files. */
  readonly config: ImageConfig | null;
  readonly bootstrap: {
    readonly chunkSize: number;
    readonly blobs: readonly InspectedBlob[];
    readonly tree: InspectedTree;
  } | null;
}

/** Describes an image. */
export async function inspect(reference: string, options: OpenImageOptions = {}): Promise<Inspection> {
  const parsed = parseReference(reference);
  if (parsed.transport === 'rafs') {
    await using image = await openRafsFiles(parsed, reference);
    return { reference, kind: 'lazy', manifest: null, config: null, bootstrap: describeRafs(image.rafs!) };
  }
  await using store = await openStore(parsed, options.store);
  const { manifest, config, bootstrap: layer } = await readManifestAndConfig(store, options);
  const opened = layer === null ? null : await openStored(store, manifest.layers, layer, options);
  const bootstrap = opened === null ? null : describeRafs(opened.rafs);
  return { reference, kind: layer === null ? 'layers' : 'lazy', manifest, config, bootstrap };
}

function describeRafs(rafs: RafsImage): NonNullable<Inspection['bootstrap']> {
  return {
    chunkSize: rafs.superblock.chunkSize,
    blobs: rafs.blobs.map((blob, i): InspectedBlob => {
      const used = rafs.chunksOf(i);
      return {
        id: blob.id,
        compressedSize: blob.compressedSize,
        uncompressedSize: blob.uncompressedSize,
        compressor: COMPRESSORS[blob.compressor],
        digester: DIGESTERS[blob.digester],
        features: Object.entries(FEATURE).flatMap(([name, bit]) => ((blob.features & bit) === 0 ? [] : [name])),
        chunks: blob.chunkCount,
        usedChunks: used.length,
        usedCompressed: used.reduce((sum, chunk) => sum + chunk.compressedSize, 0),
        usedUncompressed: used.reduce((sum, chunk) => sum + chunk.uncompressedSize, 0),
      };
    }),
    tree: describeTree(rafs.root()),
  };
}

function describeTree(root: FileNode): InspectedTree {
  const inodes = new Set<FileNode>();
  const chunks = new Set<string>();
  const counts = { reg: 0, dir: 0, symlink: 0, char: 0, block: 0, fifo: 0, socket: 0 };
  let [bytes, chunkReferences, sharedBytes] = [0, 0, 0];
  const todo = [root];
  // Grows while it is walked.
  for (const node of todo) {
    counts[node.type]++;
    if (node.children !== null) for (const child of node.children.values()) todo.push(child);
    if (inodes.has(node)) continue;
    inodes.add(node);
    bytes += node.size;
    for (const chunk of node.chunks) {
      const key = `${chunk.blob} ${chunk.index}`;
      chunkReferences++;
      if (chunks.has(key)) sharedBytes += chunk.uncompressedSize;
      chunks.add(key);
    }
  }
  return {
    regularFiles: counts.reg,
    directories: counts.dir,
    symlinks: counts.symlink,
    others: counts.char + counts.block + counts.fifo + counts.socket,
    inodes: inodes.size,
    bytes,
    chunkReferences,
    chunks: chunks.size,
    sharedBytes,
  };
}
