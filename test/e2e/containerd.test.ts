/** The snapshotter under the real containerd: plain images as with overlayfs, lazy images, restarts, removal. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { BUSYBOX, makeBoxImage } from '../kit/box-image.ts';
import { type Containerd, startContainerd } from '../kit/containerd.ts';
import { type DockerRegistry, dockerRegistry } from '../kit/docker-registry.ts';
import { lacuna, lacunaArgs, type Snapshotter, startSnapshotter } from '../kit/lacuna.ts';
import { fixture } from '../kit/layers.ts';
import { retype } from '../kit/lazy-image.ts';
import { mountsBelow, unmountBelow } from '../kit/mounts.ts';
import { type Finished, run } from '../kit/process.ts';
import { needs } from '../kit/skip.ts';
import { diffTrees, exactTime, nydusImageTime, type Row, readRows, type TimeRule, walk } from '../kit/tree.ts';

const skip = needs(
  'root',
  'dist',
  'addon',
  'holder',
  'fuse',
  'erofs',
  'overlay',
  'better-sqlite3',
  'containerd',
  'runc',
  'docker-registry',
  'skopeo',
  'busybox',
  'python3',
  'tar',
);

/** runc keeps the containers of all containerds of a host in one place. */
const READER = `reader-${process.pid}`;

const COPY = ['copy', '--quiet', '--insecure-policy', '--all', '--dest-tls-verify=false'];

describe.skipIf(skip.reason)('containerd 1.6', () => {
  /** Short: sockets lie below it. */
  const dir = mkdtempSync(join(tmpdir(), 'lac-'));
  let registry: DockerRegistry;
  let snapshotter: Snapshotter;
  let containerd: Containerd;
  let box: string;
  let lazy: string;

  beforeAll(async () => {
    registry = await dockerRegistry(join(dir, 'r'));
    makeBoxImage(join(dir, 'box'));
    box = `${registry.address}/box:1`;
    lazy = `${registry.address}/tame:lazy`;
    await run('skopeo', [...COPY, `oci:${dir}/box:box`, `docker://${box}`]);
    await run('skopeo', [...COPY, `oci:${fixture('nydus-oci', 'index')}:index`, `docker://${lazy}`]);
    snapshotter = await startSnapshotter(join(dir, 'l'), process.env);
    containerd = await startContainerd(join(dir, 'c'), { lacuna: snapshotter.address });
  });
  afterAll(async () => {
    await containerd?.[Symbol.asyncDispose]();
    unmountBelow(join(dir, 'c'));
    await snapshotter?.[Symbol.asyncDispose]();
    await registry?.[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true, force: true });
  });
  afterEach(() => unmountBelow(join(dir, 'view')));

  const ctr = (...args: string[]): Promise<Finished> => containerd.ctr(...args);
  const snapshots = (...args: string[]): Promise<Finished> => ctr('snapshots', '--snapshotter', 'lacuna', ...args);
  const snapshotNames = async (): Promise<string[]> =>
    (await snapshots('ls')).stdout
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => line.split(/\s+/)[0]!);

  interface PullDocument {
    readonly schema: string;
    readonly image: string;
    readonly digest: string;
    readonly snapshot: string;
    readonly lazyLayers: number;
    readonly bytes: number;
  }
  const pull = async (image: string, ...flags: string[]): Promise<PullDocument> => {
    const options = ['--containerd', containerd.address, '--namespace', 'default', '--json', '--log-level', 'error'];
    const { stdout } = await run(process.execPath, lacunaArgs('pull', image, ...options, ...flags));
    return JSON.parse(stdout) as PullDocument;
  };

  /** The tree of a view on top of `parent`, as somebody who mounts what containerd hands out sees it. */
  async function viewTree(parent: string, name: string): Promise<Row[]> {
    const target = join(dir, 'view');
    mkdirSync(target, { recursive: true });
    const key = `view-${process.hrtime.bigint()}`;
    execFileSync('sh', ['-euc', await containerd.view(name, key, parent, target)]);
    try {
      return await walk(target);
    } finally {
      execFileSync('umount', [target]);
      await ctr('snapshots', '--snapshotter', name, 'rm', key);
    }
  }

  const runIn = (name: string, image: string, id: string, ...command: string[]): Promise<Finished> =>
    ctr('run', '--rm', '--snapshotter', name, image, id, ...command);

  /** Snapshots that nothing refers to are collected in the background. */
  async function until(what: string, done: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = Date.now() + 20_000;
    while (!(await done())) {
      if (Date.now() > deadline) throw new Error(`in vain: ${what}\n${snapshotter.process.output()}`);
      await sleep(50);
    }
  }

  test('a plain image has the same content as with overlayfs', async () => {
    await ctr('images', 'pull', '--plain-http', '--snapshotter', 'overlayfs', box);
    await ctr('images', 'pull', '--plain-http', '--snapshotter', 'lacuna', box);
    const top = await chainIdOf(containerd, box);
    const native = await viewTree(top, 'overlayfs');
    expect(native.length).toBeGreaterThan(30);
    // The root's time is that of unpacking, in both.
    const time: TimeRule = (row, other) => row.path === '/' || exactTime(row, other);
    expect(diffTrees(native, await viewTree(top, 'lacuna'), { time })).toEqual([]);

    const script =
      'echo new > /etc/app/one; rm /etc/app/two; find / -xdev | sort; ls -lan /etc /etc/app /home /usr; cat /etc/app/one';
    const [ours, theirs] = [
      await runIn('lacuna', box, `box1-${process.pid}`, 'sh', '-c', script),
      await runIn('overlayfs', box, `box1-${process.pid}`, 'sh', '-c', script),
    ];
    const timeless = (text: string) => text.replaceAll(/[A-Z][a-z]{2} [ \d]\d \d\d:\d\d/g, 'time');
    expect(timeless(ours.stdout)).toBe(timeless(theirs.stdout));
    expect(ours.stdout).toMatch(/new\n$/);
  });

  test('usage of a plain image is that of overlayfs', async () => {
    const usage = async (name: string): Promise<string[]> =>
      (await ctr('snapshots', '--snapshotter', name, 'usage', '-b')).stdout
        .split('\n')
        .filter((line) => line.startsWith('sha256:'))
        .map((line) => line.trim().replaceAll(/\s+/g, ' '))
        .sort();
    const [ours, theirs] = [await usage('lacuna'), await usage('overlayfs')];
    expect(theirs.length).toBe(3);
    expect(ours.filter((line) => theirs.some((other) => other.split(' ')[0] === line.split(' ')[0]))).toEqual(theirs);
  });

  test('lacuna pull unpacks a plain image; its layers are verified and named as by ctr', async () => {
    const document = await pull(box, '--snapshotter', 'native');
    expect(document).toMatchObject({ schema: 'lacuna.pull.v1', image: box, lazyLayers: 0 });
    expect(document.snapshot).toBe(await chainIdOf(containerd, box));
    const output = await runIn('native', box, `box2-${process.pid}`, 'cat', '/etc/app/old/fresh');
    expect(output.stdout).toBe('fresh\n');
  });

  test('plain ctr sends no labels, so it cannot have an image that is only lazy; lacuna pull can', async () => {
    const layout = join(dir, 'retyped');
    retype(fixture('nydus-oci', 'index'), layout);
    const image = `${registry.address}/tame:retyped`;
    await run('skopeo', [...COPY, `oci:${layout}:retyped`, `docker://${image}`]);
    const pulling = ctr('images', 'pull', '--plain-http', '--snapshotter', 'lacuna', image);
    await expect(pulling).rejects.toThrow('nydus.blob.v1');
    expect(await pull(image)).toMatchObject({ lazyLayers: 4 });
    await ctr('images', 'rm', '--sync', image);
  });

  test.each(['index', 'referrer'])(
    'plain ctr pulls the original of an %s, lacuna pull the lazy image',
    async (form) => {
      const image = `${registry.address}/${form}/box:1`;
      const flags = ['--as', form, '--json', '--log-level', 'error'];
      const { stdout } = await lacuna(['convert', `docker://${box}`, `docker://${image}`, ...flags]);
      const { images } = JSON.parse(stdout) as { images: Array<{ digest: string; layers: unknown[] }> };
      await ctr('images', 'pull', '--plain-http', '--snapshotter', 'overlayfs', image);
      // The same layers as those of the image that was converted, from overlayfs' own snapshots.
      const plain = await runIn('overlayfs', image, `plain-${form}-${process.pid}`, 'cat', '/etc/app/old/fresh');
      expect(plain.stdout).toBe('fresh\n');
      await ctr('images', 'rm', '--sync', image);

      const document = await pull(image);
      expect(document.digest).toBe(images[0]!.digest);
      expect(document.lazyLayers).toBeGreaterThan(1);
      const ours = await runIn('lacuna', image, `lazy-${form}-${process.pid}`, 'cat', '/etc/app/old/fresh');
      expect(ours.stdout).toBe('fresh\n');
      if (form === 'referrer') {
        expect(await pull(image, '--no-referrers', '--snapshotter', 'native')).toMatchObject({ lazyLayers: 0 });
      }
      await ctr('images', 'rm', '--sync', image);
    },
  );

  test('a lazy image has the tree of the original, and only its bootstrap is fetched', async () => {
    const document = await pull(lazy);
    expect(document).toMatchObject({ schema: 'lacuna.pull.v1', image: lazy, lazyLayers: 4 });
    expect(document.bytes).toBeLessThan(40_000);
    expect(await snapshotNames()).toContain(document.snapshot);
    const truth = readRows(fixture('truth', 'tame-mini.merged.jsonl'));
    expect(diffTrees(truth, await viewTree(document.snapshot, 'lacuna'), { time: nydusImageTime })).toEqual([]);
    // Pulled once more: all is there.
    expect(await pull(lazy)).toMatchObject({ snapshot: document.snapshot, lazyLayers: 4 });
  });

  test('a container runs on it and writes to its own layer only', async () => {
    const mount = `type=bind,src=${BUSYBOX},dst=/busybox,options=rbind:ro`;
    const script = 'echo mine > /etc/mine && cat /etc/mine && /busybox ls /';
    const flags = ['run', '--rm', '--snapshotter', 'lacuna', '--mount', mount, lazy];
    const first = await ctr(...flags, `lazy1-${process.pid}`, '/busybox', 'sh', '-c', script);
    expect(first.stdout).toMatch(/^mine\n/);
    const second = await ctr(
      ...flags,
      `lazy2-${process.pid}`,
      '/busybox',
      'sh',
      '-c',
      'test ! -e /etc/mine && echo clean',
    );
    expect(second.stdout).toBe('clean\n');
  });

  /** Starts a container on the lazy image that writes a line every 100 ms; the function gives what it wrote so far. */
  async function reader(id: string): Promise<() => string> {
    const out = join(dir, `${id}.log`);
    const mount = `type=bind,src=${BUSYBOX},dst=/busybox,options=rbind:ro`;
    const loop =
      'while :; do /busybox find / -xdev -type f -exec /busybox cat {} + >/dev/null && echo ok; /busybox sleep 0.1; done';
    const flags = ['run', '--detach', '--snapshotter', 'lacuna', '--log-uri', `file://${out}`, '--mount', mount, lazy];
    await ctr(...flags, id, '/busybox', 'sh', '-c', loop);
    await until('the container writes', () => existsSync(out) && readFileSync(out, 'utf8').includes('ok'));
    return () => readFileSync(out, 'utf8');
  }

  async function goesOn(output: () => string): Promise<void> {
    const before = output().length;
    await until('the container goes on', () => output().length > before + 6);
    expect(output()).toMatch(/^(ok\n)+$/);
  }

  /** A new one on the same root. containerd connects to it again when its pause is over, a second after the loss or more. */
  async function restartSnapshotter(): Promise<void> {
    snapshotter = await startSnapshotter(join(dir, 'l'), process.env);
    const answers = () =>
      snapshotNames().then(
        () => true,
        () => false,
      );
    await until('containerd connects again', answers);
  }

  test('snapshotter and containerd killed and started again: containers go on, snapshots are there', async () => {
    const output = await reader(READER);
    const before = await snapshotNames();
    const { pid } = snapshotter.process.child;
    process.kill(pid!, 'SIGKILL');
    await goesOn(output);
    rmSync(snapshotter.address);
    await restartSnapshotter();
    await goesOn(output);
    expect(await snapshotNames()).toEqual(before);

    await containerd.process.stop();
    containerd = await startContainerd(join(dir, 'c'), { lacuna: snapshotter.address });
    await goesOn(output);
    expect(await snapshotNames()).toEqual(before);
    const again = await ctr('task', 'exec', '--exec-id', 'e', READER, '/busybox', 'echo', 'inside');
    expect(again.stdout).toBe('inside\n');
    await ctr('task', 'kill', '--signal', 'SIGKILL', READER);
    await until('the task ends', async () => /STOPPED/.test((await ctr('task', 'ls')).stdout));
    await ctr('task', 'rm', READER);
    await ctr('container', 'rm', READER);
  });

  test('a second snapshotter on the same root is refused, naming the first', async () => {
    const other = lacunaArgs('snapshotter', '--root', snapshotter.root, '--address', join(dir, 'other.sock'));
    await expect(run(process.execPath, other)).rejects.toThrow(`pid ${snapshotter.process.child.pid}`);
  });

  test('a configuration with an unknown key is refused with a suggestion', async () => {
    const config = join(dir, 'bad.toml');
    execFileSync('sh', ['-c', `printf 'version = 1\\n[registry]\\nplain_htp = []\\n' > ${config}`]);
    const args = lacunaArgs(
      'snapshotter',
      '--root',
      join(dir, 'x'),
      '--address',
      join(dir, 'x.sock'),
      '--config',
      config,
    );
    await expect(run(process.execPath, args)).rejects.toThrow('did you mean registry.plain_http');
  });

  test('after everything of the host has ended, images are mounted again from the cache, without the registry', async () => {
    await registry.process.stop();
    await snapshotter.process.stop();
    const ended = await lacuna(['cleanup', '--root', snapshotter.root, '--json']);
    expect(JSON.parse(ended.stdout)).toMatchObject({ schema: 'lacuna.cleanup.v1', holder: true });
    expect(mountsBelow(snapshotter.root)).toEqual([]);

    await restartSnapshotter();
    const { stdout } = await ctr('images', 'ls', '-q');
    expect(stdout).toContain(lazy);
    const mount = `type=bind,src=${BUSYBOX},dst=/busybox,options=rbind:ro`;
    const flags = ['run', '--rm', '--snapshotter', 'lacuna', '--mount', mount, lazy, `again-${process.pid}`];
    const read = 'find / -xdev -type f -exec /busybox cat {} + >/dev/null && echo all';
    expect((await ctr(...flags, '/busybox', 'sh', '-c', `/busybox ${read}`)).stdout).toBe('all\n');
  });

  test('the last container and the image removed: mount and cache are gone', async () => {
    const cache = join(snapshotter.root, 'cache');
    expect(readdirSync(cache).length).toBeGreaterThan(0);
    expect(mountsBelow(join(snapshotter.root, 'snapshotter')).map(({ type }) => type)).toEqual(['erofs']);
    await ctr('images', 'rm', '--sync', lazy);
    await until('the cache is freed', () => readdirSync(cache).length === 0);
    expect(mountsBelow(join(snapshotter.root, 'snapshotter'))).toEqual([]);
    await ctr('images', 'rm', '--sync', box);
    await until('all snapshots are gone', async () => (await snapshotNames()).length === 0);
    expect(readdirSync(join(snapshotter.root, 'snapshotter', 'snapshots'))).toEqual([]);
    expect(readdirSync(join(snapshotter.root, 'snapshotter', 'images'))).toEqual([]);
  });
});

/** The chain ID of an image's top layer, from its config as containerd has it. */
async function chainIdOf(containerd: Containerd, image: string): Promise<string> {
  const { stdout } = await containerd.ctr('images', 'ls');
  const target = stdout
    .split('\n')
    .find((line) => line.startsWith(image))!
    .split(/\s+/)[2]!;
  const content = async (digest: string) => JSON.parse((await containerd.ctr('content', 'get', digest)).stdout);
  const config = await content((await content(target)).config.digest);
  const [first, ...rest] = config.rootfs.diff_ids as string[];
  return rest.reduce(
    (chain, diff) => `sha256:${createHash('sha256').update(`${chain} ${diff}`).digest('hex')}`,
    first!,
  );
}
