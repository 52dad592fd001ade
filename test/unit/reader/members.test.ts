/** Members at the end of a blob: found from the end, and nothing that they claim is believed. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { describe, expect, it } from 'vitest';
import { MAX_BOOTSTRAP_SIZE } from '../../../src/formats/rafs/limits.ts';
import { portableCodec } from '../../../src/native/codec.ts';
import { type Blob, findMembers, readInlineBootstrap } from '../../../src/reader/blob-members.ts';
import { fixture } from '../../kit/layers.ts';
import { needs } from '../../kit/skip.ts';
import { member } from '../../kit/tar.ts';

const zstd = (data: Buffer): Buffer =>
  (createRequire(import.meta.url)('zstd-napi') as { compress(data: Buffer): Buffer }).compress(data);

/** A blob in memory, which tells the largest piece that was asked for. */
function blobOf(bytes: Buffer): Blob & { largest: number } {
  const blob = {
    size: bytes.length,
    subject: 'blob',
    largest: 0,
    readAt: async (offset: number, length: number) => {
      blob.largest = Math.max(blob.largest, length);
      expect(offset >= 0 && offset + length <= bytes.length).toBe(true);
      return bytes.subarray(offset, offset + length);
    },
  };
  return blob;
}

/** Content, and the header behind it; `size` as the header claims. */
const reversed = (name: string, content: Buffer, size = content.length): Buffer =>
  Buffer.concat([content, member({ name, size, magic: 'ustar  \0' }).subarray(0, 512)]);

interface Entry {
  readonly plain: Buffer;
  readonly stored: Buffer;
  readonly uncompressedSize?: number;
  readonly offset?: number;
}

/** A blob with a bootstrap and a table of contents that says of it what `entry` says. */
function blobWith({ plain, stored, uncompressedSize = plain.length, offset = 0 }: Entry): Buffer {
  const toc = Buffer.alloc(128);
  toc.writeUInt32LE(2, 0);
  toc.write('image.boot', 8);
  createHash('sha256').update(plain).digest().copy(toc, 24);
  toc.writeBigUInt64LE(BigInt(offset), 56);
  toc.writeBigUInt64LE(BigInt(stored.length), 64);
  toc.writeBigUInt64LE(BigInt(uncompressedSize), 72);
  return Buffer.concat([reversed('image.boot', stored), reversed('rafs.blob.toc', toc)]);
}

const skip = needs('zstd-napi');

describe.skipIf(skip.reason)('members of a blob', () => {
  const read = (bytes: Buffer) => readInlineBootstrap(blobOf(bytes), portableCodec());

  it.each(['inline-meta', 'inline-meta-toc'])('are those that nydus-image wrote: %s', async (variant) => {
    const expected = JSON.parse(readFileSync(fixture('rafs', variant, 'members.json'), 'utf8')) as object[];
    const id = JSON.parse(readFileSync(fixture('rafs', variant, 'output.json'), 'utf8')).blobs[0] as string;
    const bytes = readFileSync(fixture('rafs', variant, id));
    expect(await findMembers(blobOf(bytes))).toEqual(expected);
    expect((await read(bytes)).equals(readFileSync(fixture('rafs', variant, `${id}.boot`)))).toBe(true);
  });

  it('are none where there are only chunks', async () => {
    expect(await findMembers(blobOf(Buffer.alloc(100)))).toEqual([]);
    expect(await findMembers(blobOf(Buffer.alloc(5000, 7)))).toEqual([]);
    await expect(read(Buffer.alloc(5000))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('a size that is larger than what is before it, and a name twice', async () => {
    const large = reversed('image.boot', Buffer.alloc(10), 8 ** 11 - 1);
    await expect(read(large)).rejects.toMatchObject({ code: 'FORMAT', field: 'image.boot', offset: 10 });
    const twice = Buffer.concat([reversed('blob.meta', Buffer.alloc(5)), reversed('blob.meta', Buffer.alloc(5))]);
    await expect(read(twice)).rejects.toMatchObject({
      code: 'FORMAT',
      field: 'blob.meta',
      message: expect.stringMatching(/twice/),
    });
  });

  it('a bomb', async () => {
    const plain = Buffer.alloc(2 ** 26);
    const stored = zstd(plain);
    expect(stored.length).toBeLessThan(10_000);
    const modest = blobWith({ plain, stored, uncompressedSize: 4096 });
    await expect(read(modest)).rejects.toMatchObject({
      code: 'FORMAT',
      message: expect.stringMatching(/more than 4096 bytes/),
    });
    const bold = blobWith({ plain, stored, uncompressedSize: MAX_BOOTSTRAP_SIZE + 1 });
    await expect(read(bold)).rejects.toMatchObject({
      code: 'FORMAT',
      field: 'image.boot',
      message: expect.stringMatching(/exceed the limit/),
    });
  });

  it('a table of contents that lies', async () => {
    const plain = Buffer.from('bootstrap');
    const stored = zstd(plain);
    expect(await read(blobWith({ plain, stored }))).toEqual(plain);
    await expect(read(blobWith({ plain, stored, offset: 1 }))).rejects.toMatchObject({ code: 'FORMAT' });
    await expect(read(blobWith({ plain, stored, uncompressedSize: 10 }))).rejects.toMatchObject({ code: 'FORMAT' });
    const other = blobWith({ plain: Buffer.from('BOOTSTRAP'), stored });
    await expect(read(other)).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
    const huge = Buffer.concat([reversed('image.boot', stored), reversed('rafs.blob.toc', Buffer.alloc(4224))]);
    await expect(read(huge)).rejects.toMatchObject({ code: 'FORMAT', field: 'rafs.blob.toc' });
  });
});
