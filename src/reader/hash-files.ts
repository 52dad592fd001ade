/**
 * Digests of many files of a lazy image. Each blob is read from front to back in few requests, and each chunk is
 * added to every file that has it next. A file whose chunks go back in a blob, or to an earlier one, continues in the
 * next pass over the remaining chunks.
 */
import { createHash, type Hash } from 'node:crypto';
import type { Span } from '../blob/planner.ts';
import type { Unit } from '../blob/table.ts';
import { FormatError } from '../errors.ts';
import type { Codec } from '../native/codec.ts';
import type { FileChunk, FileNode } from '../tree/node.ts';
import { type ContentReader, plainOf } from './content.ts';
import { fetchPieces } from './fetch-pieces.ts';
import { ahead } from './map-ordered.ts';

/** Pieces that are decoded at once: each is at most one unit, 32 MiB. */
const DECODED_AT_ONCE = 4;

/** A file of which the first `next` chunks are hashed. */
interface Hashed {
  readonly node: FileNode;
  readonly hash: Hash;
  next: number;
}

/** A chunk, and the file whose next one it is. */
interface Part {
  readonly chunk: FileChunk;
  readonly file: Hashed;
}

interface PlacedPart extends Part {
  /** Place of the blob among all. */
  readonly rank: number;
  readonly place: Span;
}

/** A piece that is fetched and decoded as one: a chunk that is stored alone, or a unit. */
interface Piece extends Span {
  readonly unit: Unit | null;
  /** In the order of each file. */
  readonly parts: Part[];
}

export interface HashOptions {
  readonly signal: AbortSignal;
  /** Called with the number of further bytes of files that are hashed. */
  readonly onHashed?: (bytes: number) => void;
}

/**
 * Hex sha256 of the content of `nodes`, regular files. `blobs`: the ids in the order in which files refer to them.
 * FORMAT for a file whose chunks are not as long as it is.
 */
export async function hashFiles(
  nodes: Iterable<FileNode>,
  blobs: readonly string[],
  reader: ContentReader,
  options: HashOptions,
): Promise<Map<FileNode, string>> {
  const files = [...new Set(nodes)].map((node): Hashed => ({ node, hash: createHash('sha256'), next: 0 }));
  for (const { node } of files) checkLength(node);
  const ranks = new Map(blobs.map((id, rank) => [id, rank]));
  let left = files.filter(isUnfinished);
  while (left.length > 0) {
    for (const [blob, pieces] of planPass(left, (id) => ranks.get(id)!)) {
      await readPass(blob, pieces, reader, options);
    }
    left = left.filter(isUnfinished);
  }
  return new Map(files.map(({ node, hash }) => [node, hash.digest('hex')]));
}

const isUnfinished = ({ node, next }: Hashed): boolean => next < node.chunks.length;

function checkLength({ chunks, size }: FileNode): void {
  const length = chunks.reduce((sum, { uncompressedSize }) => sum + uncompressedSize, 0);
  if (length !== size) throw new FormatError('size', `${size} bytes, but its chunks have ${length}`, { op: 'read' });
}

/** The next chunks of every file as long as they go forward, by blob and in its order. */
function planPass(files: readonly Hashed[], rankOf: (blob: string) => number): Map<string, Piece[]> {
  const parts: PlacedPart[] = [];
  for (const file of files) {
    let last: PlacedPart | null = null;
    for (const chunk of file.node.chunks.slice(file.next)) {
      const part: PlacedPart = { chunk, file, rank: rankOf(chunk.blob), place: placeOf(chunk) };
      if (last !== null && byPlace(last, part) > 0) break;
      parts.push(part);
      last = part;
    }
  }
  // Stable: parts of one file stay in order where they lie in the same piece.
  parts.sort(byPlace);
  const pass = new Map<string, Piece[]>();
  for (const { chunk, file, place } of parts) {
    const pieces = pass.get(chunk.blob) ?? [];
    pass.set(chunk.blob, pieces);
    const last = pieces.at(-1);
    if (last !== undefined && isSame(last, chunk, place)) last.parts.push({ chunk, file });
    else pieces.push({ ...place, unit: chunk.within?.unit ?? null, parts: [{ chunk, file }] });
  }
  return pass;
}

const byPlace = (a: PlacedPart, b: PlacedPart): number =>
  a.rank - b.rank || a.place.offset - b.place.offset || a.place.size - b.place.size;

function placeOf(chunk: FileChunk): Span {
  const { compressedOffset: offset, compressedSize: size } = chunk.within?.unit ?? chunk;
  return { offset, size };
}

/** Whether `chunk` comes with `piece`: the same unit, or the same bytes that decode to the same. */
function isSame(piece: Piece, chunk: FileChunk, place: Span): boolean {
  if (piece.offset !== place.offset || piece.size !== place.size) return false;
  if (piece.unit !== null || chunk.within !== null) return piece.unit === chunk.within?.unit;
  const first = piece.parts[0]!.chunk;
  return first.uncompressedOffset === chunk.uncompressedOffset && first.uncompressedSize === chunk.uncompressedSize;
}

async function readPass(
  blob: string,
  pieces: readonly Piece[],
  { sourceOf, codec }: ContentReader,
  { signal, onHashed }: HashOptions,
): Promise<void> {
  const fetched = fetchPieces(pieces, sourceOf(blob), signal);
  const decoded = ahead(fetched, DECODED_AT_ONCE, async ({ piece, stored }) => ({
    piece,
    plain: await decode(piece, stored, codec),
  }));
  for await (const { piece, plain } of decoded) {
    let hashed = 0;
    for (const { chunk, file } of piece.parts) {
      const bytes = piece.unit === null ? plain : cutOut(chunk, plain, codec);
      file.hash.update(bytes);
      file.next++;
      hashed += bytes.length;
    }
    onHashed?.(hashed);
  }
}

const decode = (piece: Piece, stored: Buffer, codec: Codec): Promise<Buffer> =>
  piece.unit === null ? plainOf(piece.parts[0]!.chunk, stored, codec) : codec.decodeUnit(stored, piece.unit);

/** A chunk out of its unit, verified for itself. */
function cutOut(chunk: FileChunk, plain: Buffer, codec: Codec): Buffer {
  const { offset } = chunk.within!;
  const bytes = plain.subarray(offset, offset + chunk.uncompressedSize);
  codec.verify(bytes, chunk.digester, chunk.digest);
  return bytes;
}
