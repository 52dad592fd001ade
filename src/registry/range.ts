/** Byte ranges of blobs: the requested one, the one that a server sends, and exactly its bytes out of a stream. */
import type { Hash } from 'node:crypto';
import { LacunaError } from '../errors.ts';
import { hasherFor } from '../image/digest.ts';
import type { Descriptor } from '../image/manifest.ts';
import type { ReadOptions } from './store.ts';

/** Bytes `start` to `end − 1` of a blob. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/** The range of a blob that `options` request. Throws USAGE when it does not lie within the blob. */
export function rangeOf(descriptor: Descriptor, options: ReadOptions): Range {
  const start = options.offset ?? 0;
  const end = start + (options.length ?? descriptor.size - start);
  if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || start < 0 || end < start || end > descriptor.size) {
    throw new LacunaError('USAGE', `the range from ${start} to ${end} exceeds the blob's ${descriptor.size} bytes`, {
      op: 'read',
      subject: descriptor.digest,
    });
  }
  return { start, end };
}

/** Parses `bytes START-LAST/TOTAL` (RFC 9110 14.4); null when it is anything else. */
export function parseContentRange(value: string | null): { range: Range; total: number | null } | null {
  const match = /^bytes ([0-9]{1,15})-([0-9]{1,15})\/([0-9]{1,15}|\*)$/.exec(value ?? '');
  if (match === null) return null;
  const total = match[3] === '*' ? null : Number(match[3]);
  return { range: { start: Number(match[1]), end: Number(match[2]) + 1 }, total };
}

/** Bytes `skip` to `skip + length − 1` of a stream. The rest is left unread. */
export async function* window(source: AsyncIterable<Buffer>, skip: number, length: number): AsyncGenerator<Buffer> {
  let before = skip;
  let left = length;
  for await (const piece of source) {
    const from = Math.min(before, piece.length);
    before -= from;
    const part = piece.subarray(from, Math.min(piece.length, from + left));
    left -= part.length;
    if (part.length > 0) yield part;
    if (left === 0) return;
  }
}

/** Hashes a whole read, and compares the digest before the last piece is delivered. */
export class Verifier {
  readonly #descriptor: Descriptor;
  readonly #hash: Hash;

  constructor(descriptor: Descriptor) {
    this.#descriptor = descriptor;
    this.#hash = hasherFor(descriptor.digest);
  }

  update(piece: Buffer): void {
    this.#hash.update(piece);
  }

  /** Throws DIGEST_MISMATCH. Call it once, after the last piece. */
  finish(subject: string): void {
    const { digest } = this.#descriptor;
    const actual = `${digest.slice(0, digest.indexOf(':'))}:${this.#hash.digest('hex')}`;
    if (actual === digest) return;
    throw new LacunaError('DIGEST_MISMATCH', `the bytes of ${digest} hash to ${actual}`, {
      op: 'read',
      subject,
      hint: 'the blob was damaged in its store or in transit',
    });
  }
}

/** The error of a blob whose size differs from that of its descriptor. */
export const sizeMismatch = (descriptor: Descriptor, subject: string, found: string): LacunaError =>
  new LacunaError('SIZE_MISMATCH', `${descriptor.digest} should have ${descriptor.size} bytes and has ${found}`, {
    op: 'read',
    subject,
  });
