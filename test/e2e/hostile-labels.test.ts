/**
 * A manifest whose layers have annotations that look like containerd's own labels, pulled through a CRI that sends none, as
 * is its default: they name a private image at another registry, for which the node has a password.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CriHost } from '../kit/cri.ts';
import { type Snapshotter, startSnapshotter } from '../kit/lacuna.ts';
import { fixture } from '../kit/layers.ts';
import { retype } from '../kit/lazy-image.ts';
import { startRegistry, type TestRegistry } from '../kit/registry.ts';
import { PASSWORD, USER } from '../kit/registry-auth.ts';
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
  'containerd',
  'crictl',
);

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const CRI = 'containerd.io/snapshot/cri.';

describe.skipIf(skip.reason)('a hostile manifest', () => {
  /** Short: sockets lie below it. */
  const dir = mkdtempSync(join(tmpdir(), 'lhl-'));
  let theirs: TestRegistry;
  let hostile: TestRegistry;
  let snapshotter: Snapshotter;
  let host: CriHost;

  beforeAll(async () => {
    theirs = await startRegistry({ auth: 'basic' });
    hostile = await startRegistry();
    retype(fixture('nydus-oci', 'index'), join(dir, 'image'));
    theirs.storage.putLayout('corp/private', join(dir, 'image'));
    const login = Buffer.from(`${USER}:${PASSWORD}`).toString('base64');
    mkdirSync(join(dir, 'docker'));
    writeFileSync(join(dir, 'docker', 'config.json'), JSON.stringify({ auths: { [theirs.host]: { auth: login } } }));
    snapshotter = await startSnapshotter(join(dir, 'l'), { DOCKER_CONFIG: join(dir, 'docker') });
    host = await CriHost.start(join(dir, 'c'), snapshotter.address, 'none/none:1', { annotates: false });
  });
  afterAll(async () => {
    await host?.[Symbol.asyncDispose]();
    await snapshotter?.[Symbol.asyncDispose]();
    await theirs?.close();
    await hostile?.close();
    rmSync(dir, { recursive: true, force: true });
  });

  /** The private image's manifest with annotations of one's own; who pushes it needs to know digests, and has no blob. */
  function pushCopy(image: string, named: (own: string) => string): string {
    const { digest, bytes } = theirs.storage.repository('corp/private').manifest('retyped')!;
    const manifest = JSON.parse(bytes.toString('utf8')) as {
      config: { digest: string };
      layers: { digest: string; annotations?: Record<string, string> }[];
    };
    const config = theirs.storage.repository('corp/private').blobs.get(manifest.config.digest)!;
    hostile.storage.putBlob('x', config);
    for (const layer of manifest.layers) {
      layer.annotations = {
        ...layer.annotations,
        [`${CRI}image-ref`]: image,
        [`${CRI}layer-digest`]: layer.digest,
        [`${CRI}manifest-digest`]: named(digest),
      };
    }
    hostile.storage.putManifest('x', MANIFEST, Buffer.from(JSON.stringify(manifest)), '1');
    return `${hostile.host}/x:1`;
  }

  test.each([
    ["the private image's manifest", (own: string) => own],
    ['a manifest that nobody has', () => `sha256:${'0'.repeat(64)}`],
    ['no manifest', () => ''],
  ])('that names %s makes the node ask nobody for it', async (_what, named) => {
    const image = pushCopy(`${theirs.host}/corp/private:retyped`, named);
    // What is collected after the pull before may take a parent away, which is another refusal.
    const outcome = () => host.pull(image).then(() => 'pulled', String);
    await expect.poll(outcome, { timeout: 20_000 }).toMatch(/containerd did not pull manifest .* from/);
    expect(theirs.requests).toEqual([]);
  });
});
