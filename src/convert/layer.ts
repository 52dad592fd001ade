/**
 * One layer → one data blob, streamed: inflate, parse, hash, compress and upload overlap; nothing touches the disk.
 * The result depends on the layer and the {@link LayerOptions} alone, whatever image the layer is in, unless chunks of
 * lower layers are offered for reuse.
 */
import type { RafsBlob } from '../formats/rafs/blob.ts';
import { finishBlob } from '../formats/rafs/blob-end.ts';
import { addon, type Sha256Stream } from '../native/addon.ts';
import type { BlobUpload } from '../registry/store.ts';
import type { TreeBudget } from '../tree/budget.ts';
import type { LayerTree } from '../tree/layer.ts';
import type { BlobChunks } from './blob-chunks.ts';
import { ChunkPipeline, type DedupSource, type PipelineTotals } from './chunks.ts';
import type { LayerOptions } from './options.ts';
import { type LayerInput, readLayer, ringFor } from './read-layer.ts';

export interface ConvertedLayer {
  readonly tree: LayerTree;
  /** Null when the layer has no file content: then there is no blob. */
  readonly blob: RafsBlob | null;
  /** The blob's `blob.meta` file. */
  readonly meta: Buffer;
  /** The blob that holds its chunk info, named after its sha256, where that does not lie in the blob itself; else null. */
  readonly metaBlob: Buffer | null;
  /** Of its own blob. */
  readonly chunks: BlobChunks;
  readonly totals: PipelineTotals;
}

/** One try: it uses up its {@link upload}, which is the caller's to abort after an error. */
export interface LayerWork {
  readonly options: LayerOptions;
  /** Chunks that may be referred to instead of being stored again. */
  readonly reusableChunks: DedupSource;
  readonly upload: BlobUpload;
  /** Memory budget for the trees of all layers of the image. */
  readonly budget: TreeBudget;
  readonly signal: AbortSignal;
  /** Called with the compressed bytes read so far. */
  readonly onRead: (bytes: number) => void;
}

/** Converts a layer; the blob has been committed to `work.upload` when this returns (aborted when there is none). */
export async function convertLayer(input: LayerInput, work: LayerWork): Promise<ConvertedLayer> {
  const { options, budget, signal, onRead } = work;
  const native = addon();
  const ring = ringFor(options.chunkSize);
  const hasher = native.sha256Stream();
  const pipeline = new ChunkPipeline(
    native,
    options,
    ring,
    hasher,
    (data) => work.upload.write(data),
    work.reusableChunks,
  );
  const reading = { chunkSize: options.chunkSize, budget, signal, onRead };
  const { tree } = await readLayer(input, reading, ring, pipeline);
  return finish(pipeline, hasher, tree, work);
}

async function finish(
  pipeline: ChunkPipeline,
  hasher: Sha256Stream,
  tree: LayerTree,
  work: LayerWork,
): Promise<ConvertedLayer> {
  const { chunks, storedSize, totals } = await pipeline.finish();
  if (chunks.length === 0) {
    await work.upload.abort();
    return { tree, blob: null, meta: Buffer.alloc(0), metaBlob: null, chunks, totals };
  }
  const append = async (data: Buffer) => {
    await Promise.all([hasher.update(data, data.length), work.upload.write(data)]);
  };
  const end = await finishBlob(
    chunks,
    {
      dataSize: storedSize,
      sha256WithHeader: async (header) => {
        await append(header);
        return hasher.digest();
      },
    },
    work.options,
  );
  await append(end.tail);
  const id = await hasher.digest();
  const size = end.blob.compressedSize;
  chunks.blob = id;
  await work.upload.commit(`sha256:${id}`, size);
  return {
    tree,
    blob: { ...end.blob, id },
    meta: end.meta,
    metaBlob: end.metaBlob,
    chunks,
    totals,
  };
}
