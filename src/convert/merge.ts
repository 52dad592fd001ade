/** Converted layers → the merged bootstrap and the layer that carries it. */
import type { DictBlob } from '../dict/dict.ts';
import { metaNameOf, type RafsBlob } from '../formats/rafs/blob.ts';
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

/** Merges layers, lowest first. `referred`: blobs of other images that their chunks may lie in. */
export async function mergeLayers(
  layers: readonly ConvertedLayer[],
  referred: readonly DictBlob[],
  plan: Pick<ConvertPlan, 'layer' | 'prefetch' | 'align' | 'log'>,
  subject: string,
): Promise<MergedImage> {
  const root = overlay(
    layers.map((layer) => layer.tree),
    subject,
  );
  if (layers.filter(({ chunks }) => chunks.length > 0).length > 1) referToFirst(root, firstOf(layers));
  const own = layers.flatMap(({ blob, meta }) => (blob === null ? [] : [{ blob, meta }]));
  const all = [...referred, ...own];
  const onDropped = warnOncePerName(plan.log, subject);
  const { bytes, blobs: used } = buildBootstrap(root, uniqueById(all.map(({ blob }) => blob)), {
    ...plan.layer,
    prefetch: plan.prefetch,
    align: plan.align,
    onDropped,
  });
  const metas = new Map(all.map(({ blob, meta }) => [blob.id, meta]));
  const packed = await packBootstrapLayer(
    bytes,
    new Map(used.flatMap((blob) => metaOf(blob, metas.get(blob.id) ?? null))),
  );
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
  const firstLike = (chunk: FileChunk): FileChunk => first.get(byteString(chunk.digest)) ?? chunk;
  for (const node of directory.children!.values()) {
    if (node.type === 'dir') referToFirst(node, first);
    else if (node.chunks.some((chunk) => firstLike(chunk) !== chunk)) node.chunks = node.chunks.map(firstLike);
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

/** What an image of the dictionary did not carry this one does not carry either; readers fetch it out of the blob. */
const metaOf = (blob: RafsBlob, meta: Buffer | null): Array<[string, Buffer]> =>
  meta === null ? [] : [[metaNameOf(blob), meta]];

const uniqueById = <T extends { readonly id: string }>(blobs: readonly T[]): T[] => [
  ...new Map(blobs.map((blob) => [blob.id, blob])).values(),
];
