/**
 * Codecs for reading images, with two implementations: the addon, and a portable one for machines that cannot build it.
 * Both return the same bytes and the same error codes. Writing images always needs the addon.
 */
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { gunzipSync } from 'node:zlib';
import type { DCtx } from 'zstd-napi/binding.js';
import { FormatError, LacunaError } from '../errors.ts';
import { type Addon, type Compressor, type Decoder, type Digester, findAddon } from './addon.ts';
import { BUILD_HINT } from './build-hint.ts';
import { decryptXts, inflateSpan } from './unit.ts';

export interface Codec {
  readonly kind: 'native' | 'portable';
  /** The 32-byte digest. */
  hash(bytes: Buffer, digester: Digester): Buffer;
  /**
   * The plain bytes of one stored chunk (`compressor` 0: stored raw). FORMAT unless it decodes to exactly `uncompressedSize` bytes
   * (at most 16 MiB), DIGEST_MISMATCH unless these hash to `digest`.
   */
  decode(
    stored: Buffer,
    compressor: Compressor,
    uncompressedSize: number,
    digester: Digester,
    digest: Buffer,
  ): Promise<Buffer>;
  /**
   * The plain bytes of a unit: exactly `unit.size` (at most 32 MiB), FORMAT otherwise. Unverified: each chunk that is
   * cut out of them goes through {@link verify}.
   */
  decodeUnit(stored: Buffer, unit: StoredUnit): Promise<Buffer>;
  /** DIGEST_MISMATCH unless `plain` hashes to `digest`. */
  verify(plain: Buffer, digester: Digester, digest: Buffer): void;
  /** Content of one or more zstd frames, FORMAT beyond `limit` bytes. */
  zstdDecompress(data: Buffer, limit: number): Buffer;
  crc32c(bytes: Buffer): number;
}

/** The fields of a unit (`Unit` of `blob/table.ts`) that decoding needs. */
interface StoredUnit {
  readonly size: number;
  readonly decoder: Decoder;
}

/** The addon's codec where it is built, the portable one elsewhere. */
export function codec(): Codec {
  const addon = findAddon();
  return addon === null ? portableCodec() : nativeCodec(addon);
}

export function nativeCodec(addon: Addon): Codec {
  return {
    kind: 'native',
    hash: (bytes, digester) => addon.hash(bytes, digester),
    decode: (stored, compressor, uncompressedSize, digester, digest) =>
      addon.decodeChunk(stored, compressor, compressor !== 0, uncompressedSize, digester, digest),
    async decodeUnit(stored, { size, decoder }) {
      checkUnit(size, decoder);
      switch (decoder.kind) {
        case 'batch':
          return await addon.decodeBatch(stored, decoder.compressor, size);
        case 'zran':
          return await addon.decodeZran(stored, decoder.window, decoder.bits, decoder.byte, size);
        case 'encrypted':
          return await addon.decodeEncrypted(stored, decoder.key, decoder.iv, decoder.compressor, size);
      }
    },
    verify: (plain, digester, digest) => expectDigest(addon.hash(plain, digester), digest),
    zstdDecompress: (data, limit) => addon.zstdDecompress(data, limit),
    crc32c: (bytes) => addon.crc32c(bytes),
  };
}

/** The codec without the addon: Node's own, and optional dependencies, loaded when first needed. It only reads. */
export function portableCodec(): Codec {
  return {
    kind: 'portable',
    hash,
    async decode(stored, compressor, uncompressedSize, digester, digest) {
      if (uncompressedSize > MAX_CHUNK_SIZE)
        throw new FormatError('uncompressed_size', `${uncompressedSize} exceeds ${MAX_CHUNK_SIZE}`);
      const plain = decompressTo(stored, compressor, uncompressedSize);
      expectDigest(hash(plain, digester), digest);
      return plain;
    },
    async decodeUnit(stored, { size, decoder }) {
      checkUnit(size, decoder);
      switch (decoder.kind) {
        case 'batch':
          return decompressTo(stored, decoder.compressor, size);
        case 'zran':
          return await inflateSpan(stored, decoder, size);
        case 'encrypted':
          return decompressTo(decryptXts(stored, decoder, size), decoder.compressor, size);
      }
    },
    verify: (plain, digester, digest) => expectDigest(hash(plain, digester), digest),
    zstdDecompress,
    crc32c,
  };
}

/** As `MAX_CHUNK_SIZE` of native/codec: the largest chunk of any format we read. */
const MAX_CHUNK_SIZE = 16 * 1024 * 1024;
/** As `MAX_UNIT_SIZE` of native/codec. */
const MAX_UNIT_SIZE = 32 * 1024 * 1024;
/** Window size of deflate. */
const MAX_WINDOW_SIZE = 32 * 1024;
/** As `MAX_WINDOW_LOG` of native/codec: zstd windows up to 128 MiB. */
const MAX_WINDOW_LOG = 27;
/** Initial buffer, in bytes, for content whose claimed size is not trusted. */
const FIRST_OUTPUT = 64 * 1024;

function hash(bytes: Buffer, digester: Digester): Buffer {
  if (digester === 1) return createHash('sha256').update(bytes).digest();
  return optional<typeof import('@napi-rs/blake-hash')>('@napi-rs/blake-hash').blake3(bytes);
}

/** Checks a file's claims before the addon checks them as arguments: a wrong file is FORMAT, not the caller's mistake. */
function checkUnit(size: number, decoder: Decoder): void {
  if (size > MAX_UNIT_SIZE) throw new FormatError('uncompressed_size', `${size} exceeds ${MAX_UNIT_SIZE}`);
  if (decoder.kind !== 'zran') return;
  const { window, bits } = decoder;
  if (bits > 7) throw new FormatError('ctx_bits', `${bits} bits of a byte`);
  if (window.length > MAX_WINDOW_SIZE)
    throw new FormatError('dict_size', `${window.length} exceeds ${MAX_WINDOW_SIZE}`);
}

function expectDigest(actual: Buffer, digest: Buffer): void {
  if (actual.equals(digest)) return;
  const [expected, found] = [digest.toString('hex'), actual.toString('hex')];
  throw new LacunaError('DIGEST_MISMATCH', `chunk digest: expected ${expected}, the bytes have ${found}`);
}

function decompressTo(stored: Buffer, compressor: Compressor, size: number): Buffer {
  const plain = decompress(stored, compressor, size);
  if (plain.length === size) return plain;
  throw new FormatError('uncompressed_size', `${size} promised, the chunk holds ${plain.length}`);
}

function decompress(stored: Buffer, compressor: Compressor, uncompressedSize: number): Buffer {
  switch (compressor) {
    case 0:
      return stored;
    case 2:
      return gunzip(stored, uncompressedSize);
    case 3:
      return zstdDecompress(stored, uncompressedSize, brokenFrame);
    case 1:
      throw new LacunaError('UNSUPPORTED', 'lz4 chunks need the native addon', { hint: BUILD_HINT });
  }
}

function gunzip(data: Buffer, limit: number): Buffer {
  try {
    return gunzipSync(data, { maxOutputLength: Math.max(limit, 1) });
  } catch (cause) {
    throw new FormatError('gzip stream', cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

/** Memory grows with the decoded bytes, never with the size that a frame's header claims. */
function zstdDecompress(data: Buffer, limit: number, explain = zstdError): Buffer {
  const context = zstdContext();
  const pieces: Buffer[] = [];
  let [at, length, inside] = [0, 0, true];
  while (at < data.length || inside) {
    if (!inside && data.subarray(at).every((byte) => byte === 0)) break;
    const target = Buffer.allocUnsafe(Math.min(Math.max(FIRST_OUTPUT, length), limit + 1 - length));
    const [hint, produced, consumed] = frames(at, explain, () => context.decompressStream(target, data.subarray(at)));
    at += consumed;
    length += produced;
    inside = hint !== 0;
    if (length > limit) throw new FormatError('zstd stream', `more than ${limit} bytes of content`, { offset: at });
    if (inside && consumed === 0 && produced === 0) throw new FormatError('zstd stream', 'truncated', { offset: at });
    pieces.push(target.subarray(0, produced));
  }
  return Buffer.concat(pieces, length);
}

let zstd: DCtx | null = null;

/** The shared context, reset for a new stream: one per call would hold its memory until the garbage collector runs. */
function zstdContext(): DCtx {
  const { DCtx, DParameter, ResetDirective } = optional<typeof import('zstd-napi/binding.js')>('zstd-napi/binding.js');
  zstd ??= new DCtx();
  zstd.reset(ResetDirective.sessionAndParameters);
  zstd.setParameter(DParameter.windowLogMax, MAX_WINDOW_LOG);
  return zstd;
}

function frames<T>(offset: number, explain: typeof zstdError, step: () => T): T {
  try {
    return step();
  } catch (cause) {
    throw explain(cause, offset);
  }
}

/** zstd's messages for valid frames that need a dictionary, or more memory than a decoder must provide. */
const UNSUPPORTED: ReadonlyArray<readonly [RegExp, string]> = [
  [/requires too much memory/, `a window of more than ${2 ** (MAX_WINDOW_LOG - 20)} MiB`],
  [/Dictionary mismatch/, 'it was compressed with a dictionary'],
];

/** Converts an error of zstd-napi into the addon's error. */
export function zstdError(cause: unknown, offset?: number): LacunaError {
  const unsupported = UNSUPPORTED.find(([pattern]) => pattern.test(textOf(cause)));
  if (unsupported === undefined) return brokenFrame(cause, offset);
  return new LacunaError('UNSUPPORTED', `zstd stream: ${unsupported[1]}`, { cause });
}

/** The error for a chunk with a broken frame. */
const brokenFrame = (cause: unknown, offset?: number): FormatError =>
  new FormatError('zstd stream', textOf(cause), { cause, ...(offset === undefined ? {} : { offset }) });

const textOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));

/** CRC-32C, polynomial 0x1EDC6F41 reflected (RFC 3720, B.4). */
function crc32c(bytes: Buffer): number {
  let crc = ~0;
  for (const byte of bytes) crc = (crc >>> 8) ^ crcTable()[(crc ^ byte) & 0xff]!;
  return ~crc >>> 0;
}

let table: Uint32Array | null = null;

function crcTable(): Uint32Array {
  table ??= Uint32Array.from({ length: 256 }, (_, byte) => {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
    return crc;
  });
  return table;
}

function optional<T>(name: string): T {
  try {
    return createRequire(import.meta.url)(name) as T;
  } catch (cause) {
    throw new LacunaError('UNSUPPORTED', `the optional dependency ${name.split('/binding')[0]} could not be loaded`, {
      op: 'load codec',
      hint: `install it with npm, or use the native addon instead: ${BUILD_HINT}`,
      cause,
    });
  }
}
