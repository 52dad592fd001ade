/** Many files of a lazy image at once: in the order of the blobs, so that adjacent chunks share a request. */
import { FormatError } from '../errors.ts';
import type { FileChunk, FileNode } from '../tree/node.ts';
import type { FilePiece } from './image.ts';

/** Chunks planned together: enough for long requests, few enough to keep in memory. */
const BATCH_CHUNKS = 4096;

/** Plain bytes 0 … length − 1 of what `chunks` are in order. */
export type ReadAll = (chunks: readonly FileChunk[], length: number) => AsyncIterable<Buffer>;

/** The content of `nodes`. FORMAT for a file whose chunks are not as long as it is. */
export async function* readFiles(nodes: Iterable<FileNode>, read: ReadAll): AsyncGenerator<FilePiece> {
  let batch: FileNode[] = [];
  let chunks: FileChunk[] = [];
  for (const node of inBlobOrder(nodes)) {
    batch.push(node);
    // A large file has more chunks than a call may have arguments.
    for (const chunk of wholeChunks(node)) chunks.push(chunk);
    if (chunks.length < BATCH_CHUNKS) continue;
    yield* readBatch(batch, chunks, read);
    [batch, chunks] = [[], []];
  }
  yield* readBatch(batch, chunks, read);
}

/** Files follow each other without a gap in what is read, so their sizes separate them. */
async function* readBatch(
  nodes: readonly FileNode[],
  chunks: readonly FileChunk[],
  read: ReadAll,
): AsyncGenerator<FilePiece> {
  const length = nodes.reduce((sum, { size }) => sum + size, 0);
  let at = 0;
  let left = nodes[0]?.size ?? 0;
  for await (let data of read(chunks, length)) {
    while (data.length > 0) {
      while (left === 0) left = nodes[++at]!.size;
      const piece = data.subarray(0, left);
      yield { node: nodes[at]!, data: piece };
      left -= piece.length;
      data = data.subarray(piece.length);
    }
  }
}

function wholeChunks(node: FileNode): readonly FileChunk[] {
  const { chunks, size } = node;
  const length = chunks.reduce((sum, { uncompressedSize }) => sum + uncompressedSize, 0);
  if (length === size) return chunks;
  throw new FormatError('size', `${size} bytes, but its chunks have ${length}`, { op: 'read' });
}

/** Files with content by where it begins. */
function inBlobOrder(nodes: Iterable<FileNode>): FileNode[] {
  const places: Array<{ readonly node: FileNode; readonly blob: string; readonly offset: number }> = [];
  for (const node of nodes) {
    const [first] = node.chunks;
    if (first !== undefined) places.push({ node, blob: first.blob, offset: first.uncompressedOffset });
  }
  const byPlace = (a: (typeof places)[0], b: (typeof places)[0]) =>
    a.blob === b.blob ? a.offset - b.offset : a.blob < b.blob ? -1 : 1;
  return places.sort(byPlace).map(({ node }) => node);
}
