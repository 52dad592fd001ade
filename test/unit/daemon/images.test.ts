/** Which devices the attached images have, in every order of coming and going: the file system is only a list here. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { defaultConfig } from '../../../src/config/load.ts';
import { Images } from '../../../src/daemon/images.ts';
import { makeRoot, rootPaths } from '../../../src/daemon/root.ts';
import { Sources } from '../../../src/daemon/sources.ts';
import type { Fetcher } from '../../../src/fetch/fetcher.ts';
import type { FetchedDevice } from '../../../src/fetch/want.ts';
import { openBootstrap } from '../../../src/formats/rafs/open.ts';
import type { BlobFs, DeviceOptions } from '../../../src/native/addon.ts';
import { silentLog } from '../../../src/observe/log.ts';
import { fixture } from '../../kit/layers.ts';

const ONE = fixture('rafs/default/bootstrap');
const SEVERAL = fixture('rafs/merged/bootstrap');

/** What would be served, by handle. */
class FakePlane {
  readonly devices = new Map<number, DeviceOptions>();
  readonly fetched = new Map<number, FetchedDevice>();
  #last = 0;
  failAt = Number.POSITIVE_INFINITY;

  readonly blobFs = {
    addDevice: (options: DeviceOptions): number => {
      if (++this.#last >= this.failAt) throw new Error('no more devices');
      this.devices.set(this.#last, options);
      return this.#last;
    },
    removeDevice: (handle: number): void => {
      if (!this.devices.delete(handle)) throw new Error(`no device ${handle}`);
    },
    missing: () => new Uint32Array(0),
  } as unknown as BlobFs;

  readonly fetcher = {
    addDevice: (handle: number, device: FetchedDevice) => void this.fetched.set(handle, device),
    removeDevice: (handle: number) => void this.fetched.delete(handle),
  } as unknown as Fetcher;

  /** Names of the devices, each with the places of its blob. */
  get state(): Record<string, string[]> {
    expect([...this.fetched.keys()]).toEqual([...this.devices.keys()]);
    return Object.fromEntries(
      [...this.devices].map(([handle, { name }]) => [
        name,
        this.fetched.get(handle)!.sources.map(({ subject }) => subject),
      ]),
    );
  }
}

describe('images', () => {
  let dir: string;
  let plane: FakePlane;
  let images: Images;
  const paths = () => rootPaths(join(dir, 'root'));
  const open = (): Images => {
    plane = new FakePlane();
    const sources = new Sources(defaultConfig().registry, silentLog);
    return new Images({ paths: paths(), blobFs: plane.blobFs, fetcher: plane.fetcher, sources, log: silentLog });
  };
  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'lacuna-images-'));
    await makeRoot(paths());
    images = open();
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  const attach = (id: string, bootstrap: string, path = `/blobs-of-${id}`) =>
    images.attach({ id, bootstrap, sources: [{ directory: { path } }] });
  const cached = () => readdirSync(paths().cache);
  const records = () => readdirSync(paths().images);

  it('have devices of their own, each with its own places, over one copy of equal tables', async () => {
    const [first] = await attach('a', ONE);
    const [second] = await attach('b', ONE);
    const [one, other] = [first!, second!].map((path) => basename(path));
    const blob = one!.split('-')[0]!;
    expect(plane.state).toEqual({ [one!]: [`/blobs-of-a/${blob}`], [other!]: [`/blobs-of-b/${blob}`] });
    const [a, b] = [...plane.devices.values()];
    expect([a!.image, b!.image, b!.table === a!.table, b!.ownDir]).toEqual(['a', 'b', true, a!.ownDir]);
    expect(b!.node).not.toBe(a!.node);
    await images.detach('a');
    expect(Object.keys(plane.state)).toEqual([other]);
    expect(cached()).toEqual([blob]);
    await images.detach('b');
    expect([plane.state, cached(), records()]).toEqual([{}, [], []]);
    await expect(images.detach('b')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('have a device of their own where their tables differ, over the one store of the blob', async () => {
    const lie = join(dir, 'lie');
    const bytes = Buffer.from(readFileSync(ONE));
    const [digest] = findDigests(bytes);
    bytes[digest!]! ^= 1;
    writeFileSync(lie, bytes);
    const [truth] = await attach('a', ONE);
    const [lied] = await attach('b', lie);
    expect(lied).not.toBe(truth);
    const [first, second] = [...plane.devices.values()];
    expect(second!.sharedDir).toBe(first!.sharedDir);
    expect(second!.ownDir).not.toBe(first!.ownDir);
    await images.detach('b');
    expect(Object.keys(plane.state)).toEqual([basename(truth!)]);
    expect(existsSync(first!.ownDir)).toBe(true);
    expect(existsSync(second!.ownDir)).toBe(false);
  });

  it('attached again with another bootstrap give back what they had', async () => {
    await attach('a', ONE);
    const paths = await attach('a', SEVERAL);
    expect(Object.keys(plane.state).sort()).toEqual(paths.map((path) => basename(path)).sort());
    expect(cached().sort()).toEqual([...new Set(paths.map((path) => basename(path).split('-')[0]))].sort());
    expect(await attach('a', SEVERAL)).toEqual(paths);
  });

  it('leave nothing when a device cannot be made, or the record not be written', async () => {
    plane.failAt = 2;
    await expect(attach('a', SEVERAL)).rejects.toThrow('no more devices');
    expect([plane.state, records()]).toEqual([{}, []]);
    plane.failAt = Number.POSITIVE_INFINITY;
    mkdirSync(join(paths().images, 'a.json.tmp'));
    await expect(attach('a', SEVERAL)).rejects.toThrow('EISDIR');
    expect([plane.state, images.status().images]).toEqual([{}, []]);
  });

  it('that cannot be attached anew keep what they had', async () => {
    const [path] = await attach('a', ONE);
    await expect(attach('a', '/nowhere')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(attach('a', ONE, 'relative')).rejects.toMatchObject({ code: 'USAGE' });
    expect(Object.keys(plane.state)).toEqual([basename(path!)]);
    expect(images.status().images).toMatchObject([{ id: 'a', bootstrap: ONE, devices: [path], problem: '' }]);
  });

  it('are there again after a restart, without a bootstrap; garbage of the cache goes', async () => {
    const gone = join(dir, 'gone');
    writeFileSync(gone, readFileSync(SEVERAL));
    await attach('a', ONE);
    await attach('b', gone);
    const [before, folders] = [plane.state, cached().sort()];
    rmSync(gone);
    mkdirSync(join(paths().cache, 'c'.repeat(64)));
    const tables = [...plane.devices.values()].map(({ name, size, table }) => [name, size, table]);
    images = open();
    await images.restore();
    expect(plane.state).toEqual(before);
    expect([...plane.devices.values()].map(({ name, size, table }) => [name, size, table])).toEqual(tables);
    expect(cached().sort()).toEqual(folders);
    expect(images.status().images.map(({ problem }) => problem)).toEqual(['', '']);
  });

  it.each([
    ['lost', (path: string) => rmSync(path)],
    ['cut', (path: string) => writeFileSync(path, readFileSync(path).subarray(0, 64))],
    ['another one', (path: string) => writeFileSync(path, Buffer.alloc(0))],
    ['damaged', (path: string) => writeFileSync(path, readFileSync(path).fill(9, 40, 41))],
  ])(
    'whose table is %s come from the bootstrap; one that has lost both keeps its cache and tells why',
    async (_n, spoil) => {
      const gone = join(dir, 'gone');
      writeFileSync(gone, readFileSync(SEVERAL));
      const [one] = await attach('a', ONE);
      const [several] = await attach('b', gone);
      const folders = cached().sort();
      for (const path of [one!, several!])
        spoil(join(paths().cache, ...basename(path).split('-').slice(0, 2), 'table'));
      rmSync(gone);
      images = open();
      await images.restore();
      expect(Object.keys(plane.state)).toEqual([basename(one!)]);
      expect(cached().sort()).toEqual(folders);
      expect(images.status().images.map(({ id, problem }) => [id, problem])).toEqual([
        ['a', ''],
        ['b', expect.stringContaining(gone)],
      ]);
      await images.detach('b');
      expect(cached()).toEqual([basename(one!).split('-')[0]]);
    },
  );

  describe('with a record that is damaged', () => {
    let [healthy, harmed]: string[] = [];
    const pathOf = (id: string): string => join(paths().images, `${id}.json`);
    const spoil = (text: (record: string) => string): void =>
      writeFileSync(pathOf('b'), text(readFileSync(pathOf('b'), 'utf8')));
    const restart = async (): Promise<void> => {
      images = open();
      await images.restore();
    };
    beforeEach(async () => {
      [healthy] = await attach('a', ONE);
      [harmed] = await attach('b', SEVERAL);
    });

    it('keep it to that image: the others are attached, its cache stays, and status tells what to do', async () => {
      const folders = cached().sort();
      spoil(() => '');
      await restart();
      expect(Object.keys(plane.state)).toEqual([basename(healthy!)]);
      expect(images.status().images).toMatchObject([
        { id: 'b', devices: [], problem: expect.stringContaining('not JSON'), hint: expect.stringContaining('detach') },
        { id: 'a', devices: [healthy], problem: '', hint: '' },
      ]);
      await images.detach('a');
      expect(cached().sort()).toEqual(folders);
      await images.detach('b');
      expect([cached(), records(), images.status().images]).toEqual([[], [], []]);
    });

    it('take the image back when it is attached again, under the names that the kernel knows', async () => {
      spoil((record) => record.slice(0, -2));
      await restart();
      mkdirSync(join(paths().cache, 'c'.repeat(64)));
      const [again] = await attach('b', SEVERAL);
      expect(again).toBe(harmed);
      expect(images.status().images.map(({ problem }) => problem)).toEqual(['', '']);
      expect(cached()).not.toContain('c'.repeat(64));
      await restart();
      expect(images.status().images.map(({ problem }) => problem)).toEqual(['', '']);
    });

    it('that names the devices of another image gets none of them', async () => {
      writeFileSync(pathOf('b'), readFileSync(pathOf('a')));
      await restart();
      const [again] = await attach('b', ONE);
      expect(again).not.toBe(healthy);
      expect(Object.keys(plane.state).sort()).toEqual([healthy, again].map((path) => basename(path!)).sort());
    });
  });

  it('of a version 1 record get names with nodes, which are recorded', async () => {
    const [path] = await attach('a', ONE);
    const file = join(paths().images, 'a.json');
    const tables = basename(path!).split('-').slice(0, 2).join('-');
    const first = readFileSync(file, 'utf8').replace('"version": 2', '"version": 1').replace(basename(path!), tables);
    writeFileSync(file, first);
    images = open();
    await images.restore();
    const { devices } = images.status().images[0]!;
    expect(basename(devices[0]!)).toMatch(new RegExp(`^${tables}-[0-9a-f]{13}$`));
    images = open();
    await images.restore();
    expect(images.status().images).toMatchObject([{ id: 'a', devices, problem: '' }]);
  });

  it('come and go one after another, however they are called', async () => {
    const names = Array.from({ length: 8 }, (_, index) => `image-${index}`);
    const work = names.flatMap((id) => [attach(id, SEVERAL), images.detach(id), attach(id, ONE)]);
    await Promise.all([...work, ...names.slice(1).map((id) => images.detach(id))]);
    expect(images.status().images.map(({ id }) => id)).toEqual(['image-0']);
    expect(Object.keys(plane.state).length).toBe(1);
    expect(cached().length).toBe(1);
  });
});

/** Where the digests of an image's first blob's chunks lie in its bootstrap. */
function findDigests(bootstrap: Buffer): number[] {
  const image = openBootstrap(bootstrap, { subject: 'test' });
  return image.chunksOf(0).map(({ digest }) => bootstrap.indexOf(digest));
}
