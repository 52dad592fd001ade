/**
 * What a daemon knows of its predecessor: the cache, also after a reboot, and whose word to take for which chunk; no
 * credentials.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { convert } from '../../src/convert/convert.ts';
import type { Status } from '../../src/daemon/api.ts';
import { openBootstrap } from '../../src/formats/rafs/open.ts';
import { readConverted, refDigest } from '../kit/converted.ts';
import { DaemonFixture, dropPageCache, makeFlatImage, noise } from '../kit/daemon-fixture.ts';
import { sha256 } from '../kit/layers.ts';
import { run } from '../kit/process.ts';
import { type FaultHook, type RegistryOptions, startRegistry, type TestRegistry } from '../kit/registry.ts';
import { PASSWORD, USER } from '../kit/registry-auth.ts';
import { needs } from '../kit/skip.ts';
import { sourceLayout } from '../kit/source-image.ts';
import { END, member } from '../kit/tar.ts';
import { walk } from '../kit/tree.ts';

const skip = needs('root', 'fuse', 'erofs', 'addon', 'holder', 'dist', 'python3', 'zstd-napi');

const KIB = 1024;
const REPOSITORY = 'some/image';

type Files = Readonly<Record<string, Buffer>>;

/** Files of noise, `size` bytes each. */
const noisy = (seed: number, count: number, size: number): Files =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`file-${index}`, noise(seed * 100 + index, size)]));

interface Mounted {
  readonly target: string;
  readonly bootstrap: string;
  readonly id: string;
}

/** A room, a registry, and what is made of them for one test. */
class Testbed implements AsyncDisposable {
  readonly room: DaemonFixture;
  readonly registry: TestRegistry;
  readonly source;

  static async start(options: RegistryOptions = {}): Promise<Testbed> {
    // A window that leaves holes in these small images.
    return new Testbed(await DaemonFixture.start('deadline = "2s"\nwindow = "256KiB"'), await startRegistry(options));
  }

  constructor(room: DaemonFixture, registry: TestRegistry) {
    this.room = room;
    this.registry = registry;
    this.source = { registry: { host: registry.host, repository: REPOSITORY } };
  }

  /** An image of these files whose blob only the registry has. */
  async mount(id: string, files: Files, chunkSize = 64 * KIB): Promise<Mounted> {
    const { bootstrap, dir } = await makeFlatImage(files, chunkSize, this.room.folder(`image-${id}`));
    for (const name of readdirSync(dir)) {
      if (name !== 'bootstrap') this.registry.storage.putBlob(REPOSITORY, readFileSync(join(dir, name)));
    }
    return { id, bootstrap, target: await this.room.mount(id, bootstrap, [this.source]) };
  }

  /** Kills the daemon, and waits for the next one. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const { pid } = await this.room.client.status();
    process.kill(pid, signal);
    await expect.poll(async () => (await this.room.client.status()).pid, { timeout: 10_000 }).not.toBe(pid);
  }

  status(): Promise<Status> {
    return this.room.client.status();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.room[Symbol.asyncDispose]();
    } finally {
      await this.registry.close();
    }
  }
}

/** What another process reads: the digest, or `EIO`. */
async function read(path: string): Promise<string> {
  try {
    return (await run('sha256sum', [path])).stdout.slice(0, 64);
  } catch (error) {
    if (String(error).includes('Input/output error')) return 'EIO';
    throw error;
  }
}

const digests = (files: Files) =>
  Object.fromEntries(Object.entries(files).map(([name, content]) => [name, sha256(content)]));

async function readAll(target: string, files: Files): Promise<Record<string, string>> {
  const names = Object.keys(files);
  const found = await Promise.all(names.map((name) => read(join(target, name))));
  return Object.fromEntries(names.map((name, index) => [name, found[index]!]));
}

const isBlob = (path: string): boolean => path.includes('/blobs/');

/** Bytes of blobs that the registry sent. */
const blobBytes = ({ requests }: TestRegistry, hex = ''): number =>
  requests.filter(({ path }) => isBlob(path) && path.endsWith(hex)).reduce((sum, { bytes }) => sum + bytes, 0);

describe.skipIf(skip.reason)('who the daemon is to a registry', () => {
  const docker = (host: string) =>
    JSON.stringify({ auths: { [host]: { auth: Buffer.from(`${USER}:${PASSWORD}`).toString('base64') } } });
  let home: string;
  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), 'lcd-docker-'));
    vi.stubEnv('DOCKER_CONFIG', home);
  });
  afterEach(() => {
    vi.unstubAllEnvs();
    rmSync(home, { recursive: true });
  });

  it.each(['basic', 'token'] as const)(
    '%s: uses the login passed to it, after a restart the one stored by docker',
    async (auth) => {
      await using world = await Testbed.start({ auth });
      const { room, registry } = world;
      const files = noisy(1, 4, 60 * KIB);
      const { target } = await world.mount('private', files);
      const truth = digests(files);

      expect(await read(join(target, 'file-0'))).toBe('EIO');
      await room.client.setCredentials({ host: registry.host, username: USER, password: 'wrong' });
      expect(await read(join(target, 'file-0'))).toBe('EIO');
      await room.client.setCredentials({ host: registry.host, username: USER, password: PASSWORD });
      expect(await read(join(target, 'file-0'))).toBe(truth['file-0']);
      registry.auth.expireTokens();
      await dropPageCache();
      expect(await readAll(target, files)).toEqual(truth);

      for (const place of ['daemon.log', 'images/private.json']) {
        const text = readFileSync(join(room.root, place), 'utf8');
        for (const secret of [PASSWORD, Buffer.from(`${USER}:${PASSWORD}`).toString('base64'), 'token-']) {
          expect(text).not.toContain(secret);
        }
      }

      const more = noisy(2, 2, 60 * KIB);
      const second = await world.mount('more', more);
      await world.kill();
      expect(await read(join(second.target, 'file-0'))).toBe('EIO');
      writeFileSync(join(home, 'config.json'), docker(registry.host));
      expect(await readAll(second.target, more)).toEqual(digests(more));
    },
  );
});

describe.skipIf(skip.reason)('what is in the cache', () => {
  let world: Testbed;
  beforeEach(async () => {
    vi.stubEnv('LACUNA_TEST_HOOKS', '1');
    vi.stubEnv('LACUNA_TEST_BOOT_ID', '00000000-0000-4000-8000-000000000001');
    world = await Testbed.start();
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    await world[Symbol.asyncDispose]();
  });

  it('is read without the network, by the next daemon as well', async () => {
    const files = noisy(1, 8, 300 * KIB);
    const truth = digests(files);
    const { target } = await world.mount('offline', files);
    for (const name of ['file-1', 'file-2', 'file-5']) expect(await read(join(target, name))).toBe(truth[name]);
    await world.registry.close();
    for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
      await world.kill(signal);
      await dropPageCache();
      for (const name of ['file-1', 'file-2', 'file-5']) expect(await read(join(target, name))).toBe(truth[name]);
    }
    const { counters, devices } = await world.status();
    expect(counters).toMatchObject({ takenOver: true, errors: 0, reverified: 0 });
    expect(devices[0]!.missing).toBeGreaterThan(0);
    expect(await read(join(target, 'file-7'))).toBe('EIO');
  });

  it('is verified anew after a reboot: what the disk lost is fetched again', async () => {
    const files = noisy(1, 6, 200 * KIB);
    const { target } = await world.mount('reboot', files);
    expect(await readAll(target, files)).toEqual(digests(files));
    const [blob] = readdirSync(join(world.room.root, 'cache'));
    await using data = await open(join(world.room.root, 'cache', blob!, 'data'), 'r+');
    await data.write(Buffer.alloc(5000), 0, 5000, 100 * KIB);
    const fetched = world.registry.requests.length;

    vi.stubEnv('LACUNA_TEST_BOOT_ID', '00000000-0000-4000-8000-000000000002');
    await world.kill();
    await dropPageCache();
    expect(await readAll(target, files)).toEqual(digests(files));
    const { counters } = await world.status();
    expect(counters).toMatchObject({ delivered: 1, errors: 0 });
    expect(counters.reverified).toBeGreaterThan(10);
    expect(world.registry.requests.length).toBe(fetched + 1);

    await world.kill();
    await dropPageCache();
    expect(await readAll(target, files)).toEqual(digests(files));
    expect((await world.status()).counters).toMatchObject({ reverified: 0, requests: 0 });
  });

  it('is fetched once for images that share a layer and for two readers of one image', async () => {
    const { room, registry } = world;
    const tar = (files: Files): Buffer =>
      Buffer.concat([
        ...Object.entries(files).map(([name, data]) => member({ name, data: data.toString('latin1') })),
        END,
      ]);
    const common = noisy(1, 12, 300 * KIB);
    // The second image hides one file of the shared layer and has another one once more.
    const tops: Files[] = [{ one: noise(7, 50_000) }, { 'file-3': noise(8, 70_000), copy: common['file-4']! }];
    const images: { target: string; truth: Record<string, string>; blobs: string[] }[] = [];
    for (const [index, top] of tops.entries()) {
      const layout = room.folder(`converted-${index}`);
      const source = sourceLayout(room.folder(`source-${index}`), {
        layers: [{ tar: tar(common) }, { tar: tar(top) }],
      });
      await convert(source, `oci:${layout}:lazy`);
      registry.storage.putLayout(REPOSITORY, layout);
      const { bootstrap, rafs } = readConverted(layout, refDigest(layout, 'lazy'));
      const path = join(layout, 'bootstrap');
      writeFileSync(path, bootstrap);
      const target = await room.mount(`shares-${index}`, path, [world.source]);
      images.push({ target, truth: digests({ ...common, ...top }), blobs: rafs.blobs.map(({ id }) => id) });
    }
    const [one, two] = images as [(typeof images)[0], (typeof images)[0]];
    const shared = one.blobs.find((id) => two.blobs.includes(id))!;
    expect(shared).toBeDefined();

    // Two processes at once, of a cold cache.
    const slow: FaultHook = ({ path }) => (isBlob(path) ? { kind: 'delay', ms: 20 } : null);
    registry.fault = slow;
    const both = await Promise.all([walk(one.target), walk(one.target)]);
    for (const rows of both) {
      for (const { path, sha256: found } of rows)
        if (found !== undefined) expect(found).toBe(one.truth[path!.slice(1)]);
    }
    const once = blobBytes(registry, shared);
    expect(once).toBeGreaterThan(11 * 300 * KIB);
    expect(once).toBeLessThanOrEqual(registry.storage.repository(REPOSITORY).blobs.get(`sha256:${shared}`)!.length);

    const before = blobBytes(registry);
    expect(await readAll(two.target, { ...common, ...tops[1]! })).toEqual(two.truth);
    expect(blobBytes(registry, shared)).toBe(once);
    // Its own layer: without the file that a lower one has.
    expect(blobBytes(registry) - before).toBeLessThan(100_000);
    await dropPageCache();
    const after = registry.requests.length;
    for (const { target, truth } of images) {
      for (const [name, digest] of Object.entries(truth)) expect(await read(join(target, name))).toBe(digest);
    }
    expect(registry.requests.length).toBe(after);
  });

  describe('is safe from an image that lies about another one’s blob', () => {
    const files = noisy(1, 10, 64 * KIB);
    const truth = digests(files);

    /** A copy of a bootstrap with the records of two chunks, those of file-2 and file-7, changed. */
    function lie(bootstrap: string, change: (one: Buffer, other: Buffer) => void): string {
      const bytes = readFileSync(bootstrap);
      const nodes = openBootstrap(bytes, { subject: 'test' }).root().children!;
      const record = (name: string): Buffer => {
        const at = bytes.indexOf(nodes.get(name)!.chunks[0]!.digest);
        return bytes.subarray(at, at + 80);
      };
      change(record('file-2'), record('file-7'));
      writeFileSync(`${bootstrap}-lie`, bytes);
      return `${bootstrap}-lie`;
    }

    /** Bytes of a chunk's record (RAFS v6): its digest, and where it lies in the blob. */
    const DIGEST = [0, 32] as const;
    const PLACE = [48, 56] as const;
    const swap = (one: Buffer, other: Buffer, [from, to]: readonly [number, number]): void => {
      const kept = Buffer.from(one.subarray(from, to));
      other.copy(one, from, from, to);
      kept.copy(other, from);
    };

    const lies: [string, (one: Buffer, other: Buffer) => void, Record<string, string>][] = [
      ['swapped digests', (a, b) => swap(a, b, DIGEST), { 'file-2': 'EIO', 'file-7': 'EIO' }],
      [
        // Consistent: what it says is there is there. Nobody else may be told so.
        'swapped digests and places',
        (a, b) => {
          swap(a, b, DIGEST);
          swap(a, b, PLACE);
        },
        { 'file-2': truth['file-7']!, 'file-7': truth['file-2']! },
      ],
    ];
    it.each(lies)('%s', async (_name, change, differences) => {
      const { bootstrap, target } = await world.mount('honest', files);
      const liar = await world.room.mount('liar', lie(bootstrap, change), [world.source]);
      const readLiar = async () => expect(await readAll(liar, files)).toEqual({ ...truth, ...differences });
      await readLiar();
      expect(await readAll(target, files)).toEqual(truth);
      await world.kill();
      await dropPageCache();
      expect(await readAll(target, files)).toEqual(truth);
      await readLiar();
      // What both say the same about was fetched once, what differs is kept apart.
      const { devices } = await world.status();
      const [honest, lying] = ['honest', 'liar'].map((id) => devices.find(({ images }) => images.includes(id))!);
      expect(honest!.blob).toBe(lying!.blob);
      expect(honest!.name).not.toBe(lying!.name);
      expect(honest!.missing).toBe(0);
      expect(lying!.missing).toBe(Object.values(differences).filter((found) => found === 'EIO').length);
      await world.room.unmount('liar');
      await dropPageCache();
      expect(await readAll(target, files)).toEqual(truth);
    });
  });
});
