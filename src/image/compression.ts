/** Detects the compression of a stream by its first bytes, as engines do: media types and file names can be wrong. */

export type Compression = 'gzip' | 'zstd' | 'xz' | 'bzip2' | 'none';

/** Bytes that {@link detectCompression} looks at. */
export const MAGIC_SIZE = 8;

/** By the bytes that a stream begins with, {@link MAGIC_SIZE} of them unless it is shorter. */
export function detectCompression(start: Buffer): Compression {
  const magic = start.toString('hex', 0, MAGIC_SIZE);
  return SIGNATURES.find(([, signature]) => signature.test(magic))?.[0] ?? 'none';
}

const SIGNATURES: ReadonlyArray<readonly [Compression, RegExp]> = [
  ['gzip', /^1f8b08/],
  // A frame, or a skippable one (RFC 8878, 3.1), as pzstd begins with.
  ['zstd', /^(?:28b52ffd|5.2a4d18)/],
  ['xz', /^fd377a585a00/],
  ['bzip2', /^425a683[1-9]/],
];
