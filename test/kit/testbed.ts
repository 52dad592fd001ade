/**
 * What the demo and the tests of the whole path are made of: a real image in a real registry behind a link, pulled and
 * run by a real containerd, in full or lazily.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkout, demoImageDir } from '#cache';
import { type Containerd, startContainerd } from './containerd.ts';
import { type DockerRegistry, dockerRegistry } from './docker-registry.ts';
import { lacuna, lacunaArgs, type Snapshotter, startSnapshotter } from './lacuna.ts';
import { unmountBelow } from './mounts.ts';
import { run } from './process.ts';
import { type LinkShape, ShapedLink } from './shaped-link.ts';

/** The link of the published comparison: 10 ms, 200 Mbit/s. */
export const DEFAULT_LINK: LinkShape = { rtt: 10, bandwidth: 200e6 };

/** What the container runs: its first output shows that it has started. */
export const COMMAND = ['python3', '-c', 'import numpy, json, ssl, asyncio, sqlite3; print(123)'];
export const EXPECTED_OUTPUT = '123\n';

/** Names in the registry. */
const ORIGINAL = 'demo:latest';
export const LAZY = 'demo:lazy';

export interface DemoImage {
  /** OCI layout; the image in it is called `demo`. */
  readonly layout: string;
  /** Sum of the compressed layers. */
  readonly bytes: number;
  readonly layers: number;
}

interface Sized {
  readonly digest: string;
  readonly size: number;
}

/** The demo's image, built when it is not in the cache. */
export async function demoImage(signal?: AbortSignal): Promise<DemoImage> {
  const layout = demoImageDir();
  const script = join(checkout, 'scripts', 'demo-image.sh');
  const build = spawn(script, [layout], {
    stdio: ['ignore', 'ignore', 2],
    ...(signal === undefined ? {} : { signal }),
  });
  const [code] = (await once(build, 'close')) as [number | null];
  if (code !== 0) throw new Error('the image of the demo could not be built');
  const read = (path: string): unknown => JSON.parse(readFileSync(join(layout, path), 'utf8'));
  const { manifests } = read('index.json') as { manifests: Sized[] };
  const { layers } = read(join('blobs', manifests[0]!.digest.replace(':', '/'))) as { layers: Sized[] };
  return { layout, bytes: layers.reduce((sum, layer) => sum + layer.size, 0), layers: layers.length };
}

/** A registry that has the image as {@link ORIGINAL}. */
export async function demoRegistry(dir: string, image: DemoImage, signal?: AbortSignal): Promise<DockerRegistry> {
  const registry = await dockerRegistry(dir);
  try {
    const copy = ['copy', '--quiet', '--insecure-policy', '--dest-tls-verify=false'];
    await run('skopeo', [...copy, `oci:${image.layout}:demo`, `docker://${registry.address}/${ORIGINAL}`], { signal });
    return registry;
  } catch (error) {
    await registry[Symbol.asyncDispose]();
    throw error;
  }
}

/** Converts {@link ORIGINAL} to {@link LAZY}, both in the registry. */
export async function convertDemo(registry: DockerRegistry, signal?: AbortSignal): Promise<void> {
  const [from, to] = [ORIGINAL, LAZY].map((name) => `docker://${registry.address}/${name}`);
  await lacuna(['convert', from!, to!, '--progress', 'none'], { signal });
}

export interface Start {
  /** From the pull command to the container's first output. */
  readonly seconds: number;
  /** Bytes and requests that travelled until the container's process had ended. */
  readonly bytes: number;
  readonly requests: number;
  readonly output: string;
}

type Command = readonly [program: string, args: readonly string[]];

/** Runs `pull`, then `container`, over caches that are cold; the clock stops at the first byte of the container's output. */
async function measure(link: ShapedLink, pull: Command, container: Command, signal?: AbortSignal): Promise<Start> {
  await dropCaches();
  const before = { ...link.counters };
  const began = performance.now();
  await run(...pull, { signal });
  let seconds = Number.NaN;
  const { stdout } = await run(...container, {
    signal,
    onOutput: () => {
      if (Number.isNaN(seconds)) seconds = (performance.now() - began) / 1000;
    },
  });
  return {
    seconds,
    bytes: link.counters.bytes - before.bytes,
    requests: link.counters.requests - before.requests,
    output: stdout,
  };
}

export const dropCaches = (): Promise<unknown> => run('sh', ['-c', 'sync; echo 3 >/proc/sys/vm/drop_caches']);

/** A fresh containerd pulls the whole original and runs the command on overlayfs. */
export async function fullPullAndRun(dir: string, link: ShapedLink, signal?: AbortSignal): Promise<Start> {
  try {
    await using containerd = await startContainerd(dir);
    const image = `${link.address}/${ORIGINAL}`;
    const pull = containerd.ctrArgs('images', 'pull', '--plain-http', image);
    const container = containerd.ctrArgs('run', ...containerd.runFlags, image, 'full', ...COMMAND);
    return await measure(link, ['ctr', pull], ['ctr', container], signal);
  } finally {
    unmountBelow(dir);
  }
}

/** A fresh containerd with a fresh Lacuna as its remote snapshotter. */
export class LazyHost implements AsyncDisposable {
  readonly snapshotter: Snapshotter;
  readonly containerd: Containerd;
  private readonly dir: string;

  private constructor(dir: string, snapshotter: Snapshotter, containerd: Containerd) {
    this.dir = dir;
    this.snapshotter = snapshotter;
    this.containerd = containerd;
  }

  static async start(dir: string, env: NodeJS.ProcessEnv = {}): Promise<LazyHost> {
    const snapshotter = await startSnapshotter(join(dir, 'l'), env);
    try {
      const containerd = await startContainerd(join(dir, 'c'), { lacuna: snapshotter.address });
      return new LazyHost(dir, snapshotter, containerd);
    } catch (error) {
      await snapshotter[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Arguments for Node that pull `image` (`HOST/NAME`) lazily. */
  pullArgs(image: string): string[] {
    const { address } = this.containerd;
    return lacunaArgs(
      'pull',
      `docker://${image}`,
      '--containerd',
      address,
      '--namespace',
      'default',
      '--snapshotter',
      'lacuna',
      '--progress',
      'none',
    );
  }

  async pull(image: string): Promise<void> {
    await run(process.execPath, this.pullArgs(image));
  }

  /** Arguments for `ctr` that run a command in a new container of a pulled image. */
  runArgs(image: string, id: string, command: readonly string[], ...flags: string[]): string[] {
    const { ctrArgs, runFlags } = this.containerd;
    return ctrArgs('run', ...runFlags, '--snapshotter', 'lacuna', ...flags, image, id, ...command);
  }

  /** Pulls {@link LAZY} over the link and runs the command; to be called on a host that has not pulled yet. */
  async pullAndRun(link: ShapedLink, signal?: AbortSignal): Promise<Start> {
    const image = `${link.address}/${LAZY}`;
    const container = this.runArgs(image, 'lazy', COMMAND);
    return await measure(link, [process.execPath, this.pullArgs(image)], ['ctr', container], signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.containerd[Symbol.asyncDispose]();
    unmountBelow(join(this.dir, 'c'));
    await this.snapshotter[Symbol.asyncDispose]();
  }
}

/** Opens a link of this shape in front of the registry. */
export const linkTo = (registry: DockerRegistry, shape: LinkShape = DEFAULT_LINK): Promise<ShapedLink> =>
  ShapedLink.open({ host: '127.0.0.1', port: registry.port }, shape);
