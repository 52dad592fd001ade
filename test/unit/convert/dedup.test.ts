/** Equal content is stored, fetched and cached once; and what sizes files and chunks may have. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { convert } from '../../../src/convert/convert.ts';
import type { ConvertOptions } from '../../../src/convert/options.ts';
import { byteString, type FileNode } from '../../../src/tree/node.ts';
import { type Converted, readConverted } from '../../kit/converted.ts';
import { sha256 } from '../../kit/layers.ts';
import { contentsOf } from '../../kit/rafs.ts';
import { noise } from '../../kit/random.ts';
import { needs } from '../../kit/skip.ts';
import { type SourceLayer, sourceLayout } from '../../kit/source-image.ts';
import { END, member } from '../../kit/tar.ts';

const skip = needs('addon', 'zstd-napi', '@napi-rs/blake-hash');

const MIB = 1024 * 1024;
const CHUNK = 128 * 1024;

const layer = (files: Readonly<Record<string, string>>): SourceLayer => ({
  tar: Buffer.concat([...Object.entries(files).map(([name, data]) => member({ name, data })), END]),
  how: 'none',
});

describe.skipIf(skip.reason)('conversion', () => {
  const dir = mkdtempSync(join(tmpdir(), 'convert-dedup-'));
  afterAll(() => rmSync(dir, { recursive: true }));

  async function converted(layers: readonly SourceLayer[], options: ConvertOptions = {}) {
    const target = join(mkdtempSync(join(dir, 'i-')), 'target');
    const result = await convert(sourceLayout(mkdtempSync(join(dir, 's-')), { layers }), `oci:${target}:lazy`, options);
    const [report] = result.images;
    return { ...readConverted(target, result.digest), report: report!, target };
  }

  /** Path → sha256 of its content, read through the chunk table with other codecs than ours. */
  function digests(image: Converted): Record<string, string> {
    const contents = contentsOf(image.rafs, (id) => readBlob(image, id));
    const found: Record<string, string> = {};
    const walk = (node: FileNode, path: string): void => {
      for (const [name, child] of node.children ?? []) walk(child, `${path}/${name}`);
      const content = contents.get(node);
      if (content !== undefined) found[path.slice(1)] = sha256(content);
    };
    walk(image.rafs.root(), '');
    return found;
  }

  const expected = (...layers: Array<Readonly<Record<string, string>>>): Record<string, string> =>
    Object.fromEntries(
      layers
        .flatMap((files) => Object.entries(files))
        .map(([name, data]) => [name, sha256(Buffer.from(data, 'latin1'))]),
    );

  const blobOf = (image: Converted, name: string): string[] => [
    ...new Set(
      image.rafs
        .root()
        .children!.get(name)!
        .chunks.map(({ blob }) => `sha256:${blob}`),
    ),
  ];

  const base = { a: noise(3 * CHUNK + 100, 1), b: noise(1000, 2) };
  const upper = { copy: base.a, tail: base.a.slice(CHUNK), own: noise(500, 3), again: noise(500, 3) };

  it('refers to the lowest layer that has a chunk, and keeps every blob whole', async () => {
    const image = await converted([layer(base), layer(upper)]);
    const alone = await converted([layer(upper)]);
    const [lower, higher] = image.report.layers.map(({ blob }) => blob!);
    expect(blobOf(image, 'copy')).toEqual([lower]);
    expect(blobOf(image, 'tail')).toEqual([lower]);
    expect(blobOf(image, 'own')).toEqual([higher]);
    // The same layer, the same blob: also without what lies below.
    expect(alone.report.layers[0]!.blob).toBe(higher);
    expect(alone.report.layers[0]).toMatchObject({ chunks: 9, reusedBytes: 3 * CHUNK + 100 - CHUNK + 500 });
    expect(digests(image)).toEqual(expected(base, upper));
    expect(digests(alone)).toEqual(expected(upper));
    const used = image.rafs.blobs.map(({ id }) => `sha256:${id}`);
    expect(new Set(used)).toEqual(new Set([lower, higher]));
    expect(image.report.blobs).toEqual(used);
  });

  it('of layers that have nothing of their own lists no blob that no file refers to', async () => {
    const image = await converted([layer(base), layer({ copy: base.a })]);
    expect(image.rafs.blobs).toHaveLength(1);
    expect(image.manifest.layers.map(({ digest }) => digest)).toEqual([
      `sha256:${image.rafs.blobs[0]!.id}`,
      image.report.bootstrap.digest,
    ]);
    expect(image.config.rootfs.diff_ids).toHaveLength(2);
    expect(digests(image)).toEqual(expected(base, { copy: base.a }));
  });

  it('leaves chunks of lower layers out of upper blobs with dedup image', async () => {
    const image = await converted([layer(base), layer(upper), layer({ last: upper.own + base.b })], { dedup: 'image' });
    const [lower, higher] = image.report.layers;
    const blob = image.rafs.blobs.findIndex(({ id }) => `sha256:${id}` === higher!.blob);
    expect(image.rafs.chunksOf(blob).map(({ uncompressedSize }) => uncompressedSize)).toEqual([500]);
    expect(higher!.blobSize).toBeLessThan(CHUNK);
    expect(higher!.reusedBytes).toBe(2 * base.a.length - CHUNK + 500);
    expect(blobOf(image, 'copy')).toEqual([lower!.blob]);
    expect(digests(image)).toEqual(expected(base, upper, { last: upper.own + base.b }));
    const merged = await converted([layer(base), layer(upper)]);
    expect(merged.report.layers[0]!.blob).toBe(lower!.blob);
    expect(merged.report.layers[1]!.blob).not.toBe(higher!.blob);
  });

  it('with dedup image makes no blob for a layer that has nothing new', async () => {
    const layers = [layer(base), layer({ copy: base.a }), layer({ other: noise(10, 9) })];
    const image = await converted(layers, { dedup: 'image' });
    expect(image.report.layers.map(({ blob }) => blob === null)).toEqual([false, true, false]);
    expect(image.manifest.layers).toHaveLength(3);
    expect(image.config.history.filter(({ empty_layer }) => empty_layer !== true)).toHaveLength(3);
    expect(digests(image)).toEqual(expected(base, { copy: base.a }, { other: noise(10, 9) }));
  });

  it('keeps the last of several files of one name, and content that two names share', async () => {
    const tar = Buffer.concat([
      member({ name: 'x', data: noise(CHUNK + 5, 4) }),
      member({ name: 'link', type: '1', link: 'x' }),
      member({ name: 'x', data: 'second' }),
      member({ name: 'gone', data: 'gone' }),
      member({ name: '.wh.gone', data: 'content of a whiteout' }),
      member({ name: '.wh..wh.plnk', data: 'aufs' }),
      END,
    ]);
    const image = await converted([{ tar }]);
    expect(digests(image)).toEqual(expected({ link: noise(CHUNK + 5, 4), x: 'second', gone: 'gone' }));
  });

  describe.each([4096, CHUNK, 16 * MIB])('with chunks of %d bytes', (chunkSize) => {
    it('reads back files around every edge', async () => {
      const sizes = [0, 1, 511, 512, 513, 4095, 4096, 4097, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 9 * MIB + 1];
      const files = Object.fromEntries(sizes.map((size, index) => [`f${size}`, noise(size, 100 + index)]));
      const big = { big: noise(20 * MIB + 7, 5), after: 'after' };
      const image = await converted([layer(files), layer({ ...big, zeros: '\0'.repeat(5 * MIB) })], { chunkSize });
      expect(digests(image)).toEqual(expected(files, { ...big, zeros: '\0'.repeat(5 * MIB) }));
      const { chunks } = image.rafs.root().children!.get('big')!;
      expect(chunks).toHaveLength(Math.ceil((20 * MIB + 7) / chunkSize));
      const zeros = image.rafs.root().children!.get('zeros')!.chunks;
      expect(new Set(zeros.map(({ digest }) => byteString(digest))).size).toBeLessThanOrEqual(2);
    });
  });

  it('takes ten thousand tiny files, and headers across every boundary', async () => {
    const files: Record<string, string> = {};
    for (let i = 0; i < 10_000; i++) files[`d${i % 100}/f${i}`] = `content ${i % 7000}`;
    const image = await converted([layer(files)]);
    expect(digests(image)).toEqual(expected(files));
    expect(image.rafs.chunksOf(0)).toHaveLength(7000);
  });
});

function readBlob(image: Converted, id: string): Buffer {
  return readFileSync(join(image.blobDir, id));
}
