/** Compressed streams made by hand, and a layer stream driven from end to end. */
import { crc32, deflateRawSync } from 'node:zlib';
import { addon, type LayerDigests } from '../../../src/native/addon.ts';

export type LayerCompression = 'gzip' | 'zstd' | 'none';

export interface GzipFields {
  readonly extra?: Buffer;
  readonly name?: string;
  readonly comment?: string;
  /** FHCRC: the low half of the header's CRC-32. */
  readonly headerCrc?: boolean;
  readonly level?: number;
}

/** One gzip member with the header fields of RFC 1952 that were asked for. */
export function gzipMember(content: Buffer, fields: GzipFields = {}): Buffer {
  const flags =
    1 | // FTEXT, means nothing
    (fields.headerCrc ? 2 : 0) |
    (fields.extra ? 4 : 0) |
    (fields.name === undefined ? 0 : 8) |
    (fields.comment === undefined ? 0 : 16);
  const parts: Buffer[] = [Buffer.from([0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 3])];
  if (fields.extra) parts.push(u16(fields.extra.length), fields.extra);
  if (fields.name !== undefined) parts.push(Buffer.from(`${fields.name}\0`));
  if (fields.comment !== undefined) parts.push(Buffer.from(`${fields.comment}\0`));
  if (fields.headerCrc) parts.push(u16(crc32(Buffer.concat(parts)) & 0xffff));
  parts.push(deflateRawSync(content, { level: fields.level ?? 6 }), u32(crc32(content)), u32(content.length));
  return Buffer.concat(parts);
}

/** A zstd frame that decoders skip (RFC 8878, 3.1.2). */
export function skippableFrame(content: Buffer): Buffer {
  return Buffer.concat([u32(0x184d2a53), u32(content.length), content]);
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** Bytes that compress a little: words of a small vocabulary, the same for the same seed. */
export function text(length: number, seed = 1): Buffer {
  const out = Buffer.alloc(length);
  let state = seed >>> 0 || 1;
  for (let at = 0; at < length; at += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    out[at] = 97 + ((state >>> 24) & 15);
  }
  return out;
}

/** Bytes that do not compress. */
export function noise(length: number, seed = 1): Buffer {
  const out = Buffer.alloc(length);
  let state = seed >>> 0 || 1;
  for (let at = 0; at < length; at += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    out[at] = state >>> 11;
  }
  return out;
}

export interface Through {
  readonly content: Buffer;
  readonly digests: LayerDigests;
}

/** Writes `input` in pieces of the given sizes (taken round and round) while reading it in pieces of `readSizes`. */
export async function through(
  compression: LayerCompression,
  input: Buffer,
  writeSizes: readonly number[] = [65536],
  readSizes: readonly number[] = [65536],
): Promise<Through> {
  const stream = addon().layerStream(compression);
  const write = async (): Promise<void> => {
    for (let at = 0, turn = 0; at < input.length; turn += 1) {
      const size = writeSizes[turn % writeSizes.length]!;
      await stream.write(input.subarray(at, at + size));
      at += size;
    }
    stream.end();
  };
  const read = async (): Promise<Through> => {
    const pieces: Buffer[] = [];
    for (let turn = 0; ; turn += 1) {
      const target = Buffer.alloc(readSizes[turn % readSizes.length]!);
      const length = await stream.read(target, 0);
      pieces.push(target.subarray(0, length));
      if (length < target.length) break;
    }
    if ((await stream.read(Buffer.alloc(1), 0)) !== 0) throw new Error('a short read was not the end');
    return { content: Buffer.concat(pieces), digests: stream.digests() };
  };
  try {
    const [result] = await Promise.all([read(), write()]);
    return result;
  } finally {
    stream.close();
  }
}
