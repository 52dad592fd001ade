/** Bootstraps on their way from a registry into the root. No daemon, no mounts. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { silentLog } from '../../../src/observe/log.ts';
import { Images, type NewImage } from '../../../src/snapshotter/images.ts';
import type { LazyLayer } from '../../../src/snapshotter/labels.ts';
import { Registries } from '../../../src/snapshotter/registries.ts';
import { fixture, layoutBlob } from '../../kit/layers.ts';
import { startRegistry, type TestRegistry } from '../../kit/registry.ts';
import { PASSWORD, USER } from '../../kit/registry-auth.ts';
import { needs } from '../../kit/skip.ts';

const MANIFEST = 'sha256:78e2c06e8d960e23ef446a5461e0f89e3125bfc2c3aca4fca647b55d20999735';
const LAYER = 'sha256:16f13e3b71e33e4e7ec25e0fa76b4f725138e9d661608901989af51fc84de4fe';
const DIFF_ID = 'sha256:f1fde63ec2f109e298d1f7c2ee556dc00bac2320b4ed354ca6d4a620440fc4aa';
const GZIP = 'application/vnd.oci.image.layer.v1.tar+gzip';

/** A caller that does not go away. */
const STAYS = new AbortController().signal;

const skip = needs('tar', 'python3', 'addon');

describe.skipIf(skip.reason)('bootstraps', () => {
  let directory: string;
  let registry: TestRegistry;
  let registries: Registries;
  let images: Images;

  const start = async (options: Parameters<typeof startRegistry>[0] = {}): Promise<void> => {
    registry = await startRegistry(options);
    registry.storage.putLayout('tame', fixture('nydus-oci', 'index'));
    registries = new Registries({ plainHttp: [], ca: '', credentials: async () => null, log: silentLog });
    const daemon = {
      client: () => Promise.reject(new Error('no daemon here')),
      running: () => null,
      shareCredentials: async () => {},
    };
    const pulls = { announce() {}, assertPulled: async () => {} };
    images = await Images.open({ folder: join(directory, 'images'), daemon, registries, pulls, log: silentLog });
  };
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'lacuna-images-'));
  });
  afterEach(async () => {
    await registry.close();
    rmSync(directory, { recursive: true });
  });

  const layer = (rest: Partial<LazyLayer> = {}): LazyLayer => ({
    kind: 'bootstrap',
    chainId: 'sha256:chain',
    image: `${registry.host}/tame:index`,
    digest: LAYER,
    manifestDigest: MANIFEST,
    ...rest,
  });
  const fetch = async (wanted: LazyLayer, id = 7): Promise<Omit<NewImage, 'commitAs'>> => {
    let seen: NewImage | null = null;
    const use = (image: NewImage): void => {
      image.commitAs(id);
      seen = image;
    };
    await images.fetch(wanted, use, STAYS);
    const { commitAs: _, ...rest } = seen!;
    return rest;
  };
  const stored = (id: number): Buffer => readFileSync(join(directory, 'images', String(id), 'bootstrap'));
  const original = (): Buffer =>
    execFileSync('tar', ['-xzO', 'image/image.boot'], {
      input: layoutBlob('nydus-oci/index', LAYER),
      maxBuffer: 1 << 28,
    });
  const blobRequests = () => registry.requests.filter(({ path }) => path.includes('/blobs/'));

  test('the stored file is the one that tar takes out, its diffID that of the config', async () => {
    await start();
    expect(await fetch(layer())).toEqual({
      source: { host: registry.host, repository: 'tame', plainHttp: null },
      usage: { size: original().length, inodes: 1 },
      diffId: DIFF_ID,
    });
    expect(stored(7).equals(original())).toBe(true);
    expect(readdirSync(join(directory, 'images'))).toEqual(['7']);
  });

  test('one that was announced is fetched once, without looking at the manifest', async () => {
    await start();
    images.expect(layer().image, { digest: LAYER, mediaType: GZIP, size: 29747 });
    await Promise.all([fetch(layer(), 1), fetch(layer(), 2)]);
    expect(stored(1).equals(stored(2))).toBe(true);
    expect(blobRequests()).toHaveLength(1);
    expect(registry.requests.filter(({ path }) => path.includes('/manifests/'))).toEqual([]);
  });

  test('what is told about a registry is used; credentials that were not told are missed', async () => {
    await start({ auth: 'basic' });
    await expect(fetch(layer())).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    await images.setRegistry({ host: registry.host, username: USER, password: PASSWORD });
    expect((await fetch(layer())).diffId).toBe(DIFF_ID);
    expect(registries.credentials('elsewhere')).toBeNull();
  });

  test('a failed record leaves no folder', async () => {
    await start();
    const use = ({ commitAs }: NewImage): void => {
      commitAs(3);
      throw new Error('no record');
    };
    const refused = images.fetch(layer(), use, STAYS);
    await expect(refused).rejects.toThrow('no record');
    expect(readdirSync(join(directory, 'images'))).toEqual([]);
  });

  test('a failure is not remembered', async () => {
    await start({ fault: ({ path }) => (path.includes(LAYER) ? { kind: 'status', status: 404 } : null) });
    await expect(fetch(layer())).rejects.toMatchObject({ code: 'NOT_FOUND' });
    registry.fault = () => null;
    expect((await fetch(layer())).diffId).toBe(DIFF_ID);
  });

  test('who goes away ends the fetch, unless somebody else waits', async () => {
    await start({ fault: ({ path }) => (path.includes(LAYER) ? { kind: 'stall', after: 1000 } : null) });
    const gone = new AbortController();
    const record = ({ commitAs }: NewImage): void => commitAs(9);
    const waiting = [images.fetch(layer(), record, gone.signal), images.fetch(layer(), record, gone.signal)];
    await expect.poll(() => blobRequests().length).toBe(1);
    gone.abort();
    for (const one of waiting) await expect(one).rejects.toMatchObject({ name: 'AbortError' });
    registry.fault = ({ path }) => (path.includes(LAYER) ? { kind: 'delay', ms: 300 } : null);
    // Nothing of it is left that the next one would wait for.
    const [left, stays] = [new AbortController(), fetch(layer())];
    const leaves = images.fetch(layer(), record, left.signal);
    left.abort();
    await expect(leaves).rejects.toMatchObject({ name: 'AbortError' });
    expect((await stays).diffId).toBe(DIFF_ID);
  });

  test('a layer that the manifest does not have, or that nobody describes, is refused', async () => {
    await start();
    const stranger = `sha256:${'1'.repeat(64)}`;
    await expect(fetch(layer({ digest: stranger }))).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(fetch(layer({ manifestDigest: '' }))).rejects.toMatchObject({ code: 'PRECONDITION' });
    await expect(fetch(layer({ image: 'NOT A NAME' }))).rejects.toMatchObject({ code: 'REFERENCE' });
  });

  test.each<[string, (into: string) => Buffer]>([
    ['without a bootstrap', (into) => tar(into, 'mkdir image; echo x > image/other')],
    ['whose bootstrap is a link', (into) => tar(into, 'mkdir image; ln -s /etc/passwd image/image.boot')],
    ['that is cut off', () => layoutBlob('nydus-oci/index', LAYER).subarray(0, 20_000)],
    ['that is no gzip', () => Buffer.from('hello')],
  ])('a layer %s is refused', async (_name, make) => {
    await start();
    const { digest, size } = registry.storage.putBlob('tame', make(directory), GZIP);
    images.expect(layer().image, { digest, mediaType: GZIP, size });
    await expect(fetch(layer({ digest }))).rejects.toMatchObject({ code: 'FORMAT' });
    expect(readdirSync(join(directory, 'images'))).toEqual([]);
  });

  test('wrong bytes are noticed', async () => {
    await start({ fault: ({ path }) => (path.includes(LAYER) ? { kind: 'wrong-bytes', at: 29_000 } : null) });
    await expect(fetch(layer())).rejects.toMatchObject({
      code: expect.stringMatching(/^(FORMAT|DIGEST_MISMATCH)$/),
    });
  });

  test('a layer that containerd unpacked is adopted', async () => {
    await start();
    for (const [id, member] of [
      [5, 'image/image.boot'],
      [6, 'image.boot'],
    ] as const) {
      const fs = join(directory, `fs${id}`);
      mkdirSync(join(fs, 'image'), { recursive: true });
      writeFileSync(join(fs, member), original());
      await images.adopt(fs, layer(), ({ commitAs }) => commitAs(id));
      expect(stored(id).equals(original())).toBe(true);
    }
  });

  test.each<[string, string]>([
    ['without a bootstrap', 'mkdir image; echo x > image/other'],
    ['whose bootstrap is a link', 'mkdir image; ln -s ../../outside/image.boot image/image.boot'],
    ['whose folder is a link', 'ln -s ../outside image'],
    ['whose folder is an absolute link', 'ln -s "$PWD/../outside" image'],
    ['whose bootstrap is a pipe', 'mkdir image; mkfifo image/image.boot'],
    ['whose bootstrap is a directory', 'mkdir -p image/image.boot'],
    [
      'whose bootstrap is a socket',
      'mkdir image; python3 -c "import socket; socket.socket(socket.AF_UNIX).bind(\'image/image.boot\')"',
    ],
    ['whose bootstrap is a hole of a terabyte', 'mkdir image; truncate -s 1T image/image.boot'],
  ])('an unpacked layer %s is refused', async (_name, script) => {
    await start();
    const fs = join(directory, 'fs');
    mkdirSync(fs);
    mkdirSync(join(directory, 'outside'));
    writeFileSync(join(directory, 'outside', 'image.boot'), original());
    execFileSync('sh', ['-euc', script], { cwd: fs });
    const adopted = images.adopt(fs, layer(), ({ commitAs }) => commitAs(5));
    await expect(adopted).rejects.toMatchObject({ code: 'FORMAT', subject: LAYER });
    expect(readdirSync(join(directory, 'images'))).toEqual([]);
  });
});

const tar = (into: string, script: string): Buffer => {
  const folder = mkdtempSync(join(into, 'tar-'));
  return gzipSync(execFileSync('sh', ['-euc', `${script}; tar -c .`], { cwd: folder, maxBuffer: 1 << 28 }));
};
