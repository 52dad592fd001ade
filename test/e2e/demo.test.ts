/** The main job on a real image: pulled lazily by a real containerd, compared with what independent tools make of it. */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkout } from '#cache';
import { connectDaemon } from '../../src/daemon/client.ts';
import type { DockerRegistry } from '../kit/docker-registry.ts';
import { unmountBelow } from '../kit/mounts.ts';
import { nydusMount } from '../kit/nydus.ts';
import { run } from '../kit/process.ts';
import type { ShapedLink } from '../kit/shaped-link.ts';
import { needs } from '../kit/skip.ts';
import {
  COMMAND,
  convertDemo,
  type DemoImage,
  demoImage,
  demoRegistry,
  EXPECTED_OUTPUT,
  LAZY,
  LazyHost,
  linkTo,
  type Start,
} from '../kit/testbed.ts';
import { diffTrees, nydusReaderTime, type Row, walk } from '../kit/tree.ts';

const path = needs('root', 'fuse', 'erofs', 'overlay', 'addon', 'holder', 'dist', 'better-sqlite3');
const tools = needs('containerd', 'runc', 'docker-registry', 'skopeo', 'umoci', 'debootstrap', 'python3', 'fsck.erofs');
const oracle = needs('nydus-mount');

/** The tree as umoci unpacks it. */
async function unpacked(image: DemoImage, dir: string): Promise<Row[]> {
  await run('umoci', ['unpack', '--image', `${image.layout}:demo`, dir]);
  return await walk(join(dir, 'rootfs'));
}

/** A View of the image's topmost snapshot, mounted at `target`. */
async function mountView(host: LazyHost, target: string): Promise<void> {
  const snapshots = (...args: string[]) => host.containerd.ctr('snapshots', '--snapshotter', 'lacuna', ...args);
  const rows = (await snapshots('ls')).stdout
    .trimEnd()
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/));
  const committed = rows.filter((row) => row.at(-1) === 'Committed');
  const top = committed
    .map(([key]) => key!)
    .filter((key) => !committed.some((row) => row.length === 3 && row[1] === key));
  expect(top).toHaveLength(1);
  mkdirSync(target);
  await run('sh', ['-ec', await host.containerd.view('lacuna', 'view', top[0]!, target)]);
}

/** Nothing has travelled for a while: background work that a start left behind is over. */
async function quiet(link: ShapedLink): Promise<void> {
  while (link.quietFor < 2000) await sleep(100);
}

interface Layout {
  readonly blobs: string;
  /** The bootstrap, taken out of the image's last layer. */
  readonly bootstrap: string;
}

/** The converted image as plain files, fetched and unpacked without Lacuna. */
async function fetchLayout(registry: DockerRegistry, dir: string): Promise<Layout> {
  const copy = ['copy', '--quiet', '--insecure-policy', '--src-tls-verify=false'];
  await run('skopeo', [...copy, `docker://${registry.address}/${LAZY}`, `oci:${dir}:lazy`]);
  const read = (name: string): unknown => JSON.parse(readFileSync(join(dir, name), 'utf8'));
  const { manifests } = read('index.json') as { manifests: { digest: string }[] };
  const { layers } = read(join('blobs', manifests[0]!.digest.replace(':', '/'))) as { layers: { digest: string }[] };
  const last = join(dir, 'blobs', layers.at(-1)!.digest.replace(':', '/'));
  const { stdout } = await promisify(execFile)('tar', ['-xzOf', last, 'image/image.boot'], {
    encoding: 'buffer',
    maxBuffer: 1 << 28,
  });
  const bootstrap = join(dir, 'image.boot');
  writeFileSync(bootstrap, stdout);
  return { blobs: join(dir, 'blobs', 'sha256'), bootstrap };
}

describe.skipIf(path.reason ?? tools.reason)('the demo image', { timeout: 600_000 }, () => {
  const dir = mkdtempSync(join(tmpdir(), 'le-'));
  const open: AsyncDisposable[] = [];
  let image: DemoImage;
  let registry: DockerRegistry;
  let link: ShapedLink;
  let host: LazyHost;
  let first: Start;
  let truth: Row[];

  beforeAll(async () => {
    image = await demoImage();
    registry = await demoRegistry(join(dir, 'r'), image);
    open.push(registry);
    await convertDemo(registry);
    link = await linkTo(registry);
    open.push(link);
    host = await LazyHost.start(join(dir, 'h'));
    open.push(host);
    first = await host.pullAndRun(link);
    truth = await unpacked(image, join(dir, 'u'));
  }, 900_000);
  afterAll(async () => {
    try {
      unmountBelow(join(dir, 'view'));
      for (const resource of open.reverse()) await resource[Symbol.asyncDispose]();
    } finally {
      unmountBelow(dir);
      rmSync(dir, { recursive: true });
    }
  }, 120_000);

  it('starts with at most a fifth of its compressed bytes', () => {
    expect(first.output).toBe(EXPECTED_OUTPUT);
    expect(first.bytes / image.bytes).toBeLessThanOrEqual(0.2);
    expect(first.requests).toBeGreaterThan(5);
  });

  it('fetches nothing for a second container that runs the same command', async () => {
    await quiet(link);
    const before = { ...link.counters };
    const second = await run('ctr', host.runArgs(`${link.address}/${LAZY}`, 'second', COMMAND));
    await quiet(link);
    expect(second.stdout).toBe(EXPECTED_OUTPUT);
    expect(link.counters).toEqual(before);
  });

  it('is the same tree as umoci unpacks, seen through a mounted snapshot', async () => {
    await mountView(host, join(dir, 'view'));
    const rows = await walk(join(dir, 'view'));
    expect(rows.length).toBeGreaterThan(10_000);
    expect(diffTrees(truth, rows, { directoryLinks: false })).toEqual([]);
  });

  it('is accepted by fsck.erofs, which reads every file through the devices', async () => {
    using daemon = connectDaemon(host.snapshotter.root);
    const [mounted] = (await daemon.status()).images;
    const devices = mounted!.devices.map((device) => `--device=${device}`);
    // Content is read only when asked to extract; with no folder to extract to it is thrown away.
    const { stdout, stderr } = await run('fsck.erofs', ['--extract', ...devices, mounted!.bootstrap]);
    expect(stdout + stderr).not.toMatch(/<[EW]>/);
    expect((await daemon.status()).devices.every((device) => device.missing === 0)).toBe(true);
  });

  it.skipIf(oracle.reason)("is the same tree to Nydus's own reader", async () => {
    const { blobs, bootstrap } = await fetchLayout(registry, join(dir, 'n'));
    mkdirSync(join(dir, 'nydus'));
    await using _ = await nydusMount(bootstrap, blobs, join(dir, 'nydus'));
    expect(diffTrees(truth, await walk(join(dir, 'nydus')), { time: nydusReaderTime })).toEqual([]);
  });
});

describe.skipIf(path.reason ?? tools.reason)('npm run demo', { timeout: 900_000 }, () => {
  it('ends with its numbers as one line and leaves nothing behind', async () => {
    const leftovers = (): string[] => readdirSync(tmpdir()).filter((name) => name.startsWith('lacuna-demo-'));
    const mounts = (): string => readFileSync('/proc/self/mountinfo', 'utf8');
    const before = leftovers();
    // What `npm run demo -- --json` runs once the clone is set up.
    const { stdout } = await run(process.execPath, [join(checkout, '.cache', 'bench', 'bench', 'demo.js'), '--json']);
    const result = JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as {
      image: { bytes: number };
      fullPull: { seconds: number; bytes: number };
      lazy: { seconds: number; bytes: number; requests: number };
    };
    expect(result.image.bytes).toBeGreaterThan(100e6);
    expect(result.fullPull.bytes).toBeGreaterThan(result.image.bytes);
    expect(result.lazy.bytes / result.image.bytes).toBeLessThanOrEqual(0.2);
    expect(result.lazy.seconds).toBeLessThan(result.fullPull.seconds);
    expect(leftovers()).toEqual(before);
    expect(mounts()).not.toContain('/lacuna-demo-');
  });
});
