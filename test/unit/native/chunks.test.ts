/** Batches of chunks: hashed, compressed, decoded, and the same bytes whatever the number of threads. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { addon, type Compressor, type Digester } from '../../../src/native/addon.ts';
import { needs } from '../../kit/skip.ts';
import { blake3, frameContentSize, zstdCompress, zstdDecompress } from './oracles.ts';
import { noise, text } from './streams.ts';

const skip = needs('addon', 'zstd-napi', '@napi-rs/blake-hash');
const sha256 = (bytes: Buffer): Buffer => createHash('sha256').update(bytes).digest();

/** Compressible, not compressible, tiny and empty chunks, neither adjacent nor in order of their offsets. */
const DATA = Buffer.concat([text(131_072), noise(131_072), Buffer.alloc(70_000), text(5, 9)]);
const RANGES = [
  [262_144, 70_000],
  [0, 131_072],
  [131_072, 131_072],
  [332_144, 5],
  [100, 0],
  [130_000, 900],
] as const;
const ranges = Uint32Array.from(RANGES.flat());
const chunks = RANGES.map(([offset, length]) => DATA.subarray(offset, offset + length));
const total = chunks.reduce((sum, chunk) => sum + chunk.length, 0);

describe.skipIf(skip.reason)('hashing chunks', () => {
  it.each([
    ['BLAKE3', 0, (bytes: Buffer): Buffer => blake3(bytes)],
    ['SHA-256', 1, sha256],
  ] as const)('%s', async (_, digester, oracle) => {
    const digests = await addon().hashChunks(DATA, ranges, digester);
    expect(digests.toString('hex')).toBe(Buffer.concat(chunks.map(oracle)).toString('hex'));
    expect(addon().hash(DATA, digester).equals(oracle(DATA))).toBe(true);
  });

  it('no chunks give no digests', async () => {
    expect((await addon().hashChunks(DATA, new Uint32Array(0), 0)).length).toBe(0);
  });
});

describe.skipIf(skip.reason)('compressing chunks', () => {
  it('one frame each, back to back, raw where that is not longer', async () => {
    const output = Buffer.alloc(total);
    const { length, records } = await addon().compressChunks(DATA, ranges, output, 3, 3);
    let at = 0;
    for (const [index, chunk] of chunks.entries()) {
      const [size, compressed, crc] = records.subarray(index * 3, index * 3 + 3) as unknown as [number, number, number];
      const stored = output.subarray(at, at + size);
      expect(compressed).toBe(zstdCompress(chunk).length < chunk.length ? 1 : 0);
      if (compressed === 1) {
        expect(size).toBeLessThan(chunk.length);
        expect(frameContentSize(stored)).toBe(chunk.length);
        expect(stored[4]! & 0b100, 'no checksum').toBe(0);
        expect(zstdDecompress(stored).equals(chunk)).toBe(true);
      } else {
        expect(stored.equals(chunk)).toBe(true);
      }
      expect(crc).toBe(addon().crc32c(chunk));
      at += size;
    }
    expect(length).toBe(at);
    expect(records.length).toBe(chunks.length * 3);
  });

  it('compressor 0 keeps all raw', async () => {
    const output = Buffer.alloc(total + 10);
    const { length, records } = await addon().compressChunks(DATA, ranges, output, 0, 0);
    expect(length).toBe(total);
    expect(output.subarray(0, length).equals(Buffer.concat(chunks))).toBe(true);
    expect([...records].filter((_, index) => index % 3 === 1)).toEqual(chunks.map(() => 0));
  });

  it('levels matter', async () => {
    const lock = readFileSync(new URL('../../../package-lock.json', import.meta.url));
    const size = async (level: number): Promise<number> => {
      const whole = Uint32Array.from([0, lock.length]);
      return (await addon().compressChunks(lock, whole, Buffer.alloc(lock.length), 3, level)).length;
    };
    expect(await size(19)).toBeLessThan((await size(1)) * 0.9);
  });

  it('gives the same bytes on one thread and on four', async () => {
    const script = fileURLToPath(new URL('compress-child.mjs', import.meta.url));
    const run = async (threads: number): Promise<string> => {
      const env = { ...process.env, RAYON_NUM_THREADS: String(threads) };
      return (await promisify(execFile)(process.execPath, [script], { env })).stdout;
    };
    const [one, four] = await Promise.all([run(1), run(4)]);
    expect(one).toMatch(/^1 [0-9a-f]{64}\n$/);
    expect(four.replace(/^4/, '1')).toBe(one);
  });

  it('wrong arguments are refused before anything is touched', async () => {
    const output = Buffer.alloc(total);
    const compress = (pairs: number[], out = output, compressor = 3, level = 3): Promise<unknown> =>
      addon().compressChunks(DATA, Uint32Array.from(pairs), out, compressor as Compressor, level);
    const usage = (message: RegExp) => ({ code: 'USAGE', message: expect.stringMatching(message) });
    await expect(compress([0])).rejects.toMatchObject(usage(/^ranges: an odd number/));
    await expect(compress([0, 1, DATA.length, 1])).rejects.toMatchObject(usage(/^ranges\[1\]: 1 bytes at \d+ leave/));
    await expect(compress([0, DATA.length + 1])).rejects.toMatchObject(usage(/^ranges\[0\]/));
    await expect(compress([0xffffffff, 0xffffff])).rejects.toMatchObject(usage(/^ranges\[0\]/));
    await expect(compress([0, 16 * 1024 * 1024 + 1])).rejects.toMatchObject(usage(/over 16777216/));
    await expect(compress([0, 100], Buffer.alloc(99))).rejects.toMatchObject(
      usage(/^output: 99 bytes for chunks of 100/),
    );
    await expect(compress([0, 100], output, 4)).rejects.toMatchObject(usage(/^compressor: 4/));
    for (const level of [1.5, 23, 1e9, Number.NaN])
      await expect(compress([0, 1], output, 3, level)).rejects.toMatchObject(usage(/^level/));
    await expect(compress([0, 100], output, 2)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    await expect(addon().hashChunks(DATA, Uint32Array.from([1]), 0)).rejects.toMatchObject({ code: 'USAGE' });
    await expect(addon().hashChunks(DATA, ranges, 2 as Digester)).rejects.toMatchObject(usage(/^digester: 2/));
  });
});

describe.skipIf(skip.reason)('small metadata', () => {
  it('zstdCompress makes one frame that zstd-napi reads, and the other way round', () => {
    for (const content of [Buffer.alloc(0), text(1), text(100_000), noise(300_000)]) {
      expect(zstdDecompress(addon().zstdCompress(content, 3)).equals(content)).toBe(true);
      expect(addon().zstdDecompress(zstdCompress(content), content.length).equals(content)).toBe(true);
    }
    expect(() => addon().zstdCompress(text(1), 100)).toThrow(expect.objectContaining({ code: 'USAGE' }));
    expect(() => addon().zstdDecompress(text(1), -1)).toThrow(expect.objectContaining({ code: 'USAGE' }));
  });

  it('CRC-32C of the known vectors of RFC 3720, B.4', () => {
    expect(addon().crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
    expect(addon().crc32c(Buffer.alloc(32, 0xff))).toBe(0x62a8ab43);
    expect(addon().crc32c(Buffer.from(Array.from({ length: 32 }, (_, index) => index)))).toBe(0x46dd794e);
    expect(addon().crc32c(Buffer.alloc(0))).toBe(0);
  });
});
