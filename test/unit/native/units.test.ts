/** Units of several chunks, by both codecs: the same bytes, the same error codes, whatever the input says. */
import { createCipheriv } from 'node:crypto';
import { deflateRawSync, gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { type Decoder, findAddon } from '../../../src/native/addon.ts';
import { type Codec, nativeCodec, portableCodec } from '../../../src/native/codec.ts';
import { needs } from '../../kit/skip.ts';
import { blake3, zstdCompress } from './oracles.ts';
import { noise, text } from './streams.ts';

const MIB = 1024 * 1024;
const FORMAT = expect.objectContaining({ code: 'FORMAT' });

const SUITES: [string, () => Codec, string | null][] = [
  ['native', () => nativeCodec(findAddon()!), needs('addon', 'zstd-napi', '@napi-rs/blake-hash').reason],
  ['portable', portableCodec, needs('zstd-napi', '@napi-rs/blake-hash').reason],
];

/** `bits` zero bits in front of raw deflate, as if something else ended in the middle of the byte. */
function shifted(deflated: Buffer, bits: number): { stored: Buffer; byte: number } {
  const out = Buffer.alloc(deflated.length + 1);
  for (let at = 0; at < deflated.length; at++) {
    const moved = deflated[at]! << bits;
    out[at] = out[at]! | (moved & 0xff);
    out[at + 1] = moved >>> 8;
  }
  // Whatever was before is in the byte as well.
  return { stored: out.subarray(1), byte: out[0]! | ((1 << bits) - 1) };
}

/** A gzip member with every optional field. */
function decorated(content: Buffer): Buffer {
  const plain = gzipSync(content);
  const header = Buffer.from(plain.subarray(0, 10));
  header[3] = 2 | 4 | 8 | 16;
  return Buffer.concat([header, Buffer.from('\x03\0abcname\0comment\0\0\0', 'latin1'), plain.subarray(10)]);
}

const zran = (fields: Partial<Extract<Decoder, { kind: 'zran' }>> = {}): Decoder => ({
  kind: 'zran',
  window: Buffer.alloc(0),
  bits: 0,
  byte: 0,
  ...fields,
});

const key = noise(32);
const iv = noise(16);
function encrypt(plain: Buffer): Buffer {
  const cipher = createCipheriv('aes-128-xts', key, iv);
  return Buffer.concat([cipher.update(plain), cipher.final()]);
}

describe.each(SUITES)('units: %s', (_, open, missing) => {
  const it_ = it.skipIf(missing !== null);
  const decode = (stored: Buffer, size: number, decoder: Decoder) => open().decodeUnit(stored, { size, decoder });
  const plain = text(200_000);

  it_('decodes batches', async () => {
    expect((await decode(plain, plain.length, { kind: 'batch', compressor: 0 })).equals(plain)).toBe(true);
    expect((await decode(zstdCompress(plain), plain.length, { kind: 'batch', compressor: 3 })).equals(plain)).toBe(
      true,
    );
    await expect(decode(zstdCompress(plain), plain.length + 1, { kind: 'batch', compressor: 3 })).rejects.toEqual(
      FORMAT,
    );
    await expect(decode(plain, plain.length - 1, { kind: 'batch', compressor: 0 })).rejects.toEqual(FORMAT);
  });

  it_('goes on at any bit of a byte, with the window that was before', async () => {
    const [window, rest] = [plain.subarray(0, 32_768), plain.subarray(32_768)];
    const deflated = deflateRawSync(rest, { dictionary: window });
    for (const bits of [1, 2, 3, 4, 5, 6, 7]) {
      const { stored, byte } = shifted(deflated, 8 - bits);
      const decoder = zran({ window, bits, byte });
      expect((await decode(stored, rest.length, decoder)).equals(rest), `${bits} bits`).toBe(true);
      expect((await decode(stored, 1000, decoder)).equals(rest.subarray(0, 1000))).toBe(true);
    }
    expect((await decode(deflated, rest.length, zran({ window }))).equals(rest)).toBe(true);
  });

  it_('crosses members, empty and decorated ones too, and stops at its size', async () => {
    const [one, two, three] = [text(70_000), noise(5000), text(9)];
    const members = Buffer.concat([gzipSync(one), gzipSync(''), decorated(two), gzipSync(''), decorated(three)]);
    const content = Buffer.concat([one, two, three]);
    const stored = members.subarray(10); // behind the first header
    for (const size of [content.length, content.length - 4, one.length, one.length + 1, 1, 0]) {
      expect((await decode(stored, size, zran())).equals(content.subarray(0, size)), `${size}`).toBe(true);
    }
    await expect(decode(stored, content.length + 1, zran())).rejects.toEqual(FORMAT);
  });

  it_('decrypts, with and without a partial block, and takes padding away', async () => {
    for (const size of [1, 15, 16, 17, 18, 31, 32, 33, 5000]) {
      const content = noise(size);
      const padded = Buffer.concat([
        content,
        Buffer.alloc(Math.max(16 - size, 0), 16 - size),
        Buffer.from([0x78, 0x90]),
      ]);
      const stored = encrypt(size < 16 ? padded : content);
      const decoder: Decoder = { kind: 'encrypted', key, iv, compressor: 0 };
      expect((await decode(stored, size, decoder)).equals(content), `${size}`).toBe(true);
      await expect(decode(stored, size + 1, decoder)).rejects.toEqual(FORMAT);
    }
    const decoder: Decoder = { kind: 'encrypted', key, iv, compressor: 3 };
    expect((await decode(encrypt(zstdCompress(plain)), plain.length, decoder)).equals(plain)).toBe(true);
    await expect(decode(noise(15), 15, decoder)).rejects.toEqual(FORMAT);
  });

  it_('keeps 18 bytes that end as padding does', async () => {
    const content = Buffer.concat([Buffer.alloc(16, 3), Buffer.from([0x78, 0x90])]);
    const decoder: Decoder = { kind: 'encrypted', key, iv, compressor: 0 };
    expect((await decode(encrypt(content), 18, decoder)).equals(content)).toBe(true);
  });

  it_('refuses every cut of a span', async () => {
    const content = text(300);
    const stored = Buffer.concat([gzipSync(content), decorated(content)]).subarray(10);
    const needed = stored.length - 8; // not the last trailer, and not the end of the last block
    for (let end = 0; end < needed - 2; end++) {
      await expect(decode(stored.subarray(0, end), 600, zran()), `${end}`).rejects.toEqual(FORMAT);
    }
  });

  it_.each([
    ['more bits than a byte has', noise(100), 100, zran({ bits: 8 })],
    ['a window over 32 KiB', noise(100), 100, zran({ window: Buffer.alloc(32_769) })],
    ['a size over the limit', noise(100), 33 * MIB, zran()],
    ['a batch over the limit', noise(100), 33 * MIB, { kind: 'batch', compressor: 3 }],
    ['nothing', Buffer.alloc(0), 1, zran()],
    ['noise', noise(5000), 1 * MIB, zran()],
    ['members without end', Buffer.concat(Array<Buffer>(50_000).fill(gzipSync(''))).subarray(10), 1, zran()],
    [
      'a reserved flag',
      Buffer.concat([gzipSync(''), Buffer.from('1f8b08e0000000000000', 'hex')]).subarray(10),
      1,
      zran(),
    ],
    [
      'an extra field that runs out',
      Buffer.concat([gzipSync(''), Buffer.from('1f8b0804000000000000ffff', 'hex')]).subarray(10),
      1,
      zran(),
    ],
    [
      'a reference to before the window',
      deflateRawSync(text(5000), { dictionary: text(5000) }),
      5000,
      zran({ window: noise(10) }),
    ],
  ] as [string, Buffer, number, Decoder][])('refuses %s', async (_name, stored, size, decoder) => {
    if (_name === 'members without end' && open().kind === 'portable') stored = stored.subarray(0, 20_000);
    await expect(decode(stored, size, decoder)).rejects.toEqual(FORMAT);
  });

  it_('takes from a bomb what was promised', async () => {
    const bomb = gzipSync(Buffer.alloc(200 * MIB), { level: 9 }).subarray(10);
    const before = process.memoryUsage().rss;
    expect((await decode(bomb, 1000, zran())).equals(Buffer.alloc(1000))).toBe(true);
    await expect(decode(zstdCompress(Buffer.alloc(32 * MIB)), 1000, { kind: 'batch', compressor: 3 })).rejects.toEqual(
      FORMAT,
    );
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * MIB);
  });

  it_('verifies', () => {
    open().verify(plain, 0, blake3(plain));
    expect(() => open().verify(plain, 0, blake3('other'))).toThrow(
      expect.objectContaining({ code: 'DIGEST_MISMATCH' }),
    );
  });
});
