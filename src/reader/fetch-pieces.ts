/** Many ranges of a blob in few, long requests: read as a stream, each range handed out as soon as it is whole. */
import type { Span } from '../blob/planner.ts';
import type { BlobSource } from '../blob/source.ts';
import { LacunaError } from '../errors.ts';

/**
 * Unneeded bytes that are read rather than begin another request. At 200 Mbit/s these are 40 ms, about the round trip
 * to a registry that is not near: a bulk reader has one request at a time, so each one costs that.
 */
const MAX_GAP = 1024 * 1024;

/**
 * `pieces` (by offset; they may overlap) with their stored bytes, in order. In memory are the piece that is due and
 * what came in with its end.
 */
export async function* fetchPieces<T extends Span>(
  pieces: readonly T[],
  source: BlobSource,
  signal: AbortSignal,
): AsyncGenerator<{ readonly piece: T; readonly stored: Buffer }> {
  for (let first = 0; first < pieces.length; ) {
    let end = endOf(pieces[first]!);
    let last = first + 1;
    for (; last < pieces.length && pieces[last]!.offset - end <= MAX_GAP; last++) {
      end = Math.max(end, endOf(pieces[last]!));
    }
    yield* fetchRun(pieces.slice(first, last), end, source, signal);
    first = last;
  }
}

const endOf = ({ offset, size }: Span): number => offset + size;

async function* fetchRun<T extends Span>(
  pieces: readonly T[],
  end: number,
  source: BlobSource,
  signal: AbortSignal,
): AsyncGenerator<{ readonly piece: T; readonly stored: Buffer }> {
  let start = pieces[0]!.offset;
  let held: Buffer[] = [];
  let length = 0;
  let next = 0;
  for await (const bytes of source.read(start, end - start, signal)) {
    held.push(bytes);
    length += bytes.length;
    // Joined once for each piece, not for every bit of it that arrives.
    if (next === pieces.length || endOf(pieces[next]!) > start + length) continue;
    const all = held.length === 1 ? bytes : Buffer.concat(held);
    for (; next < pieces.length && endOf(pieces[next]!) <= start + length; next++) {
      const piece = pieces[next]!;
      yield { piece, stored: all.subarray(piece.offset - start, endOf(piece) - start) };
    }
    const kept = Math.min(Math.max(pieces[next]?.offset ?? Infinity, start), start + length);
    held = [all.subarray(kept - start)];
    length -= kept - start;
    start = kept;
  }
  if (next === pieces.length) return;
  throw new LacunaError('SIZE_MISMATCH', 'the blob ended early', { op: 'read blob', subject: source.subject });
}
