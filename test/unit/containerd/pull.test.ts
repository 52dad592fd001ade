import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { PullOptions } from '../../../src/containerd/options.ts';
import { pull } from '../../../src/containerd/pull.ts';
import { chainIdsOf } from '../../../src/containerd/unpack.ts';
import { digestOf } from '../../../src/image/digest.ts';
import { parsePlatform } from '../../../src/image/platform.ts';
import { FakeContainerd } from '../../kit/fake-containerd.ts';
import { fixture } from '../../kit/layers.ts';
import { startRegistry, type TestRegistry } from '../../kit/registry.ts';
import { putImage, putLayout, type SourceImage } from '../../kit/source-image.ts';
import { END, member } from '../../kit/tar.ts';

const NYDUS_MANIFEST = 'sha256:78e2c06e8d960e23ef446a5461e0f89e3125bfc2c3aca4fca647b55d20999735';
const NYDUS_CONFIG = 'sha256:2b0fcd46aa0af29520cfcb1229a08f9a8e1bbd567313db1820a920afbf8d5ac4';
const BOOTSTRAP = 'sha256:16f13e3b71e33e4e7ec25e0fa76b4f725138e9d661608901989af51fc84de4fe';
const CRI = 'containerd.io/snapshot/cri.';

let directory: string;
let registry: TestRegistry;
let containerd: FakeContainerd;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'lac-pull-'));
  registry = await startRegistry();
  containerd = await FakeContainerd.start(join(directory, 'c.sock'));
});
afterEach(async () => {
  await containerd[Symbol.asyncDispose]();
  await registry.close();
  await rm(directory, { recursive: true });
});

const options = (rest: Partial<PullOptions> = {}): PullOptions => ({
  containerd: containerd.address,
  namespace: 'default',
  platform: parsePlatform('linux/amd64'),
  ...rest,
});
const asked = (part: string): number => registry.requests.filter(({ path }) => path.includes(part)).length;

describe('a lazy image', () => {
  beforeEach(() => registry.storage.putLayout('tame', fixture('nydus-oci', 'index')));
  const image = () => `${registry.host}/tame:index`;

  test('no layer is downloaded, and the record comes last', async () => {
    const result = await pull(image(), options());
    const chain = [...containerd.committed.keys()];
    expect(chain).toHaveLength(4);
    expect(result).toEqual({
      image: image(),
      digest: NYDUS_MANIFEST,
      snapshot: chain[3],
      layers: 4,
      lazyLayers: 4,
      notLazy: null,
      bytes: 1746 + 770 + 29747,
    });
    expect(asked('/blobs/')).toBe(1);
    expect(asked(NYDUS_CONFIG)).toBe(1);
    expect(containerd.calls.slice(-2)).toEqual([`Images.Create ${image()}`, 'Leases.Delete']);
    expect(containerd.leases.size).toBe(0);
  });

  test("the lazy manifest is chosen, and its config type made one that containerd's clients run", async () => {
    const { snapshot } = await pull(image(), options());
    const target = containerd.images.get(image())!;
    expect(target.mediaType).toBe('application/vnd.oci.image.manifest.v1+json');
    expect(target.digest).not.toBe(NYDUS_MANIFEST);
    const manifest = JSON.parse(containerd.content.get(target.digest)!.toString());
    expect(manifest.config).toMatchObject({
      mediaType: 'application/vnd.oci.image.config.v1+json',
      digest: NYDUS_CONFIG,
    });
    expect(manifest.layers[3].digest).toBe(BOOTSTRAP);
    expect(containerd.contentLabels.get(target.digest)).toMatchObject({
      'containerd.io/gc.ref.content.config': NYDUS_CONFIG,
      'containerd.io/gc.ref.content.l.3': BOOTSTRAP,
      'containerd.io/distribution.source.localhost': 'tame',
    });
    expect(containerd.contentLabels.get(NYDUS_CONFIG)).toMatchObject({
      'containerd.io/gc.ref.snapshot.lacuna': snapshot,
    });
  });

  test('every layer is prepared with what a remote snapshotter needs to know', async () => {
    await pull(image(), options());
    const [first, , , last] = [...containerd.committed.values()];
    expect(first!.labels).toMatchObject({
      [`${CRI}image-ref`]: image(),
      [`${CRI}manifest-digest`]: NYDUS_MANIFEST,
      [`${CRI}layer-digest`]: 'sha256:5d7d06eacaf4e58f29eedb07ba550ae0a2ee763b90444001a7446baba58ea46f',
      'containerd.io/snapshot/nydus-blob': 'true',
    });
    expect(first!.labels[`${CRI}image-layers`]!.split(',')).toHaveLength(4);
    expect(last!.labels).toMatchObject({
      [`${CRI}layer-digest`]: BOOTSTRAP,
      [`${CRI}image-layers`]: BOOTSTRAP,
      'containerd.io/snapshot/nydus-bootstrap': 'true',
      'containerd.io/snapshot.ref': [...containerd.committed.keys()][3],
    });
  });

  test('credentials and the bootstrap are told to the snapshotter', async () => {
    const credentials = async (host: string) => (host === registry.host ? { username: 'u', password: 'p' } : null);
    await pull(image(), options({ credentials }));
    expect(containerd.told).toEqual([
      {
        method: 'SetRegistry',
        request: { host: registry.host, username: 'u', password: 'p', identityToken: '' },
      },
      {
        method: 'Expect',
        request: {
          image: image(),
          layer: BOOTSTRAP,
          mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
          size: 29747,
        },
      },
    ]);
  });

  test('a second pull of the same name points it at the new manifest', async () => {
    await pull(image(), options());
    const before = containerd.images.get(image());
    containerd.images.set(image(), { mediaType: 'x/y', digest: 'sha256:old', size: 1 });
    await pull(image(), options());
    expect(containerd.images.get(image())).toEqual(before);
    expect(containerd.calls).toContain(`Images.Update ${image()}`);
  });

  test('a bootstrap that the snapshotter cannot have is downloaded and unpacked by containerd', async () => {
    containerd.isLazy = (labels) => 'containerd.io/snapshot/nydus-blob' in labels;
    containerd.diffIdOf = () => 'sha256:f1fde63ec2f109e298d1f7c2ee556dc00bac2320b4ed354ca6d4a620440fc4aa';
    const { lazyLayers } = await pull(image(), options());
    expect(lazyLayers).toBe(3);
    expect(containerd.content.get(BOOTSTRAP)?.length).toBe(29747);
    expect(containerd.calls).toContain(`Diff.Apply ${BOOTSTRAP}`);
    expect(asked('/blobs/')).toBe(2);
  });

  test('a layer that unpacks to something else is refused, and nothing of the pull stays', async () => {
    containerd.isLazy = (labels) => 'containerd.io/snapshot/nydus-blob' in labels;
    containerd.diffIdOf = () => `sha256:${'0'.repeat(64)}`;
    await expect(pull(image(), options())).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
    expect(containerd.images.size).toBe(0);
    expect(containerd.calls).toContain('Snapshots.Remove');
    expect(containerd.leases.size).toBe(0);
  });

  test('what is refused before anything is fetched', async () => {
    await expect(pull(image(), options({ snapshotter: 'absent' }))).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(pull('oci:somewhere', options())).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    await expect(pull(image(), options({ platform: parsePlatform('linux/s390x') }))).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringContaining('linux/s390x'),
    });
    await expect(pull(`${registry.host}/nobody:1`, options())).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(containerd.leases.size).toBe(0);
    expect(containerd.images.size).toBe(0);
  });

  test('an aborted pull leaves no record and no lease', async () => {
    registry.fault = ({ path }) => (path.includes(NYDUS_CONFIG) ? { kind: 'hang' } : null);
    const abort = new AbortController();
    const pulling = pull(image(), options({ signal: abort.signal }));
    setTimeout(() => abort.abort(), 200);
    await expect(pulling).rejects.toMatchObject({ code: 'ABORTED' });
    expect(containerd.images.size).toBe(0);
    expect(containerd.leases.size).toBe(0);
  });
});

test('a plain image: layers are downloaded, unpacked in order, and never twice', async () => {
  registry.storage.putLayout('tame', fixture('oci', 'tame-mini'));
  const image = `${registry.host}/tame:tame-mini-gzip`;
  const diffIds = [
    'sha256:e1ed6ddbe9b7d14161e37454f42e88e1f46a7c63416a0cca04d71618ed99b8c7',
    'sha256:9acb82ba87f1d00818b36d179ceab161702e55f1e00cf4b42e3999d917aa947d',
    'sha256:fcd7cf43ade98f3aadc4be9d31220c321f2cccc9af1a520be141de4126cdca4c',
  ];
  let applied = 0;
  containerd.diffIdOf = () => diffIds[applied++]!;
  const progress: string[] = [];
  const result = await pull(image, options({ onProgress: ({ phase }) => progress.push(phase) }));
  expect(result).toMatchObject({ lazyLayers: 0, snapshot: chainIdsOf(diffIds)[2] });
  expect([...containerd.committed.keys()]).toEqual(chainIdsOf(diffIds));
  expect(containerd.images.get(image)?.digest).toBe(result.digest);
  expect(containerd.told.map(({ method }) => method)).toEqual(['SetRegistry']);
  expect(progress).toContain('download');
  const requests = asked('/blobs/');
  expect(await pull(image, options())).toMatchObject({ snapshot: result.snapshot });
  // The config again, which tells what the layers unpack to.
  expect(asked('/blobs/')).toBe(requests + 1);
});

test('an image without layers gets a record and a config that names no snapshot', async () => {
  const dir = join(directory, 'layout');
  putLayout(dir, putImage(dir, { layers: [], config: { rootfs: { type: 'layers', diff_ids: null } } }));
  registry.storage.putLayout('empty', dir);
  const result = await pull(`${registry.host}/empty:image`, options());
  expect(result).toMatchObject({ snapshot: '', lazyLayers: 0 });
  const target = containerd.images.get(result.image)!;
  const { config } = JSON.parse(containerd.content.get(target.digest)!.toString());
  expect(Object.keys(containerd.contentLabels.get(config.digest)!)).toEqual([
    'containerd.io/distribution.source.localhost',
  ]);
});

describe('sha512', () => {
  const tar = Buffer.concat([member({ name: 'a', data: 'a' }), END]);

  test.each<[name: string, image: SourceImage]>([
    ['of a config', { layers: [{ tar }], algorithm: 'sha512' }],
    ['of a layer', { layers: [{ tar, algorithm: 'sha512', diffId: digestOf(tar) }] }],
    ['of a diff ID', { layers: [{ tar, diffId: digestOf(tar, 'sha512') }] }],
  ])('%s is more than containerd can keep, not damage', async (_name, image) => {
    const dir = join(directory, 'layout');
    const entry = putImage(dir, image);
    putLayout(dir, entry);
    registry.storage.putLayout('app', dir);
    containerd.diffIdOf = () => digestOf(tar);
    const work = pull(`${registry.host}/app:image`, options());
    await expect(work).rejects.toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining('sha512') });
    expect(containerd.images.size).toBe(0);
    expect(containerd.leases.size).toBe(0);
  });
});

test('chain IDs are those of the image spec', () => {
  const [a, b] = [digestOf(Buffer.from('a')), digestOf(gzipSync('b'))];
  expect(chainIdsOf([a, b])).toEqual([a, digestOf(Buffer.from(`${a} ${b}`))]);
  expect(chainIdsOf([])).toEqual([]);
});

describe('an ordinary image', () => {
  const image = (): string => `${registry.host}/tame:tame-mini-gzip`;
  beforeEach(() => {
    registry.storage.putLayout('tame', fixture('oci', 'tame-mini'));
    containerd.diffIdOf = (digest) => digestOf(gunzipSync(containerd.content.get(digest)!));
  });

  test('is not lazy, and the result says why', async () => {
    const result = await pull(image(), options());
    expect(result).toMatchObject({ layers: 3, lazyLayers: 0, notLazy: expect.stringContaining('an ordinary image') });
  });

  test('three pulls at once: each layer crosses the network once, and all succeed', async () => {
    registry.fault = ({ path }) => (path.includes('/blobs/') ? { kind: 'delay', ms: 100 } : null);
    const results = await Promise.all([1, 2, 3].map(() => pull(image(), options())));
    expect(new Set(results.map(({ snapshot }) => snapshot)).size).toBe(1);
    const layers = new Set(containerd.calls.filter((call) => call.startsWith('Diff.Apply')));
    expect(layers.size).toBe(3);
    for (const layer of layers) expect(asked(layer.replace('Diff.Apply ', '')), layer).toBe(1);
    expect(containerd.calls.some((call) => call.endsWith('locked'))).toBe(true);
    expect(results.map(({ bytes }) => bytes).sort((x, y) => x - y)[0]).toBeLessThan(5000);
    expect([containerd.writes.size, containerd.leases.size]).toEqual([0, 0]);
  });

  test("another pull's layer is waited for, and fetched when the other gives up", async () => {
    const manifest = await pull(image(), options()).then(() =>
      containerd.calls.find((it) => it.startsWith('Diff.Apply')),
    );
    const layer = manifest!.replace('Diff.Apply ', '');
    for (const it of [containerd.content, containerd.committed]) it.clear();
    const ref = `lacuna-${layer}`;
    containerd.writes.set(ref, 7);
    const waited: number[] = [];
    const onProgress: PullOptions['onProgress'] = ({ phase, done }) => {
      if (phase !== 'wait') return;
      waited.push(done);
      containerd.writes.delete(ref);
    };
    await pull(image(), options({ onProgress }));
    expect(waited).toEqual([7]);
    expect(asked(layer)).toBe(2);
  });
});

test('containerd that is not there is an error at once, and no request is made', async () => {
  const log: string[] = [];
  const keep = (_fields: object, message: string): void => void log.push(message);
  for (const socket of ['/nowhere/containerd.sock', 'unix:///nowhere/containerd.sock']) {
    const rest = { containerd: socket, log: { debug: keep, info: keep, warn: keep, error: keep } };
    await expect(pull(`${registry.host}/tame:index`, options(rest))).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: 'containerd does not answer: no such socket',
      subject: '/nowhere/containerd.sock',
      hint: expect.stringContaining('--containerd'),
    });
  }
  expect([registry.requests, log]).toEqual([[], []]);
});
