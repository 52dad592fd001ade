/** Digests as the OCI image spec writes them: `sha256:` and 64 lower-case hex digits, or `sha512:` and 128. */
import { createHash, type Hash } from 'node:crypto';
import { FormatError } from '../errors.ts';

export type DigestAlgorithm = 'sha256' | 'sha512';

const HEX_LENGTH: Readonly<Record<DigestAlgorithm, number>> = { sha256: 64, sha512: 128 };

export interface Digest {
  readonly algorithm: DigestAlgorithm;
  /** Lower-case hex. Safe as a file name and in a URL. */
  readonly hex: string;
}

/** The hex part of a sha256 digest, of which names of blobs and chunk info files are made. */
export const SHA256_HEX = /^[0-9a-f]{64}$/;
export const isSha256Hex = (text: string): boolean => SHA256_HEX.test(text);

function tryParse(text: string): Digest | null {
  const match = /^(sha256|sha512):([0-9a-f]+)$/.exec(text);
  if (match === null) return null;
  const algorithm = match[1] as DigestAlgorithm;
  const hex = match[2]!;
  return hex.length === HEX_LENGTH[algorithm] ? { algorithm, hex } : null;
}

/** Whether `text` is a digest of an algorithm that is not known here (image-spec descriptor.md, "Digests"). */
export const isOtherDigest = (text: string): boolean =>
  /^[a-z0-9]+([+._-][a-z0-9]+)*:[A-Za-z0-9=_-]+$/.test(text) && !/^(sha256|sha512):/.test(text);

/** Whether `text` is a digest of a known algorithm, in its one canonical spelling. */
export const isDigest = (text: string): boolean => tryParse(text) !== null;

/** The parts of a digest. Throws a FormatError when it is not one. */
export function parseDigest(text: string, field = 'digest'): Digest {
  const digest = tryParse(text);
  if (digest === null) {
    throw new FormatError(field, `not a digest: ${JSON.stringify(text.slice(0, 160))}`, {
      op: 'parse digest',
      hint: 'sha256: and 64 lower-case hex digits, or sha512: and 128',
    });
  }
  return digest;
}

/** The hex part of a digest. */
export const hexOf = (digest: string): string => parseDigest(digest).hex;

/** The digest of `bytes`. */
export const digestOf = (bytes: Uint8Array, algorithm: DigestAlgorithm = 'sha256'): string =>
  `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;

/** Whether `bytes` have this digest. */
export const hasDigest = (bytes: Uint8Array, digest: string): boolean =>
  digestOf(bytes, parseDigest(digest).algorithm) === digest;

/** A running hash of the algorithm that `digest` names. */
export const hasherFor = (digest: string): Hash => createHash(parseDigest(digest).algorithm);
