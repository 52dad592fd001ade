/** Layers through the native stream: what comes out, what is refused, and how writer and reader wait for each other. */
import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addon } from '../../../src/native/addon.ts';
import { needs } from '../../kit/skip.ts';
import { zstdCompress } from './oracles.ts';
import { gzipMember, noise, skippableFrame, text, through, u32 } from './streams.ts';

const MIB = 1024 * 1024;
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
const skip = needs('addon', 'zstd-napi');

const ALL_FIELDS = { extra: Buffer.from('AB\x04\x00data'), name: 'layer.tar', comment: 'no comment', headerCrc: true };

describe.skipIf(skip.reason)('what comes out of a layer', () => {
  const content = Buffer.concat([text(300_000), noise(100_000), Buffer.alloc(200_000)]);
  const [first, second] = [content.subarray(0, 250_001), content.subarray(250_001)];
  const zeros = Buffer.alloc(10_240);

  it.each([
    ['an uncompressed one', 'none', content],
    ['gzip by zlib', 'gzip', gzipSync(content)],
    ['gzip, stored blocks only', 'gzip', gzipSync(content, { level: 0 })],
    ['a member with every header field', 'gzip', gzipMember(content, ALL_FIELDS)],
    ['two members', 'gzip', Buffer.concat([gzipMember(first, ALL_FIELDS), gzipMember(second)])],
    [
      'members around empty ones',
      'gzip',
      Buffer.concat([gzipMember(Buffer.alloc(0)), gzipMember(content), gzipMember(Buffer.alloc(0))]),
    ],
    ['gzip and zero padding', 'gzip', Buffer.concat([gzipSync(content), zeros])],
    ['a zstd frame', 'zstd', zstdCompress(content)],
    ['a zstd frame with a checksum', 'zstd', zstdCompress(content, { checksumFlag: true })],
    [
      'two frames, one to skip before, between and after',
      'zstd',
      Buffer.concat([
        skippableFrame(text(9)),
        zstdCompress(first),
        skippableFrame(text(70_000)),
        zstdCompress(second),
        skippableFrame(Buffer.alloc(0)),
      ]),
    ],
    ['zstd and zero padding', 'zstd', Buffer.concat([zstdCompress(content), zeros])],
  ] as const)('%s', async (_, compression, input) => {
    const result = await through(compression, input, [50_000], [70_000]);
    expect(result.content.equals(content)).toBe(true);
    expect(result.digests).toEqual({
      compressedDigest: sha256(input),
      compressedSize: input.length,
      uncompressedDigest: sha256(content),
      uncompressedSize: content.length,
    });
  });

  it('large reads, hashed while they are inflated, give the same', async () => {
    const large = Buffer.concat([text(5 * MIB, 7), noise(3 * MIB + 12_345, 8)]);
    const input = gzipSync(large, { level: 1 });
    const result = await through('gzip', input, [MIB], [2 * MIB + 5]);
    expect(result.content.equals(large)).toBe(true);
    expect(result.digests.uncompressedDigest).toBe(sha256(large));
  });

  it('a read fills from its offset and leaves the rest of the buffer alone', async () => {
    const stream = addon().layerStream('none');
    await stream.write(Buffer.from('abc'));
    stream.end();
    const target = Buffer.from('0123456789');
    expect(await stream.read(target, 4)).toBe(3);
    expect(target.toString()).toBe('0123abc789');
    stream.close();
  });

  it('an empty uncompressed layer', async () => {
    const { content: nothing, digests } = await through('none', Buffer.alloc(0));
    expect(nothing.length).toBe(0);
    expect(digests.uncompressedDigest).toBe(sha256(Buffer.alloc(0)));
  });

  it('does not depend on how it is cut into writes and reads', async () => {
    const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 400_000 })), {
      minLength: 1,
      maxLength: 5,
    });
    const member = fc.record({ length: fc.integer({ min: 0, max: 60_000 }), seed: fc.integer(), plain: fc.boolean() });
    const format = fc.constantFrom('none', 'gzip', 'zstd');
    await fc.assert(
      fc.asyncProperty(
        format,
        fc.array(member, { minLength: 1, maxLength: 4 }),
        sizes,
        sizes,
        async (compression, members, writes, reads) => {
          const parts = members.map(({ length, seed, plain }) => (plain ? text(length, seed) : noise(length, seed)));
          const pack = {
            none: (part: Buffer) => part,
            gzip: (part: Buffer) => gzipMember(part, ALL_FIELDS),
            zstd: (part: Buffer) => zstdCompress(part),
          };
          const input = Buffer.concat(parts.map(pack[compression]));
          // Tiny pieces only for tiny inputs, or a run takes minutes.
          const coarse = (list: number[]): number[] =>
            list.map((size) => Math.max(size, Math.ceil(input.length / 300)));
          const expected = Buffer.concat(parts);
          const result = await through(
            compression,
            input,
            coarse(writes),
            reads.map((size) => Math.max(size, Math.ceil(expected.length / 300))),
          );
          expect(result.content.equals(expected)).toBe(true);
          expect(result.digests.compressedDigest).toBe(sha256(input));
          expect(result.digests.uncompressedDigest).toBe(sha256(expected));
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe.skipIf(skip.reason)('what is refused', () => {
  const content = text(20_000);
  const gzip = gzipMember(content, ALL_FIELDS);
  const frame = zstdCompress(content, { checksumFlag: true });
  const flipped = (bytes: Buffer, at: number): Buffer => {
    const copy = Buffer.from(bytes);
    copy[at < 0 ? bytes.length + at : at]! ^= 1;
    return copy;
  };
  const garbage = Buffer.from('garbage');

  it.each([
    ['nothing at all, gzip', 'gzip', Buffer.alloc(0), /^gzip stream at byte 0: empty/],
    ['nothing at all, zstd', 'zstd', Buffer.alloc(0), /^zstd stream at byte 0: empty/],
    ['no gzip', 'gzip', text(100), /^gzip stream at byte \d+: incorrect header check/],
    ['zeros alone', 'gzip', Buffer.alloc(100), /^gzip stream at byte \d+: incorrect header check/],
    ['no zstd', 'zstd', text(100), /^zstd stream at byte 0: /],
    [
      'garbage after gzip',
      'gzip',
      Buffer.concat([gzip, garbage]),
      new RegExp(`^gzip stream at byte ${gzip.length}: trailing garbage$`),
    ],
    [
      'garbage after zeros after gzip',
      'gzip',
      Buffer.concat([gzip, Buffer.alloc(9), garbage]),
      new RegExp(`at byte ${gzip.length + 9}: trailing garbage after zero padding`),
    ],
    [
      'gzip after zeros after gzip',
      'gzip',
      Buffer.concat([gzip, Buffer.alloc(9), gzip]),
      /trailing garbage after zero padding/,
    ],
    [
      'the half of a gzip magic after gzip',
      'gzip',
      Buffer.concat([gzip, Buffer.from([0x1f, 0])]),
      /incorrect header check|truncated/,
    ],
    [
      'garbage after zstd',
      'zstd',
      Buffer.concat([frame, garbage]),
      new RegExp(`^zstd stream at byte ${frame.length}: trailing garbage$`),
    ],
    [
      'garbage after zeros after zstd',
      'zstd',
      Buffer.concat([frame, Buffer.alloc(5), garbage]),
      /trailing garbage after zero padding/,
    ],
    ['a wrong content CRC', 'gzip', flipped(gzip, -8), /incorrect data check/],
    ['a wrong content length', 'gzip', flipped(gzip, -1), /incorrect length check/],
    ['a wrong header CRC', 'gzip', flipped(gzip, 12), /header crc mismatch/],
    ['a wrong zstd checksum', 'zstd', flipped(frame, -1), /checksum/],
  ] as const)('%s', async (_, compression, input, message) => {
    await expect(through(compression, input)).rejects.toMatchObject({
      code: 'FORMAT',
      message: expect.stringMatching(message),
    });
  });

  it('a zstd window of 2 GiB, which may be sound', async () => {
    const input = Buffer.concat([u32(0xfd2fb528), Buffer.from([0x00, 21 << 3]), frame.subarray(6)]);
    await expect(through('zstd', input)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: 'zstd stream: a window of more than 128 MiB',
    });
  });

  it.each([
    ['gzip', gzip],
    ['zstd', frame],
    ['gzip', Buffer.concat([gzip, gzip])],
  ] as const)('a %s stream cut anywhere', async (compression, input) => {
    const ends = new Set([1, 2, 3, 9, 10, 11, 12, 20, input.length - 9, input.length - 8, input.length - 1]);
    for (let at = 1; at < input.length; at += 997) ends.add(at);
    for (const end of ends) {
      // The end of the first of two members is no cut.
      if (end === gzip.length) continue;
      await expect(through(compression, input.subarray(0, end)), `cut at ${end}`).rejects.toMatchObject({
        code: 'FORMAT',
        message: expect.stringContaining('truncated'),
      });
    }
  });

  it('damage is the last word: readers and writers go on getting it', async () => {
    const stream = addon().layerStream('gzip');
    await stream.write(text(100));
    const damage = { code: 'FORMAT', message: expect.stringContaining('incorrect header check') };
    await expect(stream.read(Buffer.alloc(10), 0)).rejects.toMatchObject(damage);
    await expect(stream.read(Buffer.alloc(10), 0)).rejects.toMatchObject(damage);
    await expect(stream.write(Buffer.alloc(10))).rejects.toMatchObject(damage);
    expect(() => stream.digests()).toThrow(expect.objectContaining(damage));
    stream.close();
  });
});

describe.skipIf(needs('addon').reason)('waiting', () => {
  const settled = async (promise: Promise<unknown>, ms: number): Promise<boolean> => {
    const late = Symbol();
    const timer = new Promise((resolve) => setTimeout(resolve, ms, late));
    return (await Promise.race([promise.catch(() => null), timer])) !== late;
  };

  it('a writer far ahead waits until the reader has made room', async () => {
    const stream = addon().layerStream('none');
    const data = Buffer.alloc(4 * MIB);
    await stream.write(data);
    await stream.write(data);
    const third = stream.write(data);
    expect(await settled(third, 100)).toBe(false);
    await stream.read(Buffer.alloc(5 * MIB), 0);
    await third;
    stream.close();
  });

  it('one write may be larger than all that may be queued', async () => {
    const stream = addon().layerStream('none');
    const data = noise(20 * MIB);
    const writing = stream.write(data).then(() => stream.end());
    const target = Buffer.alloc(data.length + 1);
    expect(await stream.read(target, 0)).toBe(data.length);
    await writing;
    expect(target.subarray(0, data.length).equals(data)).toBe(true);
    expect(stream.digests().compressedDigest).toBe(sha256(data));
    stream.close();
  });

  it('writes that nobody awaited stay in order, and the end behind them', async () => {
    const stream = addon().layerStream('none');
    const parts = Array.from({ length: 50 }, (_, index) => text(1000 + index, index));
    const writing = parts.map((part) => stream.write(part));
    stream.end();
    const target = Buffer.alloc(100_000);
    const length = await stream.read(target, 0);
    await Promise.all(writing);
    expect(target.subarray(0, length).equals(Buffer.concat(parts))).toBe(true);
    stream.close();
  });

  it('close wakes a waiting reader and a waiting writer', async () => {
    const reading = addon().layerStream('gzip');
    const read = reading.read(Buffer.alloc(10), 0);
    expect(await settled(read, 50)).toBe(false);
    reading.close();
    await expect(read).rejects.toMatchObject({ code: 'ABORTED', message: 'the layer stream was closed' });

    const writing = addon().layerStream('gzip');
    const write = writing.write(Buffer.alloc(20 * MIB));
    expect(await settled(write, 50)).toBe(false);
    writing.close();
    await expect(write).rejects.toMatchObject({ code: 'ABORTED' });
  });

  it('after close everything is refused, and closing again is nothing', async () => {
    const stream = addon().layerStream('none');
    stream.close();
    stream.close();
    await expect(stream.write(Buffer.alloc(1))).rejects.toMatchObject({ code: 'ABORTED' });
    await expect(stream.read(Buffer.alloc(1), 0)).rejects.toMatchObject({ code: 'ABORTED' });
    expect(() => stream.digests()).toThrow(expect.objectContaining({ code: 'ABORTED' }));
  });

  it('many streams that wait do not keep file reads waiting', async () => {
    const { readFile } = await import('node:fs/promises');
    const streams = Array.from({ length: 12 }, () => addon().layerStream('gzip'));
    const reads = streams.map((stream) => stream.read(Buffer.alloc(10), 0).catch((error: unknown) => error));
    expect((await readFile(new URL(import.meta.url))).length).toBeGreaterThan(1000);
    for (const stream of streams) stream.close();
    expect(await Promise.all(reads)).toEqual(Array(12).fill(expect.objectContaining({ code: 'ABORTED' })));
  });

  it('out of order use is refused', async () => {
    const stream = addon().layerStream('none');
    expect(() => stream.digests()).toThrow(expect.objectContaining({ code: 'PRECONDITION' }));
    await expect(stream.read(Buffer.alloc(4), 4)).rejects.toMatchObject({ code: 'USAGE' });
    await expect(stream.read(Buffer.alloc(4), 5)).rejects.toMatchObject({ code: 'USAGE' });
    await expect(stream.read(Buffer.alloc(4), -1)).rejects.toMatchObject({ code: 'USAGE' });
    await expect(stream.read(Buffer.alloc(4), 0.5)).rejects.toMatchObject({ code: 'USAGE' });
    stream.end();
    await expect(stream.write(Buffer.alloc(1))).rejects.toMatchObject({ code: 'PRECONDITION' });
    expect(() => addon().layerStream('xz' as 'gzip')).toThrow(expect.objectContaining({ code: 'USAGE' }));
    stream.close();
  });
});
