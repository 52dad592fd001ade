/** Converted layers → the merged bootstrap. */
import type { DictBlob } from '../dict/dict.ts';
import { metaNameOf, type RafsBlob } from '../formats/rafs/blob.ts';
import type { OnDropped } from '../formats/rafs/plan.ts';
import { buildBootstrap } from '../formats/rafs/write.ts';
import type { Log } from '../observe/log.ts';
import { display, type FileChunk, type FileNode } from '../tree/node.ts';
import { overlay } from '../tree/overlay.ts';
import { LowerChunks } from './dedup-sources.ts';
import type { ConvertedLayer } from './layer.ts';
import type { ConvertPlan } from './options.ts';

export interface MergedImage {
  readonly bootstrap: Buffer;
  /** Name of a blob's `blob.meta` file before the dot → its bytes, in the order of the blob table. */
  readonly metas: ReadonlyMap<string, Buffer>;
  /** Hex ids of the blobs that the bootstrap refers to, in its order. */
  readonly blobs: readonly string[];
}

/** Merges layers, lowest first. `referred`: blobs of other images that their chunks may lie in. */
export function mergeLayers(
  layers: readonly ConvertedLayer[],
  referred: readonly DictBlob[],
  plan: Pick<ConvertPlan, 'layer' | 'prefetch' | 'align' | 'log'> & { readonly isOfMany?: boolean },
  subject: string,
): MergedImage {
  const root = overlay(
    layers.map((layer) => layer.tree),
    subject,
  );
  const lowest = new LowerChunks();
  for (const { chunks } of layers) lowest.add(chunks);
  // A layer that another image has, too, may have been made to refer to what is below it there.
  if (lowest.layers > 1 || plan.isOfMany === true) referToFirst(root, lowest);
  const own = layers.flatMap(({ blob, meta }) =>
    blob === null ? [] : [{ blob, meta: meta.length === 0 ? null : meta }],
  );
  const all = [...referred, ...own];
  const onDropped = warnOncePerName(plan.log, subject);
  const { bytes, blobs: used } = buildBootstrap(root, uniqueById(all.map(({ blob }) => blob)), {
    ...plan.layer,
    prefetch: plan.prefetch,
    align: plan.align,
    onDropped,
  });
  const metaById = new Map(all.map(({ blob, meta }) => [blob.id, meta]));
  const metas = new Map(used.flatMap((blob) => metaOf(blob, metaById.get(blob.id) ?? null)));
  return { bootstrap: bytes, metas, blobs: used.map((blob) => blob.id) };
}

/** Equal chunks of several layers → the one in the lowest of them: fetched and cached once. */
function referToFirst(directory: FileNode, lowest: LowerChunks): void {
  for (const node of directory.children!.values()) {
    if (node.type === 'dir') {
      referToFirst(node, lowest);
      continue;
    }
    const { chunks } = node;
    const first: FileChunk[] = [];
    for (const [i, chunk] of chunks.entries()) {
      // A hole is one chunk a million times.
      first.push(chunk === chunks[i - 1] ? first[i - 1]! : (lowest.find(chunk.digest) ?? chunk));
    }
    if (first.some((chunk, i) => !isSame(chunk, chunks[i]!))) node.chunks = first;
  }
}

const isSame = (a: FileChunk, b: FileChunk): boolean => a.blob === b.blob && a.index === b.index;

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

/** Chunk info that a dictionary's image did not carry is not carried here either; readers fetch it from the blob. */
const metaOf = (blob: RafsBlob, meta: Buffer | null): Array<[string, Buffer]> =>
  meta === null ? [] : [[metaNameOf(blob), meta]];

const uniqueById = <T extends { readonly id: string }>(blobs: readonly T[]): T[] => [
  ...new Map(blobs.map((blob) => [blob.id, blob])).values(),
];
