/** Sparse files through a conversion: the same bytes, and holes that cost nothing. */
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { convert } from '../../../src/convert/convert.ts';
import { inspect } from '../../../src/inspect/inspect.ts';
import { ls } from '../../../src/inspect/ls.ts';
import { openImage } from '../../../src/reader/open.ts';
import { unpack } from '../../../src/unpack/unpack.ts';
import { sha256 } from '../../kit/layers.ts';
import { noise } from '../../kit/random.ts';
import { needs } from '../../kit/skip.ts';
import { sourceLayout } from '../../kit/source-image.ts';
import { oldSparse, type Sparse, sparse00, sparse01, sparse10, wholeOf } from '../../kit/sparse.ts';
import { END, member } from '../../kit/tar.ts';

const skip = needs('addon');
const PLATFORM = { platform: 'linux/amd64' };
const MIB = 1024 * 1024;

async function* rangeOf(reference: string, name: string, offset: number, length: number): AsyncGenerator<Buffer> {
  await using opened = await openImage(reference, PLATFORM);
  yield* opened.read(opened.root.children!.get(name)!, { offset, length });
}

const image = (dir: string, ...members: Buffer[]): string =>
  sourceLayout(dir, { layers: [{ tar: Buffer.concat([...members, END]) }] });

describe.skipIf(skip.reason)('a sparse file', () => {
  const dir = mkdtempSync(join(tmpdir(), 'convert-sparse-'));
  afterAll(() => rmSync(dir, { recursive: true }));
  const room = (): string => mkdtempSync(join(dir, 'r-'));

  const files: Sparse[] = [
    {
      name: 'many',
      size: 3 * MIB + 5,
      parts: Array.from({ length: 100 }, (_, i) => [i * 30_001, noise(1 + i * 7, i)]),
    },
    { name: 'chunks', size: 9 * MIB, parts: [[2 * MIB, noise(5 * MIB, 1)]] },
    { name: 'empty', size: 10 * MIB + 1, parts: [] },
    {
      name: 'edges',
      size: 4 * MIB,
      parts: [
        [0, 'a'],
        [MIB - 1, 'bc'],
        [4 * MIB - 1, 'd'],
      ],
    },
  ];

  it.each([
    ['oldSparse', oldSparse],
    ['sparse00', sparse00],
    ['sparse01', sparse01],
    ['sparse10', sparse10],
  ])('has the same bytes in every form: %s', async (_, make) => {
    const at = room();
    const plain = member({ name: 'plain', data: noise(3 * MIB, 9) });
    const source = image(join(at, 'source'), ...files.flatMap((file) => [make(file), plain]));
    const lazy = `oci:${join(at, 'lazy')}:v1`;
    await convert(source, lazy, { chunkSize: MIB });
    await convert(source, `oci:${join(at, 'again')}:v1`, { chunkSize: MIB });
    expect(readFileSync(join(at, 'lazy/index.json'))).toEqual(readFileSync(join(at, 'again/index.json')));
    const expected = new Map(files.map((file) => [`/${file.name}`, sha256(Buffer.from(wholeOf(file), 'latin1'))]));
    for (const [reference, target] of [
      [source, 'a'],
      [lazy, 'b'],
    ] as const) {
      const found = new Map<string, string | undefined>();
      for await (const row of ls(reference, { ...PLATFORM, recursive: true, digests: true })) {
        if (expected.has(row.path!)) found.set(row.path!, row.sha256);
      }
      expect(found).toEqual(expected);
      await unpack(reference, join(at, target), PLATFORM);
      for (const file of files) {
        const path = join(at, target, file.name);
        expect(sha256(readFileSync(path))).toBe(expected.get(`/${file.name}`));
        expect(statSync(path).blocks * 512).toBeLessThan(file.parts.length * 12 * 1024 + 6 * MIB);
      }
      const pieces: Buffer[] = [];
      for await (const piece of rangeOf(reference, 'edges', MIB - 3, 10)) pieces.push(piece);
      expect(Buffer.concat(pieces).toString('latin1')).toBe('\0\0bc\0\0\0\0\0\0');
    }
  });

  it('of a terabyte costs a handful of chunks', { timeout: 300_000 }, async () => {
    const at = room();
    const huge: Sparse = { name: 'huge', size: 2 ** 40 + 7, parts: [[2 ** 39 + 1, 'hello']] };
    const source = image(join(at, 'source'), sparse10(huge), sparse10({ ...huge, name: 'again' }));
    const lazy = `oci:${join(at, 'lazy')}:v1`;
    await convert(source, lazy, { chunkSize: 16 * MIB });
    // Zeros, the chunk with the word, and the last one of seven zeros.
    const report = await inspect(lazy, PLATFORM);
    expect(report.bootstrap?.blobs.map(({ chunks }) => chunks)).toEqual([3]);
    for (const reference of [source, lazy]) {
      const pieces: Buffer[] = [];
      for await (const piece of rangeOf(reference, 'huge', 2 ** 39 - 1, 9)) pieces.push(piece);
      expect(Buffer.concat(pieces).toString('latin1')).toBe('\0\0hello\0\0');
    }
  });

  it('with more chunks than a bootstrap has room for, says what helps', async () => {
    const at = room();
    const huge = sparse10({ name: 'huge', size: 2 ** 43, parts: [] });
    const source = image(join(at, 'source'), huge);
    const failed = (options: object) => convert(source, `oci:${join(at, 'lazy')}:v1`, options);
    await expect(failed({ chunkSize: 4096 })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/"huge", a sparse file of 8796093022208 bytes, has too many chunks/),
      hint: expect.stringMatching(/chunk-size/),
    });
  });

  it('is stored in a blob although the other layers stay as they are', async () => {
    const at = room();
    const sparse: Sparse = { name: 's', size: 2 * MIB, parts: [[5, 'x']] };
    const plain = Buffer.concat([member({ name: 'plain', data: 'plain' }), END]);
    const layers = [{ tar: plain }, { tar: Buffer.concat([sparse10(sparse), END]) }];
    const source = sourceLayout(join(at, 'layout'), { layers });
    const lazy = `oci:${join(at, 'layout')}:lazy`;
    await convert(source, lazy, { ociRef: true });
    expect((await inspect(lazy, PLATFORM)).bootstrap?.blobs.map(({ compressor }) => compressor)).toEqual([
      'gzip',
      'zstd',
    ]);
    await unpack(lazy, join(at, 'u'), PLATFORM);
    expect(readFileSync(join(at, 'u/plain'), 'utf8')).toBe('plain');
    expect(readFileSync(join(at, 'u/s'), 'latin1')).toBe(wholeOf(sparse));
  });
});
