/** What a converted image says of itself: manifest, config, bootstrap layer, index. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { convert } from '../../../src/convert/convert.ts';
import { ls } from '../../../src/inspect/ls.ts';
import type { Log } from '../../../src/observe/log.ts';
import { readConverted, readLayoutBlob, readLayoutJson, refDigest } from '../../kit/converted.ts';
import { fixture } from '../../kit/layers.ts';
import { needs } from '../../kit/skip.ts';
import {
  digestOf,
  putImage,
  putIndex,
  putLayout,
  type SourceEntry,
  type SourceImage,
  type SourceLayer,
  sourceLayout,
} from '../../kit/source-image.ts';
import { END, member, pax } from '../../kit/tar.ts';

const skip = needs('addon', 'zstd-napi');

const layer = (...members: Buffer[]): SourceLayer => ({ tar: Buffer.concat([...members, END]) });
const file = (name: string, data: string): SourceLayer => layer(member({ name, data }));
const directory = (name: string): SourceLayer => layer(member({ name: `${name}/`, type: '5', mode: 0o755 }));
const EMPTY: SourceLayer = { tar: END };

describe.skipIf(skip.reason)('a converted image', () => {
  const dir = mkdtempSync(join(tmpdir(), 'convert-image-'));
  afterAll(() => rmSync(dir, { recursive: true }));
  const fresh = (): string => mkdtempSync(join(dir, 'i-'));

  async function converted(image: SourceImage, options: Parameters<typeof convert>[2] = {}) {
    const target = fresh();
    rmSync(target, { recursive: true });
    const result = await convert(sourceLayout(fresh(), image), `oci:${target}:lazy`, options);
    return { ...readConverted(target, result.digest), result, target };
  }

  const paths = async (target: string, platform = 'linux/amd64'): Promise<string[]> => {
    const found: string[] = [];
    for await (const { path } of ls(`oci:${target}:lazy`, { platform, recursive: true, digests: true }))
      found.push(path!);
    return found;
  };

  it('has the media types, annotations and digests that Nydus expects', async () => {
    const annotations = { 'org.opencontainers.image.title': 'a title' };
    const image = { layers: [file('a', 'aaa'), file('b', 'bbb')], manifest: { annotations } };
    const { manifest, config, members, rafs, result, target } = await converted(image);
    expect(manifest).toEqual({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: {
        mediaType: 'application/vnd.oci.image.config.v1+json',
        digest: expect.any(String),
        size: expect.any(Number),
      },
      layers: [
        ...rafs.blobs.map(({ id, compressedSize }) => ({
          mediaType: 'application/vnd.oci.image.layer.nydus.blob.v1',
          digest: `sha256:${id}`,
          size: compressedSize,
          annotations: {
            'containerd.io/uncompressed': `sha256:${id}`,
            'containerd.io/snapshot/nydus-blob': 'true',
          },
        })),
        {
          mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
          digest: result.images[0]!.bootstrap.digest,
          size: result.images[0]!.bootstrap.size,
          annotations: {
            'containerd.io/snapshot/nydus-bootstrap': 'true',
            'containerd.io/snapshot/nydus-fs-version': '6',
            'containerd.io/uncompressed': config.rootfs.diff_ids.at(-1),
          },
        },
      ],
      annotations: {
        ...annotations,
        'containerd.io/snapshot/nydus-fs-version': '6',
        'containerd.io/snapshot/nydus-source-digest': result.images[0]!.source,
      },
    });
    expect(rafs.blobs).toHaveLength(2);
    const bootstrapTar = gunzipSync(readLayoutBlob(target, manifest.layers.at(-1)!.digest));
    expect(config.rootfs.diff_ids).toEqual([...rafs.blobs.map(({ id }) => `sha256:${id}`), digestOf(bootstrapTar)]);
    const metas = rafs.blobs.map(({ id }) => `image/${id}.blob.meta`);
    expect([...members.keys()]).toEqual(['image/', 'image/image.boot', ...metas]);
    expect(members.get('image/image.boot')!.length).toBe(result.images[0]!.bootstrap.plainSize);
    for (const { digest, size } of [manifest.config, ...manifest.layers]) {
      const data = readLayoutBlob(target, digest);
      expect([digestOf(data), data.length]).toEqual([digest, size]);
    }
  });

  it('keeps every field of the config, and its history fits its layers', async () => {
    const history = [
      { created: '2024-01-01T00:00:00Z', created_by: 'ADD base' },
      { created_by: 'ENV X=1', empty_layer: true },
      { created_by: 'RUN mkdir', comment: 'no content' },
      { created_by: 'COPY b' },
    ];
    const fields = {
      created: '2024-02-03T04:05:06Z',
      author: 'ada',
      variant: 'v2',
      config: { Env: ['X=1'], Cmd: ['/a'], Labels: { l: '1' } },
      'x-unknown': { kept: [1, null] },
    };
    const layers = [file('a', 'aaa'), directory('d'), file('b', 'bbb')];
    const { config, manifest, result } = await converted({ layers, config: { ...fields, history } });
    expect(config).toMatchObject({ ...fields, architecture: 'amd64', os: 'linux' });
    expect(config.history).toEqual([
      history[0],
      history[1],
      { ...history[2], empty_layer: true },
      history[3],
      { created: fields.created, created_by: 'lacuna convert', comment: 'Nydus Bootstrap Layer' },
    ]);
    expect(config.history.filter(({ empty_layer }) => empty_layer !== true)).toHaveLength(manifest.layers.length);
    expect(config.rootfs.diff_ids).toHaveLength(manifest.layers.length);
    expect(result.images[0]!.platform).toBe('linux/amd64/v2');
    expect(result.images[0]!.layers.map(({ blob }) => blob !== null)).toEqual([true, false, true]);
  });

  it.each([
    ['none at all', undefined],
    ['null, as Go programs write', null],
    ['a list without entries', []],
    ['fewer entries than layers', [{ created_by: 'ADD everything' }]],
  ])('has no history that contradicts its layers, from %s', async (_, history) => {
    const layers = [file('a', 'aaa'), file('b', 'bbb')];
    const { config, manifest } = await converted({ layers, config: history === undefined ? {} : { history } });
    const stacked = config.history.filter(({ empty_layer }) => empty_layer !== true);
    expect(stacked).toHaveLength(manifest.layers.length);
  });

  it('of which no layer has file content consists of the bootstrap alone', async () => {
    const { manifest, config, members, target, result } = await converted({
      layers: [directory('d'), layer(member({ name: 'd/empty' })), EMPTY],
    });
    expect(manifest.layers).toHaveLength(1);
    expect(config.rootfs.diff_ids).toHaveLength(1);
    expect([...members.keys()]).toEqual(['image/', 'image/image.boot']);
    expect(await paths(target)).toEqual(['/', '/d', '/d/empty']);
    expect(result.images[0]!.blobs).toEqual([]);
  });

  it('of empty layers, or without layers, is an empty root', async () => {
    for (const layers of [[EMPTY], [EMPTY, EMPTY], [{ tar: Buffer.alloc(0), how: 'none' as const }], []]) {
      const { manifest, target } = await converted({ layers });
      expect(manifest.layers).toHaveLength(1);
      expect(await paths(target)).toEqual(['/']);
    }
  });

  it('in which a layer occurs twice lists its blob twice', async () => {
    const twice = file('a', 'aaa');
    const history = [{ created_by: '1' }, { created_by: '2' }, { created_by: '3' }];
    const { manifest, config, rafs, members, target } = await converted({
      layers: [twice, file('b', 'b'), twice],
      config: { history },
    });
    expect(manifest.layers.map(({ digest }) => digest.slice(7))).toEqual([
      rafs.blobs[0]!.id,
      rafs.blobs[1]!.id,
      rafs.blobs[0]!.id,
      expect.any(String),
    ]);
    expect(config.rootfs.diff_ids).toHaveLength(4);
    expect(config.history).toHaveLength(4);
    expect([...members.keys()]).toHaveLength(4);
    expect(await paths(target)).toEqual(['/', '/a', '/b']);
  });

  it('of Docker types is of OCI types, with the same blobs', async () => {
    const layers: SourceLayer[] = [
      file('a', 'aaa'),
      { ...file('b', 'bbb'), how: 'zstd' },
      { ...file('c', 'ccc'), how: 'none' },
    ];
    const docker = await converted({ layers, docker: true });
    const oci = await converted({ layers });
    expect(docker.result.images[0]!.blobs).toEqual(oci.result.images[0]!.blobs);
    expect(docker.manifest.config.mediaType).toBe('application/vnd.oci.image.config.v1+json');
    expect(docker.manifest.mediaType).toBe('application/vnd.oci.image.manifest.v1+json');
    expect(docker.bootstrap.equals(oci.bootstrap)).toBe(true);
  });

  it('leaves attributes out that Linux cannot store, with one warning for each name', async () => {
    const warnings: object[] = [];
    const log: Log = { debug() {}, info() {}, error() {}, warn: (fields) => void warnings.push(fields) };
    const strange = pax({ 'SCHILY.xattr.com.apple.provenance': 'x', 'SCHILY.xattr.user.kept': 'y' });
    const members = [strange, member({ name: 'a', data: 'a' }), strange, member({ name: 'b', data: 'b' })];
    const { rafs } = await converted({ layers: [layer(...members)] }, { log });
    expect([...rafs.root().children!.get('a')!.xattrs!.keys()]).toEqual(['user.kept']);
    expect(warnings).toMatchObject([{ xattr: 'com.apple.provenance', file: 'a', size: 1 }]);
  });

  describe('of an index', () => {
    const platform = (architecture: string, variant?: string) => ({
      os: 'linux',
      architecture,
      ...(variant === undefined ? {} : { variant }),
    });
    const shared = file('shared', 'shared');
    const imageOf = (architecture: string): SourceImage => ({
      layers: [shared, file(architecture, architecture)],
      config: { architecture },
    });

    /** amd64, arm64 and arm/v7 images, an attestation, a lazy image, a nested index. */
    function manyPlatforms(): { source: string; entries: SourceEntry[] } {
      const source = fresh();
      const entries: SourceEntry[] = [
        { ...putImage(source, imageOf('amd64')), platform: platform('amd64') },
        { ...putImage(source, imageOf('arm64')), platform: platform('arm64', 'v8') },
        { ...putImage(source, imageOf('arm')), platform: platform('arm', 'v7') },
        {
          ...putImage(source, { layers: [{ tar: END, descriptor: { mediaType: 'application/vnd.in-toto+json' } }] }),
          platform: { os: 'unknown', architecture: 'unknown' },
          annotations: { 'vnd.docker.reference.type': 'attestation-manifest' },
        },
        {
          ...putImage(source, imageOf('s390x')),
          platform: platform('s390x'),
          artifactType: 'application/vnd.nydus.image.manifest.v1+json',
        },
        putIndex(source, []),
      ];
      return { source: putLayout(source, putIndex(source, entries)), entries };
    }

    it('is an index of every original image, nothing else', async () => {
      const { source, entries } = manyPlatforms();
      const target = fresh();
      rmSync(target, { recursive: true });
      const { digest, images } = await convert(source, `oci:${target}:lazy`);
      expect(refDigest(target, 'lazy')).toBe(digest);
      const index = readLayoutJson(target, digest);
      expect(index.mediaType).toBe('application/vnd.oci.image.index.v1+json');
      expect(index.manifests.map((entry: SourceEntry) => entry.platform)).toEqual(
        entries.slice(0, 3).map((entry) => entry.platform),
      );
      expect(index.manifests.map((entry: SourceEntry) => entry.digest)).toEqual(images.map((image) => image.digest));
      expect(images.map((image) => image.platform)).toEqual(['linux/amd64', 'linux/arm64', 'linux/arm']);
      // A layer becomes the same blob in every image it is in.
      expect(new Set(images.map((image) => image.layers[0]!.blob)).size).toBe(1);
      for (const [architecture, wanted] of [
        ['amd64', 'linux/amd64'],
        ['arm64', 'linux/arm64'],
        ['arm', 'linux/arm/v7'],
      ] as const) {
        expect(await paths(target, wanted)).toEqual(['/', `/${architecture}`, '/shared'].sort());
      }
    });

    it('a layer deduplicated in one image is whole in an image where it is the lowest', async () => {
      const path = fresh();
      const [lower, both] = [file('lower', 'same'), layer(...['a', 'b'].map((name) => member({ name, data: 'same' })))];
      const entries = [
        { ...putImage(path, { layers: [lower, both] }), platform: platform('amd64') },
        { ...putImage(path, { layers: [both], config: { architecture: 'arm64' } }), platform: platform('arm64') },
      ];
      const target = join(path, 'lazy');
      const { images } = await convert(putLayout(path, putIndex(path, entries)), `oci:${target}:lazy`);
      expect(images[1]!.blobs).toEqual([images[1]!.layers[0]!.blob]);
      expect(await paths(target, 'linux/arm64')).toEqual(['/', '/a', '/b']);
    });

    it('is one manifest for one requested platform, an index for several', async () => {
      const { source, entries } = manyPlatforms();
      const target = fresh();
      rmSync(target, { recursive: true });
      const one = await convert(source, `oci:${target}:one`, { platforms: ['linux/arm64'] });
      expect(one.images.map((image) => image.source)).toEqual([entries[1]!.digest]);
      expect(readConverted(target, one.digest).config.architecture).toBe('arm64');
      const same = await convert(source, `oci:${target}:same`, { platforms: ['linux/arm64', 'linux/arm64/v8'] });
      expect(same.digest).toBe(one.digest);
      const two = await convert(source, `oci:${target}:two`, { platforms: ['linux/arm/v7', 'linux/x86_64'] });
      expect(readLayoutJson(target, two.digest).manifests).toMatchObject([
        { platform: platform('arm', 'v7') },
        { platform: platform('amd64') },
      ]);
    });

    it('lists the available platforms when one is missing, and refuses an invalid one', async () => {
      const { source } = manyPlatforms();
      const target = join(fresh(), 'none');
      await expect(
        convert(source, `oci:${target}:x`, { platforms: ['linux/amd64', 'linux/riscv64'] }),
      ).rejects.toMatchObject({
        code: 'NOT_FOUND',
        message: 'no image for linux/riscv64',
        hint: 'available: linux/amd64, linux/arm64/v8, linux/arm/v7',
      });
      await expect(convert(source, `oci:${target}:x`, { platforms: ['amd64'] })).rejects.toMatchObject({
        code: 'USAGE',
      });
      const only = fresh();
      const empty = putLayout(only, putIndex(only, [putIndex(only, [])]));
      await expect(convert(empty, `oci:${target}:x`)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    });

    it('leaves the lazy image of a combined index of nydusify alone', async () => {
      const target = join(fresh(), 'n');
      const { images } = await convert(`oci:${fixture('nydus-oci/index')}:index`, `oci:${target}:lazy`);
      expect(images).toHaveLength(1);
      expect(readConverted(target, images[0]!.digest).rafs.blobs).toHaveLength(3);
    });

    it('the platform of a single manifest is checked as well', async () => {
      const source = sourceLayout(fresh(), imageOf('amd64'));
      const target = join(fresh(), 'm');
      await expect(convert(source, `oci:${target}:x`, { platforms: ['linux/arm64'] })).rejects.toMatchObject({
        code: 'NOT_FOUND',
        message: 'no image for linux/arm64',
        hint: 'available: linux/amd64',
      });
      expect((await convert(source, `oci:${target}:x`, { platforms: ['linux/amd64'] })).images).toHaveLength(1);
    });
  });

  it.each([
    [{ chunkSize: 5000 }, 'chunk size 5000 is not a power of two from 4 KiB to 16 MiB'],
    [{ chunkSize: 2048 }, 'chunk size 2048 is'],
    [{ chunkSize: 32 * 1024 * 1024 }, 'chunk size 33554432 is'],
    [{ level: 0 }, 'zstd level 0 is not from 1 to 19'],
    [{ level: 2.5 }, 'zstd level 2.5 is'],
    [{ level: Number.NaN }, 'zstd level NaN is'],
    [{ compressor: 'toString' as 'zstd' }, 'compressor "toString" must be one of'],
    [{ dedup: 'all' as 'merge' }, 'dedup "all" must be one of merge, image'],
    [{ as: 'list' as 'index' }, 'form of the target "list" must be one of'],
  ])('is not made with %j', async (options, message) => {
    const attempt = convert('oci:/nowhere:x', 'oci:/nowhere:y', options);
    await expect(attempt).rejects.toMatchObject({ code: 'USAGE', message: expect.stringContaining(message) });
  });
});
