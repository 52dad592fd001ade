/** The content of a file of a lazy image, out of its blobs: fetched in few requests, decoded, and verified chunk by chunk. */
import { planRuns, type Run, type Span } from '../blob/planner.ts';
import { Slicer } from '../blob/slicer.ts';
import type { BlobSource } from '../blob/source.ts';
import { LacunaError } from '../errors.ts';
import type { Codec } from '../native/codec.ts';
import type { FileChunk } from '../tree/node.ts';

/** Where the bytes of a blob are, by its id. */
export type SourceOf = (blob: string) => BlobSource;

interface ChunkSpan extends Span {
  readonly chunk: FileChunk;
}

/** Plain bytes offset … offset + length − 1 of the file that `chunks` are, in order. */
export async function* readChunks(
  chunks: readonly FileChunk[],
  offset: number,
  length: number,
  sourceOf: SourceOf,
  codec: Codec,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const end = offset + length;
  let at = 0;
  const wanted: Array<{ chunk: FileChunk; from: number; to: number }> = [];
  for (const chunk of chunks) {
    const next = at + chunk.uncompressedSize;
    if (next > offset && at < end) {
      wanted.push({ chunk, from: Math.max(offset - at, 0), to: Math.min(end, next) - at });
    }
    at = next;
  }
  for (const group of ascending(wanted)) {
    const ranges = new Map(group.map(({ chunk, from, to }) => [chunk, { from, to }]));
    const spans = group.map(({ chunk }) => ({ offset: chunk.compressedOffset, size: chunk.compressedSize, chunk }));
    for (const run of planRuns(spans)) {
      for await (const { chunk, stored } of fetchRun(run, sourceOf(group[0]!.chunk.blob), signal)) {
        const { compressor, uncompressedSize, digester, digest } = chunk;
        const plain = await codec.decode(stored, compressor, uncompressedSize, digester, digest);
        const { from, to } = ranges.get(chunk)!;
        yield plain.subarray(from, to);
      }
    }
  }
}

/** Cuts a file's chunks where they change the blob or go back in it: what is left comes in the order of the blob. */
function ascending<T extends { readonly chunk: FileChunk }>(wanted: readonly T[]): T[][] {
  const groups: T[][] = [];
  for (const item of wanted) {
    const previous = groups.at(-1)?.at(-1)?.chunk;
    const isNext =
      previous?.blob === item.chunk.blob &&
      item.chunk.compressedOffset >= previous.compressedOffset + previous.compressedSize;
    if (isNext) groups.at(-1)!.push(item);
    else groups.push([item]);
  }
  return groups;
}

async function* fetchRun(
  run: Run<ChunkSpan>,
  source: BlobSource,
  signal: AbortSignal,
): AsyncGenerator<{ chunk: FileChunk; stored: Buffer }> {
  const slicer = new Slicer(run);
  for await (const piece of source.read(run.offset, run.size, signal)) {
    for (const { span, bytes } of slicer.push(piece)) yield { chunk: span.chunk, stored: bytes };
  }
  if (slicer.rest.length > 0) {
    throw new LacunaError('SIZE_MISMATCH', 'the blob ended early', { op: 'read blob', subject: source.subject });
  }
}
