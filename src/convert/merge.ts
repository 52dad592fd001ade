/** Converted layers → the merged bootstrap and the layer that carries it. */
import { metaNameOf } from '../formats/rafs/blob.ts';
import type { OnDropped } from '../formats/rafs/plan.ts';
import { buildBootstrap } from '../formats/rafs/write.ts';
import type { Log } from '../observe/log.ts';
import { byteString, display, type FileChunk, type FileNode } from '../tree/node.ts';
import { overlay } from '../tree/overlay.ts';
import { packBootstrapLayer } from './bootstrap-layer.ts';
import type { ConvertedLayer } from './layer.ts';
import type { ConvertPlan } from './options.ts';

export interface MergedImage {
  /** The bootstrap layer as it is pushed: gzip bytes, their digest, and the digest of the tar inside. */
  readonly data: Buffer;
  readonly digest: string;
  readonly diffId: string;
  /** Bytes of the plain bootstrap. */
  readonly bootstrapSize: number;
  /** Hex ids of the blobs that the bootstrap refers to, in its order. */
  readonly blobs: readonly string[];
}

/** Merges layers, lowest first. */
export async function mergeLayers(
  layers: readonly ConvertedLayer[],
  plan: Pick<ConvertPlan, 'layer' | 'prefetch' | 'align' | 'log'>,
  subject: string,
): Promise<MergedImage> {
  const root = overlay(
    layers.map((layer) => layer.tree),
    subject,
  );
  referToFirst(root, firstOf(layers));
  const blobs = layers.flatMap((layer) => (layer.blob === null ? [] : [layer.blob]));
  const onDropped = warnOncePerName(plan.log, subject);
  const { bytes, blobs: used } = buildBootstrap(root, uniqueById(blobs), {
    ...plan.layer,
    prefetch: plan.prefetch,
    align: plan.align,
    onDropped,
  });
  const metas = new Map(layers.flatMap((layer) => (layer.blob === null ? [] : [[layer.blob.id, layer.meta] as const])));
  const packed = await packBootstrapLayer(bytes, new Map(used.map((blob) => [metaNameOf(blob), metas.get(blob.id)!])));
  return { ...packed, bootstrapSize: bytes.length, blobs: used.map((blob) => blob.id) };
}

/** Equal chunks of several layers → the one in the lowest of them: fetched and cached once. */
function firstOf(layers: readonly ConvertedLayer[]): ReadonlyMap<string, FileChunk> {
  const first = new Map<string, FileChunk>();
  for (const layer of layers) {
    for (const chunk of layer.chunks) {
      const key = byteString(chunk.digest);
      if (!first.has(key)) first.set(key, chunk);
    }
  }
  return first;
}

function referToFirst(directory: FileNode, first: ReadonlyMap<string, FileChunk>): void {
  for (const node of directory.children!.values()) {
    if (node.type === 'dir') referToFirst(node, first);
    else if (node.chunks.length > 0)
      node.chunks = node.chunks.map((chunk) => first.get(byteString(chunk.digest)) ?? chunk);
  }
}

/** Attributes that EROFS has no place for come in thousands of the same kind (`com.apple.provenance`). */
function warnOncePerName(log: Log, image: string): OnDropped {
  const warned = new Set<string>();
  return ({ file, xattr, size }) => {
    if (warned.has(xattr)) return;
    warned.add(xattr);
    log.warn(
      { image, xattr: display(xattr), file: display(file), size },
      'an extended attribute that Linux cannot store is left out, here and on other files',
    );
  };
}

const uniqueById = <T extends { readonly id: string }>(blobs: readonly T[]): T[] => [
  ...new Map(blobs.map((blob) => [blob.id, blob])).values(),
];
