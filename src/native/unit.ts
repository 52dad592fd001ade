/** The decoders of units without the addon: spans of gzip streams through node:zlib, AES-XTS through node:crypto. */
import { createDecipheriv } from 'node:crypto';
import { constants, createInflateRaw } from 'node:zlib';
import { FormatError } from '../errors.ts';
import type { Decoder } from './addon.ts';

/**
 * An empty deflate block of the fixed code: not the last one, its end of block. Bits in the order of the stream
 * (RFC 1951, 3.2.3 and 3.2.6).
 */
const FIXED_BLOCK = '0' + '10' + '0000000';

/**
 * An empty block with a code of its own (3.2.7) that takes an odd number of bits, 95: all 19 code length codes are
 * given, of which 18 has one bit and 0 and 1 have two; 138 + 118 zeros, one bit for "end of block", no distances.
 */
const DYNAMIC_BLOCK = [
  ['0', '01', '00000', '00000', '1111'],
  ['000', '000', '100', '010', ...Array<string>(13).fill('000'), '010', '000'],
  ['0', '1111111', '0', '1101011', '11', '10', '0'],
]
  .flat()
  .join('');

/**
 * Blocks that put nothing out and end `skipped` bits (mod 8) behind a byte's border. node:zlib cannot begin in the
 * middle of a byte; behind these it has to.
 */
function emptyBlocks(skipped: number): string {
  const odd = skipped % 2 === 1 ? DYNAMIC_BLOCK : '';
  const even = ((skipped - odd.length) & 7) / (FIXED_BLOCK.length & 7);
  return odd + FIXED_BLOCK.repeat(even);
}

/** The bytes to decode before a span that begins with the `bits` high bits of `byte`. */
function leadIn(bits: number, byte: number): Buffer {
  if (bits === 0) return Buffer.alloc(0);
  const blocks = emptyBlocks(8 - bits) + byte.toString(2).padStart(8, '0').slice(0, bits).split('').reverse().join('');
  return Buffer.from(
    (blocks.match(/.{8}/g) ?? []).map((eight) => Number.parseInt(eight.split('').reverse().join(''), 2)),
  );
}

type Zran = Extract<Decoder, { kind: 'zran' }>;

/** Exactly `size` bytes from the middle of a gzip stream, over the ends of its members. FORMAT when the stream is shorter. */
export async function inflateSpan(stored: Buffer, { window, bits, byte }: Zran, size: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let length = 0;
  for (let [at, first] = [0, true]; length < size; first = false) {
    const lead = first ? leadIn(bits, byte) : Buffer.alloc(0);
    const inflate = createInflateRaw({
      // The span may end in the middle of a block.
      finishFlush: constants.Z_SYNC_FLUSH,
      ...(first && window.length > 0 ? { dictionary: window } : {}),
    });
    inflate.end(Buffer.concat([lead, stored.subarray(at)]));
    try {
      for await (const piece of inflate as AsyncIterable<Buffer>) {
        pieces.push(piece);
        length += piece.length;
        if (length >= size) break;
      }
    } catch (cause) {
      throw new FormatError('deflate stream', cause instanceof Error ? cause.message : String(cause), { cause });
    }
    if (length < size) at = memberStart(stored, at + inflate.bytesWritten - lead.length + TRAILER_SIZE);
  }
  return Buffer.concat(pieces).subarray(0, size);
}

/** CRC-32 and length behind each gzip member (RFC 1952). */
const TRAILER_SIZE = 8;
const HEADER_SIZE = 10;
const FLAG = { FHCRC: 2, FEXTRA: 4, FNAME: 8, FCOMMENT: 16, RESERVED: 0xe0 } as const;

/** Offset of the deflate stream in the gzip member whose header is at `at`. */
function memberStart(stored: Buffer, at: number): number {
  const bad = (problem: string) => new FormatError('gzip header', problem, { offset: at });
  if (at + HEADER_SIZE > stored.length) throw bad('truncated');
  if (stored.readUIntBE(at, 3) !== 0x1f8b08) throw bad('no deflate member');
  const flags = stored[at + 3]!;
  if ((flags & FLAG.RESERVED) !== 0) throw bad('reserved flags');
  let end = at + HEADER_SIZE;
  if ((flags & FLAG.FEXTRA) !== 0) {
    if (end + 2 > stored.length) throw bad('truncated');
    end += 2 + stored.readUInt16LE(end);
  }
  for (const flag of [FLAG.FNAME, FLAG.FCOMMENT]) {
    if ((flags & flag) === 0) continue;
    const zero = stored.indexOf(0, end);
    if (zero < 0) throw bad('truncated');
    end = zero + 1;
  }
  if ((flags & FLAG.FHCRC) !== 0) end += 2;
  if (end > stored.length) throw bad('truncated');
  return end;
}

const BLOCK = 16;
const PADDED_SIZE = BLOCK + 2;
const PADDED_MAGIC = 0x7890;

type Encrypted = Extract<Decoder, { kind: 'encrypted' }>;

/** Decrypts stored bytes, which stay compressed. `size`: bytes of the content. Padding as in native/codec/src/xts.rs. */
export function decryptXts(stored: Buffer, { key, iv, compressor }: Encrypted, size: number): Buffer {
  if (stored.length < BLOCK) {
    throw new FormatError('compressed_size', `${stored.length} bytes, fewer than the ${BLOCK} of any encrypted object`);
  }
  const decipher = createDecipheriv('aes-128-xts', key, iv);
  // One update call: each call would be a data unit of its own.
  const plain = Buffer.concat([decipher.update(stored), decipher.final()]);
  const isWhole = compressor === 0 && plain.length === size;
  if (isWhole || plain.length !== PADDED_SIZE || plain.readUInt16BE(BLOCK) !== PADDED_MAGIC) return plain;
  const missing = plain[BLOCK - 1]!;
  if (missing === 0 || missing > BLOCK) throw new FormatError('encryption padding', `${missing} of ${BLOCK} bytes`);
  return plain.subarray(0, BLOCK - missing);
}
