/** One suite over both codecs, native and portable: the same bytes, the same error codes. */
import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { findAddon } from '../../../src/native/addon.ts';
import { type Codec, codec, nativeCodec, portableCodec } from '../../../src/native/codec.ts';
import { needs } from '../../kit/skip.ts';
import { blake3, zstdCompress } from './oracles.ts';
import { noise, skippableFrame, text } from './streams.ts';

const sha256 = (bytes: Buffer): Buffer => createHash('sha256').update(bytes).digest();
const MIB = 1024 * 1024;

const SUITES: [string, () => Codec, string | null][] = [
  ['native', () => nativeCodec(findAddon()!), needs('addon', 'zstd-napi', '@napi-rs/blake-hash').reason],
  ['portable', portableCodec, needs('zstd-napi', '@napi-rs/blake-hash').reason],
];

describe.each(SUITES)('the %s codec', (name, open, missing) => {
  const it_ = it.skipIf(missing !== null);
  const plain = text(200_000);
  const frame = zstdCompress(plain);

  it_('says which it is', () => expect(open().kind).toBe(name));

  it_('hashes', () => {
    expect(open().hash(plain, 0).equals(blake3(plain))).toBe(true);
    expect(open().hash(plain, 1).equals(sha256(plain))).toBe(true);
    expect(open().crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
  });

  it_.each([
    ['raw', 0, plain],
    ['gzip', 2, gzipSync(plain)],
    ['zstd', 3, frame],
    ['zstd in two frames', 3, Buffer.concat([zstdCompress(plain.subarray(0, 7)), zstdCompress(plain.subarray(7))])],
  ] as const)('decodes a chunk: %s', async (_, compressor, stored) => {
    expect((await open().decode(stored, compressor, plain.length, 0, blake3(plain))).equals(plain)).toBe(true);
    expect((await open().decode(stored, compressor, plain.length, 1, sha256(plain))).equals(plain)).toBe(true);
  });

  it_('refuses a chunk that is not what was promised', async () => {
    const decode = (
      stored: Buffer,
      compressor: 0 | 2 | 3,
      uncompressedSize: number,
      digest = blake3(plain),
    ): Promise<Buffer> => open().decode(stored, compressor, uncompressedSize, 0, digest);
    const format = { code: 'FORMAT' };
    for (const uncompressedSize of [0, plain.length - 1, plain.length + 1]) {
      await expect(decode(plain, 0, uncompressedSize)).rejects.toMatchObject(format);
      await expect(decode(gzipSync(plain), 2, uncompressedSize)).rejects.toMatchObject(format);
      await expect(decode(frame, 3, uncompressedSize)).rejects.toMatchObject(format);
    }
    await expect(decode(frame.subarray(0, -1), 3, plain.length)).rejects.toMatchObject(format);
    await expect(decode(Buffer.concat([frame, Buffer.from('x')]), 3, plain.length)).rejects.toMatchObject(format);
    await expect(decode(noise(1000), 3, plain.length)).rejects.toMatchObject(format);
    await expect(decode(noise(1000), 2, plain.length)).rejects.toMatchObject(format);
    await expect(decode(frame, 3, plain.length, blake3('other'))).rejects.toMatchObject({
      code: 'DIGEST_MISMATCH',
      message: `chunk digest: expected ${blake3('other').toString('hex')}, the bytes have ${blake3(plain).toString('hex')}`,
    });
    await expect(open().decode(plain, 0, plain.length, 1, blake3(plain))).rejects.toMatchObject({
      code: 'DIGEST_MISMATCH',
    });
  });

  it_('refuses chunks over 16 MiB', async () => {
    const digest = Buffer.alloc(32);
    const error: unknown = await open()
      .decode(frame, 3, 16 * MIB + 1, 0, digest)
      .catch((caught: unknown) => caught);
    expect((error as { code: string }).code).toMatch(/^(FORMAT|USAGE)$/);
  });

  it_('decompresses frames up to a limit', () => {
    const both = Buffer.concat([
      zstdCompress(plain),
      skippableFrame(text(10)),
      zstdCompress(noise(1000)),
      Buffer.alloc(12),
    ]);
    const content = Buffer.concat([plain, noise(1000)]);
    expect(open().zstdDecompress(both, content.length).equals(content)).toBe(true);
    expect(
      open()
        .zstdDecompress(both, 100 * MIB)
        .equals(content),
    ).toBe(true);
    expect(open().zstdDecompress(zstdCompress(Buffer.alloc(0)), 0).length).toBe(0);
    const over = expect.objectContaining({
      code: 'FORMAT',
      message: expect.stringContaining(`more than ${content.length - 1} bytes`),
    });
    expect(() => open().zstdDecompress(both, content.length - 1)).toThrow(over);
    const format = expect.objectContaining({ code: 'FORMAT' });
    expect(() => open().zstdDecompress(both.subarray(0, 1000), content.length)).toThrow(format);
    expect(() => open().zstdDecompress(Buffer.alloc(0), 10)).toThrow(format);
    expect(() => open().zstdDecompress(Buffer.concat([frame, Buffer.from('garbage')]), MIB)).toThrow(format);
  });

  it_('believes no header: a bomb costs only its limit', () => {
    const bomb = zstdCompress(Buffer.alloc(64 * MIB));
    expect(bomb.length).toBeLessThan(10_000);
    expect(() => open().zstdDecompress(bomb, 1000)).toThrow(expect.objectContaining({ code: 'FORMAT' }));
  });

  it_('never gives bytes of another digest, whatever is flipped', async () => {
    const small = text(3000, 5);
    const stored = zstdCompress(small);
    await fc.assert(
      fc.asyncProperty(fc.nat(stored.length - 1), fc.integer({ min: 1, max: 255 }), async (at, mask) => {
        const damaged = Buffer.from(stored);
        damaged[at]! ^= mask;
        const result = await open()
          .decode(damaged, 3, small.length, 0, blake3(small))
          .catch((error: { code: string }) => error.code);
        if (typeof result === 'string') expect(result).toMatch(/^(FORMAT|DIGEST_MISMATCH)$/);
        else expect(result.equals(small)).toBe(true);
      }),
      { numRuns: 300 },
    );
  });
});

describe.skipIf(SUITES[0]![2] !== null)('lz4 blocks', () => {
  // Made by hand from the block format: 8 literals, then a match of 12 at distance 4, then 5 literals.
  const stored = Buffer.concat([
    Buffer.from([0x88]),
    Buffer.from('abcdefgh'),
    Buffer.from([4, 0, 0x50]),
    Buffer.from('12345'),
  ]);
  const plain = Buffer.from('abcdefghefghefghefgh12345');

  it('decode natively', async () => {
    expect((await nativeCodec(findAddon()!).decode(stored, 1, plain.length, 0, blake3(plain))).toString()).toBe(
      plain.toString(),
    );
  });

  it('that reach before their beginning, or end early, are refused', async () => {
    const wild = Buffer.from(stored);
    wild.writeUInt16LE(9, 9);
    for (const bytes of [wild, stored.subarray(0, 10), Buffer.alloc(0)]) {
      const decoding = nativeCodec(findAddon()!).decode(bytes, 1, plain.length, 0, blake3(plain));
      await expect(decoding).rejects.toMatchObject({ code: 'FORMAT' });
    }
  });

  it('are not for the portable codec, which says so', async () => {
    const decoding = portableCodec().decode(stored, 1, plain.length, 0, blake3(plain));
    await expect(decoding).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      hint: expect.stringContaining('build:native'),
    });
  });
});

describe('choosing', () => {
  it('takes the addon where there is one', () => {
    expect(codec().kind).toBe(findAddon() === null ? 'portable' : 'native');
  });

  it('names the optional dependency that is missing', async () => {
    vi.resetModules();
    vi.doMock('node:module', () => ({
      createRequire: () => () => {
        throw new Error('Cannot find module');
      },
    }));
    try {
      const { codec: choose } = await import('../../../src/native/codec.ts');
      const chosen = choose();
      expect(chosen.kind).toBe('portable');
      expect(chosen.hash(Buffer.from('x'), 1).equals(sha256(Buffer.from('x')))).toBe(true);
      const missing = (what: string) =>
        expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringContaining(what) });
      expect(() => chosen.hash(Buffer.from('x'), 0)).toThrow(missing('@napi-rs/blake-hash'));
      expect(() => chosen.zstdDecompress(Buffer.from('x'), 1)).toThrow(missing('zstd-napi'));
    } finally {
      vi.doUnmock('node:module');
      vi.resetModules();
    }
  });
});
