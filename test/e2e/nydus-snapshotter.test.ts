/** Lazy images through CRI: what Lacuna has written runs unchanged under Nydus's own snapshotter and daemon. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeBoxImage } from '../kit/box-image.ts';
import { CriHost, pushSandboxImage } from '../kit/cri.ts';
import type { DockerRegistry } from '../kit/docker-registry.ts';
import { lacuna, startSnapshotter } from '../kit/lacuna.ts';
import { mountsBelow, unmountBelow } from '../kit/mounts.ts';
import { nydusCheck } from '../kit/nydus.ts';
import { startNydusSnapshotter } from '../kit/nydus-snapshotter.ts';
import { waitUntil } from '../kit/process.ts';
import { needs } from '../kit/skip.ts';
import { COMMAND, convertDemo, demoImage, demoRegistry, EXPECTED_OUTPUT, LAZY } from '../kit/testbed.ts';

const skip = needs(
  'root',
  'fuse',
  'erofs',
  'overlay',
  'addon',
  'holder',
  'dist',
  'better-sqlite3',
  'busybox',
  'containerd',
  'runc',
  'docker-registry',
  'skopeo',
  'tar',
  'umoci',
  'debootstrap',
  'crictl',
);
const nydus = needs('containerd-nydus-grpc', 'nydusd', 'nydus-image');

async function layersOf(registry: DockerRegistry, image: string): Promise<string[]> {
  const [name, tag] = image.split(':');
  const answer = await fetch(`http://${registry.address}/v2/${name}/manifests/${tag}`, {
    headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
  });
  const { layers } = (await answer.json()) as { layers: { digest: string }[] };
  return layers.map(({ digest }) => digest);
}

const hexOf = (digest: string): string => digest.slice('sha256:'.length);

/** A folder with the blobs under their ids, out of a registry's storage. */
function blobFolder(registry: string, digests: readonly string[], folder: string): string {
  mkdirSync(folder);
  for (const hex of digests.map(hexOf)) {
    const stored = join(registry, 'data/docker/registry/v2/blobs/sha256', hex.slice(0, 2), hex, 'data');
    symlinkSync(stored, join(folder, hex));
  }
  return folder;
}

/** Where nydus-snapshotter has unpacked the bootstrap. */
function bootstrapBelow(root: string): string {
  const files = readdirSync(join(root, 'snapshots')).map((id) => join(root, 'snapshots', id, 'fs/image/image.boot'));
  return files.find((file) => existsSync(file))!;
}

describe.skipIf(skip.reason)('lazy images through CRI', { timeout: 300_000 }, () => {
  const dir = mkdtempSync(join(tmpdir(), 'lc-'));
  let registry: DockerRegistry;
  let sandbox: string;
  /** Digests of the converted image's data blobs. */
  let blobs: string[];

  beforeAll(async () => {
    registry = await demoRegistry(join(dir, 'r'), await demoImage());
    await convertDemo(registry);
    blobs = (await layersOf(registry, LAZY)).slice(0, -1);
    sandbox = await pushSandboxImage(registry, join(dir, 'pause'));
  }, 900_000);
  afterAll(async () => {
    await registry?.[Symbol.asyncDispose]();
    unmountBelow(dir);
    rmSync(dir, { recursive: true });
  });

  /** Pulls the lazy image, runs the command, removes the image; no data blob travels into containerd's store meanwhile. */
  async function pullRunRemove(host: CriHost, whilePulled: () => void | Promise<void>): Promise<void> {
    const image = `${registry.address}/${LAZY}`;
    await host.pull(image);
    expect(await host.run(image, COMMAND)).toBe(EXPECTED_OUTPUT);
    const content = await host.content();
    expect(content.length).toBeGreaterThan(0);
    for (const blob of blobs) expect(content).not.toContain(blob);
    await whilePulled();
    await host.remove(image);
  }

  it('the demo image runs under lacuna snapshotter', async () => {
    await using snapshotter = await startSnapshotter(join(dir, 'l'));
    await using host = await CriHost.start(join(dir, 'lc'), snapshotter.address, sandbox);
    const mounted = (): boolean => mountsBelow(snapshotter.root).some(({ type }) => type === 'erofs');
    await pullRunRemove(host, () => expect(mounted()).toBe(true));
    await waitUntil(snapshotter.process, 'unmounting of the removed image', () => !mounted());
  });

  it.skipIf(nydus.reason)('the demo image runs unchanged under nydus-snapshotter', async () => {
    await using snapshotter = await startNydusSnapshotter(join(dir, 'n'));
    await using host = await CriHost.start(join(dir, 'nc'), snapshotter.address, sandbox);
    await pullRunRemove(host, async () => {
      expect(mountsBelow(snapshotter.root).some(({ type }) => type.startsWith('fuse'))).toBe(true);
      const check = await nydusCheck(
        bootstrapBelow(snapshotter.root),
        blobFolder(join(dir, 'r'), blobs, join(dir, 'b')),
      );
      expect(check).toContain('metadata is valid');
      for (const blob of blobs) expect(check).toContain(hexOf(blob));
    });
    expect(snapshotter.log()).not.toMatch(/\bERROR\b|level=error/);
  });

  describe('one index with the original and the lazy manifest', () => {
    const COMMAND = ['/bin/cat', '/etc/app/old/fresh'];
    let image: string;

    beforeAll(async () => {
      const layout = join(dir, 'box');
      makeBoxImage(layout);
      image = `${registry.address}/box:index`;
      await lacuna(['convert', `oci:${layout}:box`, `docker://${image}`, '--as', 'index', '--progress', 'none']);
    });

    it('is an ordinary image to a containerd without any of this', async () => {
      await using host = await CriHost.start(join(dir, 'oc'), null, sandbox);
      await host.pull(image);
      expect(await host.run(image, COMMAND)).toBe('fresh\n');
    });

    it.skipIf(nydus.reason)('is run lazily by nydus-snapshotter, which finds it in the index', async () => {
      await using snapshotter = await startNydusSnapshotter(join(dir, 'ni'), { indexDetect: true });
      await using host = await CriHost.start(join(dir, 'nic'), snapshotter.address, sandbox);
      await host.pull(image);
      expect(await host.run(image, COMMAND)).toBe('fresh\n');
      expect(mountsBelow(snapshotter.root).some(({ type }) => type.startsWith('fuse'))).toBe(true);
    });
  });
});
