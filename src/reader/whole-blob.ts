/**
 * A blob whose chunks have no digests (tarfs): it is read once from end to end and must hash to its id; the digests of
 * its pieces that are taken on the way verify every later read. So no byte is handed out that was not a part of the
 * whole.
 */
import { createHash } from 'node:crypto';
import type { BlobSource } from '../blob/source.ts';
import { LacunaError } from '../errors.ts';

/** Bytes that share a digest: 32 bytes are kept for each, and a small read fetches at least this many. */
const PIECE = 256 * 1024;

/** `size`: bytes of the whole blob. */
export function wholeBlobSource(source: BlobSource, id: string, size: number): BlobSource {
  let digests: Promise<Buffer[]> | null = null;
  const verified = (signal: AbortSignal): Promise<Buffer[]> => {
    digests ??= hashPieces(source, id, size, signal).catch((error: unknown) => {
      digests = null;
      throw error;
    });
    return digests;
  };
  return {
    subject: source.subject,
    async *read(offset, length, signal) {
      const pieces = await verified(signal);
      let at = Math.floor(offset / PIECE) * PIECE;
      const end = Math.min(Math.ceil((offset + length) / PIECE) * PIECE, size);
      for await (const bytes of piecesOf(source.read(at, end - at, signal))) {
        if (!sha256(bytes).equals(pieces[at / PIECE]!)) throw changed(source, id);
        yield bytes.subarray(Math.max(offset - at, 0), Math.min(offset + length - at, bytes.length));
        at += bytes.length;
      }
    },
  };
}

async function hashPieces(source: BlobSource, id: string, size: number, signal: AbortSignal): Promise<Buffer[]> {
  const whole = createHash('sha256');
  const pieces: Buffer[] = [];
  for await (const bytes of piecesOf(source.read(0, size, signal))) {
    whole.update(bytes);
    pieces.push(sha256(bytes));
  }
  if (whole.digest('hex') !== id) throw changed(source, id);
  return pieces;
}

/** The same bytes in pieces of {@link PIECE}, the last one shorter. */
async function* piecesOf(stream: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let held: Buffer[] = [];
  let length = 0;
  for await (const bytes of stream) {
    held.push(bytes);
    length += bytes.length;
    if (length < PIECE) continue;
    const all = Buffer.concat(held);
    let at = 0;
    for (; at + PIECE <= length; at += PIECE) yield all.subarray(at, at + PIECE);
    held = [all.subarray(at)];
    length -= at;
  }
  if (length > 0) yield Buffer.concat(held);
}

const sha256 = (bytes: Buffer): Buffer => createHash('sha256').update(bytes).digest();

const changed = (source: BlobSource, id: string): LacunaError =>
  new LacunaError('DIGEST_MISMATCH', `the blob does not hash to its id ${id}`, {
    op: 'read blob',
    subject: source.subject,
  });
