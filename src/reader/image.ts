/** Opens an image for reading without mounting it: a lazy one out of its bootstrap and blobs, an ordinary one out of its layers. */
import { LacunaError } from '../errors.ts';
import type { RafsImage } from '../formats/rafs/open.ts';
import { hostPlatform, parsePlatform } from '../image/platform.ts';
import { parseReference } from '../image/reference.ts';
import { openStore } from '../registry/open.ts';
import type { StoreOptions } from '../registry/store.ts';
import type { FileNode } from '../tree/node.ts';
import { bootstrapLayerOf, type ChosenManifest, chooseManifest } from './choose.ts';
import { openLayers } from './layers-image.ts';
import { openLazy, openRafsFiles } from './lazy-image.ts';

export interface OpenImageOptions {
  /** `os/architecture[/variant]`; default: this machine's, on Linux. */
  readonly platform?: string;
  readonly store?: StoreOptions;
  readonly signal?: AbortSignal;
  /** Hash every file while the layers of an ordinary image are read: without it each digest reads its layer again. */
  readonly digests?: boolean;
}

export interface ReadFileOptions {
  /** Bytes; default 0 and to the end. */
  readonly offset?: number;
  readonly length?: number;
  readonly signal?: AbortSignal;
}

/** An image whose tree is known. Close it, or let `await using` do it. */
export interface OpenedImage extends AsyncDisposable {
  readonly subject: string;
  readonly root: FileNode;
  /** Null for bare files (`rafs:`). */
  readonly manifest: ChosenManifest | null;
  /** Of a lazy image; null for an ordinary one. */
  readonly rafs: RafsImage | null;
  /** Content of a regular file as it arrives, verified. USAGE for anything that has none. */
  read(node: FileNode, options?: ReadFileOptions): AsyncIterable<Buffer>;
  /** Hex sha256 of a regular file's content. */
  digest(node: FileNode, options?: { readonly signal?: AbortSignal }): Promise<string>;
  close(): Promise<void>;
}

/** Opens `reference` (`docker://…`, `oci:DIR[:REF]`, `rafs:BOOTSTRAP[,blobs=DIR]`). */
export async function openImage(reference: string, options: OpenImageOptions = {}): Promise<OpenedImage> {
  const parsed = parseReference(reference);
  if (parsed.transport === 'rafs') return openRafsFiles(parsed, reference);
  const platform = options.platform === undefined ? hostPlatform() : parsePlatform(options.platform);
  const store = await openStore(parsed, options.store);
  try {
    const chosen = await chooseManifest(store, platform, options);
    const layer = bootstrapLayerOf(chosen.manifest);
    return await (layer === null ? openLayers(store, chosen, options) : openLazy(store, chosen, layer, options));
  } catch (error) {
    await store[Symbol.asyncDispose]();
    throw error;
  }
}

/** The range that `options` mean in a file, checked. */
export function rangeIn(node: FileNode, options: ReadFileOptions): { offset: number; length: number } {
  if (node.type !== 'reg') throw new LacunaError('USAGE', `a ${node.type} has no content`, { op: 'read' });
  const offset = options.offset ?? 0;
  const length = Math.min(options.length ?? node.size, node.size - offset);
  if (
    !Number.isSafeInteger(offset) ||
    offset < 0 ||
    !Number.isSafeInteger(length) ||
    offset > node.size ||
    length < 0
  ) {
    throw new LacunaError('USAGE', `the range does not lie in a file of ${node.size} bytes`, { op: 'read' });
  }
  return { offset, length };
}
