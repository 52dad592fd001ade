/** Images whose parts are named by sha512, which image-spec registers beside sha256 (descriptor.md, "Registered algorithms"). */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { check } from '../../../src/check/check.ts';
import { convert } from '../../../src/convert/convert.ts';
import { ls } from '../../../src/inspect/ls.ts';
import { unpack } from '../../../src/unpack/unpack.ts';
import { layoutBlobPath, readConverted, readLayoutJson } from '../../kit/converted.ts';
import { failure } from '../../kit/failure.ts';
import { sha256 } from '../../kit/layers.ts';
import { startRegistry } from '../../kit/registry.ts';
import { needs } from '../../kit/skip.ts';
import { digestOf, putImage, putIndex, putLayout, type SourceImage, type SourceLayer } from '../../kit/source-image.ts';
import { END, member } from '../../kit/tar.ts';

const skip = needs('addon');
const root = mkdtempSync(join(tmpdir(), 'sha512-'));
afterAll(() => rmSync(root, { recursive: true }));
const fresh = (): string => mkdtempSync(join(root, 't-'));

const CONTENT = 'f\n'.repeat(100_000);
const layer = (name: string, fields: Partial<SourceLayer> = {}): SourceLayer => ({
  tar: Buffer.concat([member({ name, data: CONTENT }), END]),
  ...fields,
});
const tar = layer('b').tar;

const FORMS: Readonly<Record<string, SourceImage>> = {
  everything: {
    layers: [layer('a', { algorithm: 'sha512' }), layer('b', { algorithm: 'sha512' })],
    algorithm: 'sha512',
  },
  'config and manifest': { layers: [layer('a'), layer('b')], algorithm: 'sha512' },
  'one layer of two': { layers: [layer('a'), layer('b', { algorithm: 'sha512' })] },
  'one diff ID of two': { layers: [layer('a'), layer('b', { diffId: digestOf(tar, 'sha512') })] },
  'a layer and not its diff ID': {
    layers: [layer('a'), layer('b', { algorithm: 'sha512', diffId: digestOf(tar), how: 'zstd' })],
  },
  'a plain layer and not its diff ID': {
    layers: [layer('a'), layer('b', { algorithm: 'sha512', diffId: digestOf(tar), how: 'none' })],
  },
};

async function filesIn(reference: string): Promise<Record<string, string | undefined>> {
  const files: Record<string, string | undefined> = {};
  for await (const row of ls(reference, { platform: 'linux/amd64', recursive: true, digests: true })) {
    if (row.type === 'reg') files[row.path!] = row.sha256;
  }
  return files;
}
const FILES = { '/a': sha256(Buffer.from(CONTENT)), '/b': sha256(Buffer.from(CONTENT)) };

describe.skipIf(skip.reason).each(Object.entries(FORMS))('sha512 for %s', (_name, image) => {
  test('is read, checked, and unpacked', async () => {
    const dir = fresh();
    const reference = putLayout(dir, putImage(dir, image));
    expect(await filesIn(reference)).toEqual(FILES);
    expect(await check(reference, { deep: true })).toMatchObject({ problems: [], ok: true });
    const tree = join(fresh(), 'tree');
    await unpack(reference, tree);
    expect(readFileSync(join(tree, 'b'), 'latin1')).toBe(CONTENT);
    const plain = `oci:${fresh()}/layout:plain`;
    await unpack(reference, plain, { layers: true });
    expect(await filesIn(plain)).toEqual(FILES);
    expect(await check(plain, { deep: true })).toMatchObject({ problems: [], ok: true });
  });

  test('becomes a lazy image that is named by sha256', async () => {
    const dir = fresh();
    const target = join(fresh(), 'layout');
    const { digest } = await convert(putLayout(dir, putImage(dir, image)), `oci:${target}:lazy`);
    const { manifest, config } = readConverted(target, digest);
    const names = [
      digest,
      manifest.config.digest,
      ...manifest.layers.map((one) => one.digest),
      ...config.rootfs.diff_ids,
    ];
    for (const name of names) expect(name).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(await filesIn(`oci:${target}:lazy`)).toEqual(FILES);
    // The same layers under sha256 become the same blobs.
    const plain = fresh();
    const same = image.layers.map(({ tar, how }) => ({ tar, ...(how === undefined ? {} : { how }) }));
    const there = await convert(putLayout(plain, putImage(plain, { layers: same })), `oci:${target}:same`);
    expect(readConverted(target, there.digest).manifest.layers).toEqual(manifest.layers);
  });

  test('is found in a registry by that digest', async () => {
    const dir = fresh();
    const { digest } = putImage(dir, image);
    putLayout(dir, putImage(dir, image));
    await using registry = await startRegistry();
    registry.storage.putLayout('app', dir);
    expect(await filesIn(`docker://${registry.host}/app@${digest}`)).toEqual(FILES);
    expect(await filesIn(`oci:${dir}:${digest}`)).toEqual(FILES);
  });
});

describe.skipIf(skip.reason)('a sha512', () => {
  const both: SourceImage = FORMS.everything!;

  test.each(['index', 'referrer'] as const)('keeps its digests in the original that is kept as %s', async (as) => {
    const dir = fresh();
    const entry = putImage(dir, both);
    const reference = putLayout(dir, putIndex(dir, [{ ...entry, platform: { os: 'linux', architecture: 'amd64' } }]));
    await using registry = await startRegistry();
    registry.storage.putLayout('from', dir);
    const layout = join(fresh(), 'layout');
    for (const target of [`oci:${layout}:${as}`, `docker://${registry.host}/to:${as}`]) {
      for (const source of [reference, `docker://${registry.host}/from:image`]) {
        await convert(source, target, { as });
        expect(await filesIn(target)).toEqual(FILES);
        expect(await check(target, { deep: true })).toMatchObject({ errors: 0 });
      }
    }
    expect(readLayoutJson(layout, entry.digest)).toEqual(readLayoutJson(dir, entry.digest));
    const archive = `oci-archive:${fresh()}/a.tar:x`;
    await convert(reference, archive, { as: 'index' });
    expect(await check(archive, { deep: true })).toMatchObject({ errors: 0 });
  });

  test.each(['stored bytes', 'tar'])('that the %s do not have is damage', async (what) => {
    const dir = fresh();
    const [first, second] = both.layers as [SourceLayer, SourceLayer];
    const invalidated = what === 'tar' ? { ...second, diffId: digestOf(first.tar, 'sha512') } : second;
    const reference = putLayout(dir, putImage(dir, { ...both, layers: [first, invalidated] }));
    if (what !== 'tar') {
      const { layers } = readLayoutJson(
        dir,
        JSON.parse(readFileSync(join(dir, 'index.json'), 'utf8')).manifests[0].digest,
      );
      const path = layoutBlobPath(dir, layers[1].digest);
      const bytes = readFileSync(path);
      // Its time stamp: a gzip stream that unpacks to the same.
      bytes[4] = bytes[4]! ^ 1;
      writeFileSync(path, bytes);
      expect((await failure(filesIn(reference))).code).toBe('DIGEST_MISMATCH');
    }
    const error = await failure(convert(reference, `oci:${fresh()}/layout:lazy`));
    expect(error).toMatchObject({ code: 'DIGEST_MISMATCH', message: expect.stringContaining('sha512:') });
    expect((await check(reference, { deep: true })).problems).toMatchObject([{ code: 'DIGEST_MISMATCH' }]);
  });

  test('of a layer cannot name a blob of RAFS', async () => {
    const dir = fresh();
    const reference = putLayout(dir, putImage(dir, both));
    const error = await failure(convert(reference, `oci:${fresh()}/layout:lazy`, { ociRef: true }));
    expect(error).toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining('sha512') });
  });

  test('of an unsupported algorithm is UNSUPPORTED, not damage', async () => {
    const dir = fresh();
    const digest = `blake3:${'0'.repeat(64)}`;
    const reference = putLayout(dir, putImage(dir, { layers: [layer('a', { descriptor: { digest } })] }));
    for (const work of [() => filesIn(reference), () => convert(reference, `oci:${fresh()}/layout:lazy`)]) {
      const error = await failure(work());
      expect(error).toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining('layers[0].digest') });
    }
  });
});
