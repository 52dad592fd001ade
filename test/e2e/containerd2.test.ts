/** containerd 2: its transfer service pulls lazily by itself, since it is told to pass the labels on. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BUSYBOX, makeBoxImage } from '../kit/box-image.ts';
import { type Containerd, startContainerd } from '../kit/containerd.ts';
import { BUILD_MILLISECONDS, containerd2 } from '../kit/containerd2.ts';
import { type DockerRegistry, dockerRegistry } from '../kit/docker-registry.ts';
import { type Snapshotter, startSnapshotter } from '../kit/lacuna.ts';
import { fixture } from '../kit/layers.ts';
import { retype } from '../kit/lazy-image.ts';
import { unmountBelow } from '../kit/mounts.ts';
import { run } from '../kit/process.ts';
import { needs } from '../kit/skip.ts';

const skip = needs(
  'root',
  'dist',
  'addon',
  'holder',
  'fuse',
  'erofs',
  'overlay',
  'better-sqlite3',
  'go 1.26',
  'runc',
  'docker-registry',
  'skopeo',
  'busybox',
  'tar',
);

describe.skipIf(skip.reason)('containerd 2.3', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lac-'));
  let registry: DockerRegistry;
  let snapshotter: Snapshotter;
  let containerd: Containerd;

  beforeAll(async () => {
    const programs = await containerd2();
    registry = await dockerRegistry(join(dir, 'r'));
    snapshotter = await startSnapshotter(join(dir, 'l'), process.env);
    containerd = await startContainerd(join(dir, 'c'), { lacuna: snapshotter.address, containerd2: programs });
  }, BUILD_MILLISECONDS);
  afterAll(async () => {
    await containerd?.[Symbol.asyncDispose]();
    unmountBelow(join(dir, 'c'));
    await snapshotter?.[Symbol.asyncDispose]();
    await registry?.[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true, force: true });
  });

  /** Pushes a layout's image, has containerd's own client pull it, runs a command in it. */
  async function pullAndRun(layout: string, name: string, command: string[], ...flags: string[]): Promise<string> {
    const image = `${registry.address}/${name}:1`;
    const copy = ['copy', '--quiet', '--insecure-policy', '--dest-tls-verify=false'];
    await run('skopeo', [...copy, `oci:${layout}`, `docker://${image}`]);
    await containerd.ctr('images', 'pull', '--plain-http', '--snapshotter', 'lacuna', image);
    const { stdout } = await containerd.ctr(
      'run',
      '--rm',
      '--snapshotter',
      'lacuna',
      ...flags,
      image,
      name,
      ...command,
    );
    return stdout;
  }

  test('a plain image', async () => {
    makeBoxImage(join(dir, 'box'));
    expect(await pullAndRun(`${join(dir, 'box')}:box`, 'box', ['cat', '/etc/app/old/fresh'])).toBe('fresh\n');
  });

  test('a lazy image: no data layer is downloaded', async () => {
    const layout = join(dir, 'lazy');
    retype(fixture('nydus-oci', 'index'), layout);
    const mount = `type=bind,src=${BUSYBOX},dst=/busybox,options=rbind:ro`;
    const output = await pullAndRun(`${layout}:retyped`, 'lazy', ['/busybox', 'ls', '/'], '--mount', mount);
    expect(output.split('\n')).toEqual(expect.arrayContaining(['busybox', 'links', 'wh']));
    const content = (await containerd.ctr('content', 'ls', '-q')).stdout.split('\n');
    // The data layers of the image, by their digests.
    expect(content).not.toContain('sha256:d43550ed52328f9cb2d884b83083e155cf2a02241ab66be6743b3ca412caff4e');
    expect(content).not.toContain('sha256:5d7d06eacaf4e58f29eedb07ba550ae0a2ee763b90444001a7446baba58ea46f');
  });
});
