/** The service as containerd sees it: a real gRPC client on a real socket, a temporary root, no mounts. */

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, chownSync, existsSync, linkSync, lstatSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { LacunaError } from '../../../src/errors.ts';
import type { Info, Snapshots } from '../../../src/grpc/messages/snapshots.gen.ts';
import { type UnixChannel, type UnixServer, unixChannel, unixServer } from '../../../src/grpc/unix.ts';
import { silentLog } from '../../../src/observe/log.ts';
import type { Mount } from '../../../src/snapshotter/info.ts';
import { serveSnapshots, snapshotsService } from '../../../src/snapshotter/service.ts';
import { type LazyImages, Snapshotter } from '../../../src/snapshotter/snapshotter.ts';
import { needs } from '../../kit/skip.ts';

const REF = 'containerd.io/snapshot.ref';
const CRI = 'containerd.io/snapshot/cri.';
const sha = (text: string) => `sha256:${createHash('sha256').update(text).digest('hex')}`;

/** Lazy images without registry, daemon or mounts: what was asked is noted. */
class FakeImages implements LazyImages {
  readonly calls: string[] = [];
  failure: Error | null = null;
  diffId = sha('bootstrap');
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  isSilent = false;
  /** What is thrown for the labels of a bootstrap. */
  refusal: Error | null = null;

  assertPulled: LazyImages['assertPulled'] = async () => {
    if (this.refusal !== null) throw this.refusal;
  };
  fetch: LazyImages['fetch'] = async (layer, use, signal) => {
    this.calls.push(`fetch ${layer.image}`);
    if (this.isSilent) {
      await once(signal, 'abort');
      this.calls.push('fetch ended');
      throw signal.reason;
    }
    if (this.failure !== null) throw this.failure;
    const source = { host: 'localhost:5000', repository: 'r', plainHttp: null };
    use({
      source,
      usage: { size: 10, inodes: 1 },
      diffId: this.diffId,
      commitAs: (id) => this.calls.push(`place ${id}`),
    });
  };
  adopt: LazyImages['adopt'] = async (fs, _layer, use) => {
    this.calls.push(`adopt ${readdirSync(fs).join()}`);
    const source = { host: 'localhost:5000', repository: 'r', plainHttp: null };
    use({ source, usage: { size: 10, inodes: 1 }, commitAs: (id) => this.calls.push(`place ${id}`) });
  };
  ensureMounted: LazyImages['ensureMounted'] = async ({ id }) => {
    this.calls.push(`mount ${id}`);
    const path = join(this.#folder, `mnt-${id}`);
    mkdirSync(path, { recursive: true });
    chmodSync(path, 0o711);
    return path;
  };
  remove: LazyImages['remove'] = async (id) => void this.calls.push(`remove ${id}`);
  cleanup: LazyImages['cleanup'] = async (ids) => void this.calls.push(`cleanup ${[...ids()]}`);
}

let root: string;
let images: FakeImages;
let snapshotter: Snapshotter;
let server: UnixServer;
let client: UnixChannel<Snapshots>;

async function start(): Promise<void> {
  images = new FakeImages(root);
  const overlay = { indexOff: true, userxattr: false };
  snapshotter = await Snapshotter.open({ folder: join(root, 'snapshotter'), images, log: silentLog, overlay });
  server = await unixServer(join(root, 's.sock'), [serveSnapshots(snapshotter)]);
  client = unixChannel(join(root, 's.sock'), snapshotsService());
}

async function stop(): Promise<void> {
  client.close();
  await server.close(0);
  snapshotter.close();
}

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'lacuna-service-'));
  await start();
});
afterEach(async () => {
  await stop();
  await rm(root, { recursive: true });
});

const prepare = async (key: string, parent = '', labels: Record<string, string> = {}): Promise<readonly Mount[]> =>
  (await client.call('Prepare', { key, parent, labels })).mounts;
const view = async (key: string, parent = ''): Promise<readonly Mount[]> =>
  (await client.call('View', { key, parent })).mounts;
const commit = (name: string, key: string, labels = {}) => client.call('Commit', { name, key, labels });
const stat = async (key: string): Promise<Info> => (await client.call('Stat', { key })).info!;
const layer = async (name: string, parent = '', labels = {}) => {
  await prepare(`${name}-key`, parent, labels);
  await commit(name, `${name}-key`, labels);
};
const list = async (...filters: string[]): Promise<string[]> => {
  const names: string[] = [];
  for await (const { info } of client.stream('List', { filters })) {
    names.push(...info.map(({ name }) => name));
  }
  return names;
};
/** gRPC status number and Lacuna's code of a call that must fail. */
const failure = async (call: Promise<unknown>): Promise<[number, string]> => {
  const error = (await call.then(
    () => null,
    (thrown: unknown) => thrown,
  )) as (LacunaError & { cause: { code: number } }) | null;
  if (error === null) throw new Error('the call succeeded');
  return [error.cause.code, error.code];
};
const [INVALID, NOT_FOUND, EXISTS, DENIED, PRECONDITION, DATA_LOSS] = [3, 5, 6, 7, 9, 15];
const path = (...parts: string[]) => join(root, 'snapshotter', 'snapshots', ...parts);

describe('plain layers', () => {
  test("mounts are those of containerd's overlayfs snapshotter", async () => {
    expect(await prepare('k1')).toEqual([bind(path('1', 'fs'), 'rw')]);
    await commit('l1', 'k1');
    expect(await view('v1', 'l1')).toEqual([bind(path('1', 'fs'), 'ro')]);
    expect(await view('v0')).toEqual([bind(path('3', 'fs'), 'ro')]);
    expect(await prepare('k2', 'l1')).toEqual([
      overlay(
        'index=off',
        `workdir=${path('4', 'work')}`,
        `upperdir=${path('4', 'fs')}`,
        `lowerdir=${path('1', 'fs')}`,
      ),
    ]);
    await commit('l2', 'k2');
    const both = `lowerdir=${path('4', 'fs')}:${path('1', 'fs')}`;
    expect(await view('v2', 'l2')).toEqual([overlay('index=off', both)]);
    const container = await prepare('c', 'l2');
    expect(container).toEqual([
      overlay('index=off', `workdir=${path('6', 'work')}`, `upperdir=${path('6', 'fs')}`, both),
    ]);
    expect((await client.call('Mounts', { key: 'c' })).mounts).toEqual(container);
  });

  test('every refusal has the status that containerd expects', async () => {
    await layer('l1');
    await prepare('child', 'l1');
    expect(await failure(prepare('child', 'l1'))).toEqual([EXISTS, 'ALREADY_EXISTS']);
    expect(await failure(prepare('x', 'nobody'))).toEqual([NOT_FOUND, 'NOT_FOUND']);
    expect(await failure(prepare('x', 'child'))).toEqual([PRECONDITION, 'PRECONDITION']);
    expect(await failure(prepare(''))).toEqual([INVALID, 'USAGE']);
    expect(await failure(commit('l1', 'child'))).toEqual([EXISTS, 'ALREADY_EXISTS']);
    expect(await failure(commit('n', 'nobody'))).toEqual([NOT_FOUND, 'NOT_FOUND']);
    expect(await failure(commit('n', 'l1'))).toEqual([PRECONDITION, 'PRECONDITION']);
    await view('v', 'l1');
    expect(await failure(commit('n', 'v'))).toEqual([PRECONDITION, 'PRECONDITION']);
    expect(await failure(client.call('Mounts', { key: 'l1' }))).toEqual([PRECONDITION, 'PRECONDITION']);
    expect(await failure(client.call('Remove', { key: 'l1' }))).toEqual([PRECONDITION, 'PRECONDITION']);
    for (const method of ['Mounts', 'Remove', 'Stat', 'Usage'] as const) {
      expect(await failure(client.call(method, { key: 'nobody' }))).toEqual([NOT_FOUND, 'NOT_FOUND']);
    }
    expect(await failure(list('name='))).toEqual([INVALID, 'USAGE']);
    // Nothing of what was refused has left a directory behind.
    expect(readdirSync(path()).sort()).toEqual(['1', '2', '3']);
  });

  test("an update with Go's zero times and a mask", async () => {
    await layer('l1', '', { a: '1', 'b.c': '2' });
    const before = await stat('l1');
    const zero = { seconds: -62135596800, nanos: 0 };
    const info = { name: 'l1', createdAt: zero, updatedAt: zero, labels: { a: '3' } };
    const call = (paths: string[]) => client.call('Update', { info, updateMask: { paths } });
    const { info: after } = await call(['labels.a']);
    expect(after).toEqual({ ...before, labels: { a: '3', 'b.c': '2' }, updatedAt: after!.updatedAt });
    expect((await call(['labels'])).info!.labels).toEqual({ a: '3' });
    expect(await failure(call(['parent']))).toEqual([INVALID, 'USAGE']);
    expect((await stat('l1')).kind).toBe('COMMITTED');
  });

  test('times are those of the clock, to the microsecond', async () => {
    const from = Date.now();
    await prepare('k');
    const { createdAt, updatedAt } = await stat('k');
    const millis = createdAt!.seconds * 1000 + createdAt!.nanos / 1e6;
    expect(millis).toBeGreaterThanOrEqual(from - 1);
    expect(millis).toBeLessThanOrEqual(Date.now() + 1);
    expect(updatedAt).toEqual(createdAt);
  });

  test('a long list comes in order and filtered', async () => {
    for (let i = 0; i < 230; i++) await prepare(`k${i}`);
    expect(await list()).toEqual(Array.from({ length: 230 }, (_, i) => `k${i}`));
    expect(await list('name==k7', 'name==k201')).toEqual(['k7', 'k201']);
  });

  test('usage counts blocks and inodes, a hard link once; a commit keeps what it was', async () => {
    await prepare('k');
    const fs = path('1', 'fs');
    mkdirSync(join(fs, 'd'));
    writeFileSync(join(fs, 'd', 'file'), Buffer.alloc(100_000, 1));
    linkSync(join(fs, 'd', 'file'), join(fs, 'link'));
    const notText = Buffer.concat([Buffer.from(`${fs}/`), Buffer.from([0xff, 0xfe])]);
    writeFileSync(notText, 'x');
    const blocks = [fs, join(fs, 'd'), join(fs, 'link'), notText].map((file) => lstatSync(file).blocks);
    const expected = { size: blocks.reduce((sum, count) => sum + count) * 512, inodes: 4 };
    expect(await client.call('Usage', { key: 'k' })).toEqual(expected);
    await commit('l', 'k');
    writeFileSync(join(fs, 'later'), 'x');
    expect(await client.call('Usage', { key: 'l' })).toEqual(expected);
  });

  test('removal deletes the files, also names that are no text; clean-up what a death left', async () => {
    await prepare('k');
    mkdirSync(path('1', 'fs', 'd'));
    writeFileSync(Buffer.concat([Buffer.from(`${path('1', 'fs', 'd')}/`), Buffer.from([0xff])]), 'x');
    await client.call('Remove', { key: 'k' });
    expect(readdirSync(path())).toEqual([]);
    await prepare('k');
    mkdirSync(path('77', 'fs'), { recursive: true });
    mkdirSync(path('new-abc'));
    await client.call('Cleanup', {});
    expect(readdirSync(path())).toEqual(['2']);
  });

  test('a restart finds everything, and the orphans of a death are gone', async () => {
    await layer('l1', '', { a: '1' });
    await prepare('c', 'l1');
    const before = [await stat('l1'), await stat('c')];
    const { mounts } = await client.call('Mounts', { key: 'c' });
    mkdirSync(path('3', 'fs'), { recursive: true });
    mkdirSync(path('new-dead'));
    await stop();
    await start();
    expect([await stat('l1'), await stat('c')]).toEqual(before);
    expect((await client.call('Mounts', { key: 'c' })).mounts).toEqual(mounts);
    await vi.waitFor(() => expect(readdirSync(path()).sort()).toEqual(['1', '2']));
    expect(await prepare('d', 'l1')).toHaveLength(1);
    expect(existsSync(path('3', 'work'))).toBe(true);
  });

  const skip = needs('root');
  test.skipIf(skip.reason)("the root directory takes over its parent's owner and mode", async () => {
    await prepare('k');
    chmodSync(path('1', 'fs'), 0o2750);
    chownSync(path('1', 'fs'), 12, 34);
    chmodSync(path('1', 'fs'), 0o2750);
    await commit('l', 'k');
    await prepare('c', 'l');
    expect(lstatSync(path('2', 'fs'))).toMatchObject({ uid: 12, gid: 34, mode: 0o42750 });
  });
});

describe('lazy layers', () => {
  const data = sha('data');
  const bootstrapDiff = sha('bootstrap');
  const top = sha(`${data} ${bootstrapDiff}`);
  const cri = { [`${CRI}image-ref`]: 'localhost:5000/r:t', [`${CRI}manifest-digest`]: sha('m') };
  const blobLabels = {
    ...cri,
    [REF]: data,
    [`${CRI}layer-digest`]: data,
    'containerd.io/snapshot/nydus-blob': 'true',
  };
  const bootLabels = {
    ...cri,
    [REF]: top,
    [`${CRI}layer-digest`]: sha('compressed'),
    'containerd.io/snapshot/nydus-bootstrap': 'true',
  };
  const lazyImage = async () => {
    expect(await failure(prepare('default/1/a', '', blobLabels))).toEqual([EXISTS, 'ALREADY_EXISTS']);
    expect(await failure(prepare('default/2/b', data, bootLabels))).toEqual([EXISTS, 'ALREADY_EXISTS']);
  };

  test('are committed under their chain IDs, where containerd looks for them', async () => {
    await lazyImage();
    expect(await stat(data)).toMatchObject({ kind: 'COMMITTED', parent: '', labels: blobLabels });
    expect(await stat(top)).toMatchObject({ kind: 'COMMITTED', parent: data, labels: bootLabels });
    expect(await list(`labels."containerd.io/snapshot.ref"==${top},parent==${JSON.stringify(data)}`)).toEqual([top]);
    expect(readdirSync(path())).toEqual([]);
    expect(images.calls).toEqual(['cleanup ', 'fetch localhost:5000/r:t', 'place 2', 'mount 2']);
    expect(await client.call('Usage', { key: data })).toEqual({ size: 0, inodes: 0 });
    expect(await client.call('Usage', { key: top })).toEqual({ size: 10, inodes: 1 });
    // A second time, from another namespace: nothing is fetched again.
    await lazyImage();
    expect(images.calls).toHaveLength(4);
  });

  test('a container stands on the mount alone, layers above it are stacked', async () => {
    await lazyImage();
    const mnt = join(root, 'mnt-2');
    expect(await view('v', top)).toEqual([bind(mnt, 'ro')]);
    expect(await prepare('c', top)).toEqual([
      overlay('index=off', `workdir=${path('4', 'work')}`, `upperdir=${path('4', 'fs')}`, `lowerdir=${mnt}`),
    ]);
    expect(lstatSync(path('4', 'fs')).mode & 0o777).toBe(0o711);
    await commit('above', 'c');
    expect(await view('v2', 'above')).toEqual([overlay('index=off', `lowerdir=${path('4', 'fs')}:${mnt}`)]);
  });

  test('a data layer alone has no files', async () => {
    expect(await failure(prepare('k', '', blobLabels))).toEqual([EXISTS, 'ALREADY_EXISTS']);
    expect(await failure(prepare('c', data))).toEqual([PRECONDITION, 'PRECONDITION']);
    expect(await failure(view('v', data))).toEqual([PRECONDITION, 'PRECONDITION']);
    // It may be the diff ID of a layer of another image, which then is in the way.
    await expect(view('v', data)).rejects.toMatchObject({ hint: expect.stringContaining('remove localhost:5000/r:t') });
  });

  test('a layer that is not what its chain ID says is refused, and leaves nothing', async () => {
    const lying = { ...blobLabels, [`${CRI}layer-digest`]: sha('other') };
    expect(await failure(prepare('k', '', lying))).toEqual([DATA_LOSS, 'DIGEST_MISMATCH']);
    await failure(prepare('k', '', blobLabels));
    images.diffId = sha('other bootstrap');
    expect(await failure(prepare('k2', data, bootLabels))).toEqual([DATA_LOSS, 'DIGEST_MISMATCH']);
    expect(await list()).toEqual([data]);
  });

  test('without the label that names the image it says what to do', async () => {
    const { [`${CRI}image-ref`]: _, ...labels } = blobLabels;
    const refused = prepare('k', '', labels);
    await expect(refused).rejects.toMatchObject({ code: 'PRECONDITION', hint: expect.stringContaining('lacuna pull') });
  });

  test('labels that the caller did not make are refused before anything is fetched, and when a layer is committed', async () => {
    await failure(prepare('k', '', blobLabels));
    images.refusal = new LacunaError('FORBIDDEN', 'not pulled from there');
    expect(await failure(prepare('b', data, bootLabels))).toEqual([DENIED, 'FORBIDDEN']);
    images.refusal = null;
    images.failure = new LacunaError('UNAVAILABLE', 'registry away');
    await prepare('unpack', data, bootLabels);
    images.refusal = new LacunaError('FORBIDDEN', 'not pulled from there');
    expect(await failure(commit('top', 'unpack', bootLabels))).toEqual([DENIED, 'FORBIDDEN']);
    expect(images.calls).toEqual(['cleanup ', 'fetch localhost:5000/r:t']);
  });

  test('a bootstrap that cannot be fetched is unpacked by containerd and still becomes lazy', async () => {
    await failure(prepare('k', '', blobLabels));
    images.failure = new LacunaError('UNAVAILABLE', 'registry away');
    const mounts = await prepare('unpack', data, bootLabels);
    expect(mounts).toEqual([bind(path('2', 'fs'), 'rw')]);
    expect((await client.call('Mounts', { key: 'unpack' })).mounts).toEqual(mounts);
    mkdirSync(path('2', 'fs', 'image'));
    await commit('default/9/top', 'unpack', bootLabels);
    expect(images.calls.slice(-2)).toEqual(['adopt image', 'place 2']);
    expect(readdirSync(path())).toEqual([]);
    expect(await prepare('c', 'default/9/top')).toMatchObject([{ type: 'overlay' }]);
    expect(images.calls.at(-1)).toBe('mount 2');
  });

  test('a client that goes away ends the fetch, and no snapshot is made for it', async () => {
    await failure(prepare('k', '', blobLabels));
    images.isSilent = true;
    const gone = new AbortController();
    const request = { key: 'unpack', parent: data, labels: bootLabels };
    const call = client.call('Prepare', request, { signal: gone.signal });
    await expect.poll(() => images.calls.at(-1)).toBe('fetch localhost:5000/r:t');
    gone.abort();
    await expect(call).rejects.toMatchObject({ code: 'ABORTED' });
    await expect.poll(() => images.calls.at(-1)).toBe('fetch ended');
    expect(await list()).toEqual([data]);
    expect(readdirSync(path())).toEqual([]);
  });

  test('the same layers on top of parents of two namespaces', async () => {
    const plain = sha('plain');
    const above = sha(`${plain} ${bootstrapDiff}`);
    await layer('one/1/p', '', { [REF]: plain });
    await layer('two/1/p', '', { [REF]: plain });
    const labels = { ...bootLabels, [REF]: above };
    await failure(prepare('k', 'one/1/p', labels));
    await failure(prepare('k', 'two/1/p', labels));
    expect(await list(`labels."containerd.io/snapshot.ref"==${above},parent==one/1/p`)).toEqual([above]);
    expect(await list(`labels."containerd.io/snapshot.ref"==${above},parent==two/1/p`)).toEqual([
      `${above} on two/1/p`,
    ]);
  });

  test('the end of an image: freed once nothing stands on it', async () => {
    await lazyImage();
    await prepare('c', top);
    expect(await failure(client.call('Remove', { key: top }))).toEqual([PRECONDITION, 'PRECONDITION']);
    expect(images.calls).not.toContain('remove 2');
    await client.call('Remove', { key: 'c' });
    await client.call('Remove', { key: top });
    await client.call('Remove', { key: data });
    expect(images.calls.at(-1)).toBe('remove 2');
    expect(await list()).toEqual([]);
  });
});

const bind = (source: string, access: string): Mount & { target: string } => ({
  type: 'bind',
  source,
  target: '',
  options: [access, 'rbind'],
});
const overlay = (...options: string[]): Mount & { target: string } => ({
  type: 'overlay',
  source: 'overlay',
  target: '',
  options,
});
