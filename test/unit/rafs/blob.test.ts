/** Given Nydus's own chunks, our blob ends with the bytes that nydus-image wrote, and our bootstrap holds its tables. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { finishBlob } from '../../../src/formats/rafs/blob-end.ts';
import { openBootstrap } from '../../../src/formats/rafs/open.ts';
import { writeBootstrap } from '../../../src/formats/rafs/write.ts';
import { plainChunk } from '../../../src/tree/node.ts';
import { fixture, sha256 } from '../../kit/layers.ts';
import { needs } from '../../kit/skip.ts';

const BLOB = 'd881704c96b42de28e85fdaa4a1747162e0c6049a7ed9b58ffe9d78cbd3183cb';

const bootstrap = readFileSync(fixture('rafs/blob-toc/bootstrap'));
const file = readFileSync(fixture('rafs/blob-toc', BLOB));
const image = openBootstrap(bootstrap, { subject: 'blob-toc' });
const [theirs] = image.blobs;

/** Finishes the fixture's own chunk data. */
async function finish() {
  const chunks = image.chunksOf(0);
  const dataSize = chunks.reduce((sum, chunk) => sum + chunk.compressedSize, 0);
  const data = file.subarray(0, dataSize);
  let header: Buffer = Buffer.alloc(0);
  const at = {
    dataSize,
    sha256WithHeader: async (bytes: Buffer) => {
      header = bytes;
      return sha256(Buffer.concat([data, bytes]));
    },
  };
  const end = await finishBlob(chunks, at, { chunkSize: 0x100000, compressor: 3, digester: 0 });
  return { end, whole: Buffer.concat([data, header, end.tail]) };
}

const skip = needs('addon');

describe.skipIf(skip.reason)('finishBlob', () => {
  it('makes the file that nydus-image made, byte for byte', async () => {
    const { end, whole } = await finish();
    expect(whole.equals(file)).toBe(true);
    expect({ ...end.blob, id: BLOB }).toEqual(theirs);
  });

  it('packs chunk info and its header for the bootstrap layer', async () => {
    const { end } = await finish();
    expect(end.meta.length % 4096).toBe(0);
    expect(end.meta.subarray(-4096).readUInt32LE(0)).toBe(0xb10bb10b);
    expect(end.meta.subarray(-4096).readUInt32LE(12)).toBe(theirs!.chunkCount);
  });

  it('refuses chunks that do not follow each other', async () => {
    const chunks = image.chunksOf(0).toReversed();
    const at = { dataSize: 1, sha256WithHeader: async () => sha256(Buffer.alloc(0)) };
    const options = { chunkSize: 0x100000, compressor: 3, digester: 0 } as const;
    await expect(finishBlob(chunks, at, options)).rejects.toMatchObject({ code: 'INTERNAL' });
    await expect(finishBlob([], at, options)).rejects.toMatchObject({ code: 'INTERNAL' });
  });
});

describe('writeBootstrap, given the tree and blobs of a fixture', () => {
  const options = { chunkSize: 0x100000, compressor: 3, digester: 0 } as const;
  const ours = writeBootstrap(image.root(), image.blobs, options);

  it('writes the same superblocks, device slot, blob table and chunk table', () => {
    const again = openBootstrap(ours, { subject: 'ours' });
    const { chunkTableOffset: a, chunkTableSize: size } = image.superblock;
    const { chunkTableOffset: b } = again.superblock;
    expect(again.superblock).toEqual({ ...image.superblock, chunkTableOffset: b });
    expect(ours.subarray(1024, 1152)).toEqual(bootstrap.subarray(1024, 1152));
    expect(ours.subarray(1408, 1408 + 128)).toEqual(bootstrap.subarray(1408, 1408 + 128));
    expect(ours.subarray(4096, 4096 + 256)).toEqual(bootstrap.subarray(4096, 4096 + 256));
    const withoutFileOffsets = (bytes: Buffer, at: number) => {
      const table = Buffer.from(bytes.subarray(at, at + size));
      for (let entry = 0; entry < size; entry += 80) table.fill(0, entry + 64, entry + 72);
      return table;
    };
    expect(withoutFileOffsets(ours, b)).toEqual(withoutFileOffsets(bootstrap, a));
  });

  it('always writes these bytes', () => {
    expect(sha256(ours)).toBe('62f3b3b8acd8e06df476e4a6cd49a00cd0d87ab6cae795cd40b6bfe04d376636');
  });

  it('does the same with the merged image of nydusify, whose blob table is in order of first use', () => {
    const merged = readFileSync(fixture('rafs/merged/bootstrap'));
    const theirs = openBootstrap(merged, { subject: 'merged' });
    const again = openBootstrap(writeBootstrap(theirs.root(), theirs.blobs.toReversed(), options), { subject: 'ours' });
    expect(again.blobs).toEqual(theirs.blobs);
    expect(again.superblock.inos).toBe(theirs.superblock.inos);
    const plain = (image: typeof theirs) => image.chunksOf(0).map((chunk) => plainChunk(chunk));
    expect(plain(again)).toEqual(plain(theirs));
  });
});
