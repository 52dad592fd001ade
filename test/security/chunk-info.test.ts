/** Chunk info that a few kilobytes of zstd make hundreds of megabytes of. */
import { readFileSync } from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { readMetas } from '../../src/cache/blob-metas.ts';
import { metaRange, metaSize } from '../../src/formats/rafs/meta.ts';
import { openMetaFile } from '../../src/formats/rafs/metafile.ts';
import { openBootstrap } from '../../src/formats/rafs/open.ts';
import { buildBootstrap } from '../../src/formats/rafs/write.ts';
import { type Codec, codec } from '../../src/native/codec.ts';
import { fixture } from '../kit/layers.ts';

const MIB = 1024 * 1024;

describe('the chunk info of an image', () => {
  const bootstrap = readFileSync(fixture('rafs/batch/bootstrap'));

  it('is bounded for all blobs together', () => {
    const merged = readFileSync(fixture('rafs/merged/bootstrap'));
    const { superblock, blobs } = openBootstrap(merged, { subject: 'merged' });
    expect(blobs.length).toBeGreaterThan(1);
    const withSizes = (size: number): Buffer => {
      const bytes = Buffer.from(merged);
      for (const i of blobs.keys()) {
        const at = superblock.blobTableOffset + i * 256;
        bytes.writeUInt32LE(bytes.readUInt32LE(at + 84) | 0x84, at + 84);
        bytes.writeBigUInt64LE(BigInt(size), at + 128);
      }
      return bytes;
    };
    const room = 256 * MIB;
    expect(() => openBootstrap(withSizes(Math.floor(room / 2 / blobs.length)), { subject: 'test' })).not.toThrow();
    expect(() => openBootstrap(withSizes(Math.floor(room / blobs.length)), { subject: 'test' })).toThrowError(
      expect.objectContaining({
        code: 'FORMAT',
        field: 'ci_uncompressed_size',
        message: expect.stringMatching(/all blobs/),
      }),
    );
  });

  it('is bounded by the same sum where a bootstrap is written, so that what is written can be read', () => {
    const image = openBootstrap(readFileSync(fixture('rafs/merged/bootstrap')), { subject: 'merged' });
    const { chunkSize } = image.superblock;
    const write = (size: number) =>
      buildBootstrap(
        image.root(),
        image.blobs.map((blob) => ({ ...blob, features: blob.features | 0x84, ciUncompressedSize: size })),
        { chunkSize, compressor: 2, digester: image.blobs[0]!.digester },
      );
    const count = image.blobs.length;
    const room = 256 * MIB;
    const fits = write(room / 2 / count - ((room / 2 / count) % 4096));
    expect(() => openBootstrap(fits.bytes, { subject: 'test' })).not.toThrow();
    expect(() => write(Math.floor(room / count))).toThrowError(
      expect.objectContaining({
        code: 'UNSUPPORTED',
        message: expect.stringMatching(/blob [0-9a-f]{64} .* \d+ bytes, and at most 268435456/),
        hint: expect.stringContaining('--oci-ref'),
      }),
    );
  });

  it('is decoded when all of it is here and there is room for it, so that silence of its source keeps no memory', async () => {
    const image = openBootstrap(bootstrap, { subject: 'batch' });
    const [blob] = image.blobs;
    const steps: string[] = [];
    const { offset, size } = metaRange(blob!);
    const stored = readFileSync(fixture('rafs/batch', blob!.id)).subarray(offset, offset + size);
    const decoder = codec();
    const watched = new Proxy(decoder, {
      get: (target, key: keyof Codec) => {
        if (key === 'zstdDecompress' || key === 'decodeUnit') steps.push('decode');
        return Reflect.get(target, key);
      },
    });
    const metas = await readMetas(
      [blob!],
      {
        kept: async () => null,
        fetch: async () => {
          steps.push('fetch');
          return { stored, subject: 'test' };
        },
        admit: async (bytes) => void steps.push(`admit ${bytes}`),
        subject: 'batch',
      },
      watched,
    );
    expect(metas.get(blob!.id)!.length).toBe(metaSize(blob!));
    expect(steps.slice(0, 2)).toEqual(['fetch', `admit ${metaSize(blob!)}`]);
    expect(steps[2]).toBe('decode');
  });

  it('is not read from beside the bootstrap either before there is room for it', async () => {
    const image = openBootstrap(bootstrap, { subject: 'batch' });
    const [blob] = image.blobs;
    const steps: string[] = [];
    const meta = Buffer.alloc(metaSize(blob!));
    const kept = async () => async () => {
      steps.push('read');
      return meta;
    };
    const admit = async () => void steps.push('admit');
    await readMetas([blob!], { kept, fetch: async () => null, admit, subject: 'batch' }, codec());
    expect(steps).toEqual(['admit', 'read']);
  });

  it('is not decoded before its header was found to be the right one', async () => {
    const [blob] = openBootstrap(bootstrap, { subject: 'batch' }).blobs;
    const stored = Buffer.alloc(blob!.ciCompressedSize + 4096);
    const zstdDecompress = vi.fn<Codec['zstdDecompress']>();
    const decoder = { zstdDecompress, decodeUnit: vi.fn() } as unknown as Codec;
    await expect(openMetaFile(stored, blob!, decoder, 'test')).rejects.toMatchObject({
      code: 'FORMAT',
      field: 's_magic',
    });
    expect(zstdDecompress).not.toHaveBeenCalled();
  });
});
