/** The name of an image in an archive: the target's, or else the source's. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { convert } from '../../../src/convert/convert.ts';
import { openStore } from '../../../src/registry/open.ts';
import { unpack } from '../../../src/unpack/unpack.ts';
import { startRegistry } from '../../kit/registry.ts';
import { needs } from '../../kit/skip.ts';
import { sourceLayout } from '../../kit/source-image.ts';
import { END, member } from '../../kit/tar.ts';

describe.skipIf(needs('addon').reason)('the name of an image in an archive', () => {
  const dir = mkdtempSync(join(tmpdir(), 'convert-names-'));
  afterAll(() => rmSync(dir, { recursive: true }));
  const layout = join(dir, 'layout');
  const source = sourceLayout(layout, { layers: [{ tar: Buffer.concat([member({ name: 'a', data: 'a' }), END]) }] });
  const refName = async (path: string): Promise<string | undefined> => {
    await using store = await openStore({ transport: 'oci-archive', path, ref: null });
    return (await store.resolve(null)).annotations?.['org.opencontainers.image.ref.name'];
  };

  it('is taken from the source when the target has no name', async () => {
    const saved = join(dir, 'saved.tar');
    await unpack(source, `docker-archive:${saved}:team/app:v9`, { platform: 'linux/amd64' });
    const path = join(dir, 'lazy.tar');
    const { name, target } = await convert(`docker-archive:${saved}`, `oci-archive:${path}`);
    expect([name, target]).toEqual(['docker.io/team/app:v9', `oci-archive:${path}`]);
    expect(await refName(path)).toBe('docker.io/team/app:v9');
    await convert(source, `oci-archive:${path}`);
    expect(await refName(path)).toBe('image');
  });

  it('is a registry’s with its tag', async () => {
    await using registry = await startRegistry();
    registry.storage.putLayout('team/app', layout);
    const path = join(dir, 'pulled.tar');
    await convert(`docker://${registry.host}/team/app:image`, `oci-archive:${path}`);
    expect(await refName(path)).toBe(`${registry.host}/team/app:image`);
    const digest = registry.storage.repository('team/app').tags.get('image')!;
    expect((await convert(`docker://${registry.host}/team/app@${digest}`, `oci-archive:${path}`)).name).toBeNull();
    expect(await refName(path)).toBeUndefined();
  });

  it('is the target’s where it has one', async () => {
    const path = join(dir, 'named.tar');
    expect((await convert(source, `oci-archive:${path}:other:v1`)).name).toBe('other:v1');
    expect(await refName(path)).toBe('other:v1');
  });
});
