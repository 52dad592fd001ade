/** The content of a file of a lazy image, out of its blobs: fetched in few requests, decoded, and verified chunk by chunk. */
import type { BlobSource } from '../blob/source.ts';
import type { Codec } from '../native/codec.ts';
import type { FileChunk } from '../tree/node.ts';
import { fetchPieces } from './fetch-pieces.ts';
import type { UnitCache } from './units.ts';

/** The source of a blob's bytes, by its id. */
export type SourceOf = (blob: string) => BlobSource;

/** Sources, codec and caches that reading content needs. */
export interface ContentReader {
  readonly sourceOf: SourceOf;
  readonly codec: Codec;
  readonly units: UnitCache;
}

/** The bytes from … to − 1 of a chunk. */
interface Part {
  readonly chunk: FileChunk;
  readonly from: number;
  readonly to: number;
}

/** Plain bytes offset … offset + length − 1 of the file that `chunks` are, in order. */
export async function* readChunks(
  chunks: readonly FileChunk[],
  offset: number,
  length: number,
  reader: ContentReader,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const end = offset + length;
  let at = 0;
  const parts: Part[] = [];
  for (const chunk of chunks) {
    const next = at + chunk.uncompressedSize;
    if (next > offset && at < end) {
      parts.push({ chunk, from: Math.max(offset - at, 0), to: Math.min(end, next) - at });
    }
    at = next;
  }
  for (const group of ascending(parts)) {
    if (group[0]!.chunk.within === null) yield* readAlone(group, reader, signal);
    else for (const part of group) yield await readWithin(part, reader, signal);
  }
}

/** Chunks that are stored one by one and follow each other: few requests for all of them. */
async function* readAlone(
  group: readonly Part[],
  { sourceOf, codec }: ContentReader,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const pieces = group.map((part) => ({ offset: part.chunk.compressedOffset, size: part.chunk.compressedSize, part }));
  for await (const { piece, stored } of fetchPieces(pieces, sourceOf(group[0]!.chunk.blob), signal)) {
    const { chunk, from, to } = piece.part;
    yield (await plainOf(chunk, stored, codec)).subarray(from, to);
  }
}

/** The plain bytes of a chunk that is stored alone. Without a digest the source has verified the bytes, see `whole-blob.ts`: they are stored as they are. */
export async function plainOf(chunk: FileChunk, stored: Buffer, codec: Codec): Promise<Buffer> {
  const { compressor, uncompressedSize, digester, digest } = chunk;
  if (digest.length === 0) return stored;
  return codec.decode(stored, compressor, uncompressedSize, digester, digest);
}

/** A chunk that is a part of a unit; it is verified by its own digest. */
async function readWithin(
  { chunk, from, to }: Part,
  { sourceOf, codec, units }: ContentReader,
  signal: AbortSignal,
): Promise<Buffer> {
  const { unit, offset } = chunk.within!;
  const plain = await units.get(unit, sourceOf(chunk.blob), signal);
  const bytes = plain.subarray(offset, offset + chunk.uncompressedSize);
  codec.verify(bytes, chunk.digester, chunk.digest);
  return bytes.subarray(from, to);
}

/** Cuts a file's chunks where they change the blob or go back in it: each group is in the order of the blob. */
function ascending<T extends { readonly chunk: FileChunk }>(items: readonly T[]): T[][] {
  const groups: T[][] = [];
  for (const item of items) {
    const previous = groups.at(-1)?.at(-1)?.chunk;
    const isNext =
      previous?.blob === item.chunk.blob &&
      previous.within === null &&
      item.chunk.within === null &&
      item.chunk.compressedOffset >= previous.compressedOffset + previous.compressedSize;
    if (isNext) groups.at(-1)!.push(item);
    else groups.push([item]);
  }
  return groups;
}
