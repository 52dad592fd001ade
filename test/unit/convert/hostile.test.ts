/** Sources that are damaged, lie, or are none: an error that says what, and a target as it was. */
import { copyFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convert } from '../../../src/convert/convert.ts';
import { filesOf, layoutBlobPath, refDigest } from '../../kit/converted.ts';
import { fixture } from '../../kit/layers.ts';
import { noise } from '../../kit/random.ts';
import { needs } from '../../kit/skip.ts';
import {
  digestOf,
  putImage,
  putLayout,
  type SourceImage,
  type SourceLayer,
  sourceLayout,
} from '../../kit/source-image.ts';
import { sparse10 } from '../../kit/sparse.ts';
import { END, member, pax } from '../../kit/tar.ts';

const skip = needs('addon', 'zstd-napi');

/** More than the queues between reading and parsing hold: what fails at its beginning must end the reading as well. */
const BIG = member({ name: 'big', data: noise(24 * 1024 * 1024, 1) });
const tar = (...members: Buffer[]): Buffer => Buffer.concat([...members, END]);
const GOOD = tar(member({ name: 'file', data: 'content' }));
const zeros = 'sha256:'.padEnd(71, '0');

interface Case {
  readonly what: string;
  readonly layer: SourceLayer;
  readonly code: string;
  readonly text: RegExp;
}

const cases: Case[] = [
  {
    what: 'a gzip layer that ends in the middle',
    layer: { tar: GOOD, stored: gzipSync(GOOD).subarray(0, -20) },
    code: 'FORMAT',
    text: /gzip|layer/,
  },
  {
    what: 'a zstd layer that ends in the middle',
    layer: { tar: GOOD, how: 'zstd', stored: Buffer.from('28b52ffd2008', 'hex') },
    code: 'FORMAT',
    text: /zstd|layer/,
  },
  {
    what: 'a plain layer that ends in the middle of a file',
    layer: { tar: tar(BIG).subarray(0, 8 * 1024 * 1024), how: 'none' },
    code: 'FORMAT',
    text: /tar at byte \d+: truncated/,
  },
  {
    what: 'a blob that is shorter than its descriptor says',
    layer: { tar: GOOD, how: 'none', lie: GOOD.subarray(0, 1024) },
    code: 'SIZE_MISMATCH',
    text: /should have \d+ bytes and has 1024/,
  },
  {
    what: 'a blob that is longer than its descriptor says',
    layer: { tar: GOOD, how: 'none', lie: Buffer.concat([GOOD, END]) },
    code: 'SIZE_MISMATCH',
    text: /should have \d+ bytes and has \d+/,
  },
  {
    what: 'a blob that hashes to something else',
    layer: { tar: GOOD, how: 'none', lie: tar(member({ name: 'file', data: 'CONTENT' })) },
    code: 'DIGEST_MISMATCH',
    text: /the layer's bytes hash to sha256:[0-9a-f]{64}$/,
  },
  {
    what: 'a diffID that is another',
    layer: { tar: GOOD, diffId: zeros },
    code: 'DIGEST_MISMATCH',
    text: /the layer's tar hashes to sha256:[0-9a-f]{64}, its config says sha256:0{64}$/,
  },
  {
    what: 'a gzip with something behind it',
    layer: { tar: GOOD, stored: Buffer.concat([gzipSync(GOOD), Buffer.from('garbage')]) },
    code: 'FORMAT',
    text: /garbage|trailing/,
  },
  {
    what: 'a gzip with zeros and then something behind it',
    layer: { tar: GOOD, stored: Buffer.concat([gzipSync(GOOD), Buffer.alloc(600), Buffer.from('garbage')]) },
    code: 'FORMAT',
    text: /garbage|trailing/,
  },
  {
    what: 'a layer of gzip type that is neither a gzip nor a tar',
    layer: { tar: GOOD, stored: Buffer.from(noise(2000, 2), 'latin1') },
    code: 'FORMAT',
    text: /tar checksum/,
  },
  {
    what: 'a layer that is compressed as no layer is',
    layer: { tar: GOOD, stored: Buffer.concat([Buffer.from('fd377a585a00', 'hex'), Buffer.alloc(100)]) },
    code: 'UNSUPPORTED',
    text: /the layer is compressed with xz/,
  },
  {
    what: 'a name with a NUL',
    layer: { tar: tar(pax({ path: 'etc/\0passwd' }), member({ name: 'x' })) },
    code: 'FORMAT',
    text: /tar name.*"etc\/\\u0000passwd"/,
  },
  {
    what: 'a hard link whose target leaves the root, which is the root and nothing there',
    layer: { tar: tar(member({ name: 'a', type: '1', link: '../../etc/shadow' })) },
    code: 'FORMAT',
    text: /hard link "a" to "etc\/shadow", which does not exist/,
  },
  {
    what: 'a sparse file whose parts overlap',
    layer: {
      tar: tar(
        sparse10({
          name: 's',
          size: 100,
          parts: [
            [0, 'abc'],
            [2, 'x'],
          ],
        }),
      ),
    },
    code: 'FORMAT',
    text: /sparse map: part at 2 begins before the end/,
  },
  {
    what: 'a pax header of more than 1 MiB',
    layer: { tar: tar(pax({ 'SCHILY.xattr.user.x': 'v'.repeat(1024 * 1024) }), member({ name: 'a' })) },
    code: 'FORMAT',
    text: /pax header at byte \d+: 1048\d\d\d bytes, longer than 1048576/,
  },
  {
    what: 'a bad name before more bytes than the queues hold',
    layer: { tar: tar(pax({ path: '\0' }), member({ name: 'x' }), BIG), how: 'none' },
    code: 'FORMAT',
    text: /tar name/,
  },
  {
    what: 'a bad name behind many batches',
    layer: { tar: tar(BIG, pax({ path: '\0' }), member({ name: 'x' })) },
    code: 'FORMAT',
    text: /tar name/,
  },
  {
    what: 'a hard link to nowhere',
    layer: { tar: tar(member({ name: 'a', type: '1', link: 'nowhere' })) },
    code: 'FORMAT',
    text: /hard link "a" to "nowhere", which does not exist/,
  },
  {
    what: 'a layer that is not a tar by its media type',
    layer: { tar: GOOD, descriptor: { mediaType: 'application/vnd.acme.layer.v1+squashfs' } },
    code: 'UNSUPPORTED',
    text: /layer 2 has the media type application\/vnd.acme.layer.v1\+squashfs/,
  },
];

describe.skipIf(skip.reason)('a source that is wrong', () => {
  const dir = mkdtempSync(join(tmpdir(), 'convert-hostile-'));
  const target = join(dir, 'target');
  let before: { index: string; files: string[] };
  beforeAll(async () => {
    await convert(`oci:${fixture('oci/tame-mini')}:tame-mini-gzip`, `oci:${target}:lazy`);
    before = { index: readFileSync(join(target, 'index.json'), 'utf8'), files: filesOf(target) };
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  /** The error; and the target is as it was, whole blobs of other layers aside that the next run would write again. */
  async function failure(source: string): Promise<{ code: string; message: string; hint: string | null }> {
    const error = await convert(source, `oci:${target}:lazy`).then(
      () => null,
      (reason: unknown) => reason as { code: string; message: string; hint: string | null },
    );
    expect(readFileSync(join(target, 'index.json'), 'utf8')).toBe(before.index);
    const added = filesOf(target).filter((file) => !before.files.includes(file));
    for (const file of added) expect(file).toBe(`blobs/sha256/${digestOf(readFileSync(join(target, file))).slice(7)}`);
    return error!;
  }

  it.each(cases)('$what', async ({ layer, code, text }) => {
    const lower: SourceLayer = { tar: tar(member({ name: 'lower', data: 'lower' })) };
    const source = sourceLayout(mkdtempSync(join(dir, 's-')), { layers: [lower, layer] });
    const error = await failure(source);
    expect(error).toMatchObject({ code });
    expect(error.message).toMatch(text);
  });

  it.each([600, 1_000_000])('a gzip with %d zeros behind it is whole', async (count) => {
    const stored = Buffer.concat([gzipSync(GOOD), Buffer.alloc(count)]);
    const source = sourceLayout(mkdtempSync(join(dir, 's-')), { layers: [{ tar: GOOD, stored }] });
    const plain = sourceLayout(mkdtempSync(join(dir, 's-')), { layers: [{ tar: GOOD }] });
    const other = join(dir, `zeros-${count}`);
    const [a, b] = [await convert(source, `oci:${other}:a`), await convert(plain, `oci:${other}:b`)];
    expect(a.images[0]!.blobs).toEqual(b.images[0]!.blobs);
  });

  const images: Array<[string, SourceImage, object]> = [
    [
      'a config with too few diff_ids',
      { layers: [{ tar: GOOD }, { tar: GOOD }], config: { rootfs: { type: 'layers', diff_ids: [digestOf(GOOD)] } } },
      { code: 'FORMAT', message: '2 layers but 1 diff_ids' },
    ],
    [
      'a config that is none',
      { layers: [{ tar: GOOD }], config: { rootfs: null } },
      { code: 'FORMAT', message: expect.stringMatching(/^rootfs: /) },
    ],
    [
      'the same layer twice, with two diffIDs',
      { layers: [{ tar: GOOD }, { tar: GOOD, diffId: zeros }] },
      { code: 'DIGEST_MISMATCH' },
    ],
    ['a manifest with a wrong layer size', { layers: [{ tar: GOOD, descriptor: { size: -1 } }] }, { code: 'FORMAT' }],
  ];
  it.each(images)('%s', async (_, image, expected) => {
    expect(await failure(sourceLayout(mkdtempSync(join(dir, 's-')), image))).toMatchObject(expected);
  });

  it('a lazy image as the source', async () => {
    const found = await failure(`oci:${target}:lazy`);
    expect(found).toMatchObject({ code: 'USAGE', message: 'the source is a lazy image already' });
    expect(found.hint).toContain('original image');
    const digest = refDigest(fixture('nydus-oci/index'), 'index');
    const index = JSON.parse(readFileSync(layoutBlobPath(fixture('nydus-oci/index'), digest), 'utf8'));
    const nydus = await failure(`oci:${fixture('nydus-oci/index')}:${index.manifests[1].digest}`);
    expect(nydus).toMatchObject({ code: 'USAGE', message: 'the source is a lazy image already' });
  });

  it('a missing source, or one that is not an image', async () => {
    expect(await failure(`oci:${join(dir, 'nowhere')}:x`)).toMatchObject({ code: 'NOT_FOUND' });
    expect(await failure(`oci:${fixture('oci/tame-mini')}:nowhere`)).toMatchObject({ code: 'NOT_FOUND' });
    expect(await failure('rafs:/x/bootstrap')).toMatchObject({ code: 'UNSUPPORTED' });
    expect(await failure('oci:')).toMatchObject({ code: 'REFERENCE' });
    const lost = mkdtempSync(join(dir, 's-'));
    const entry = putImage(lost, { layers: [{ tar: GOOD }] });
    rmSync(layoutBlobPath(lost, entry.digest));
    expect(await failure(putLayout(lost, entry))).toMatchObject({ code: 'NOT_FOUND' });
  });

  it('a target is not made for a source that is not there', async () => {
    const fresh = join(dir, 'fresh');
    await expect(convert(`oci:${fixture('oci/tame-mini')}:nowhere`, `oci:${fresh}:x`)).rejects.toThrow('nowhere');
    expect(filesOf(dir)).not.toContain('fresh');
  });

  it('a target that is no layout, or damaged, is not touched', async () => {
    const source = sourceLayout(mkdtempSync(join(dir, 's-')), { layers: [{ tar: GOOD }] });
    const broken = mkdtempSync(join(dir, 't-'));
    copyFileSync(join(target, 'oci-layout'), join(broken, 'oci-layout'));
    writeFileSync(join(broken, 'index.json'), before.index);
    truncateSync(join(broken, 'index.json'), 100);
    await expect(convert(source, `oci:${broken}:x`)).rejects.toMatchObject({ code: 'FORMAT' });
    expect(readFileSync(join(broken, 'index.json'), 'utf8')).toBe(before.index.slice(0, 100));
  });
});
