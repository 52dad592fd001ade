/** Conversions with a dictionary: what is referred to, what is stored anew, and that nothing is referred to in vain. */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { convert } from '../../../src/convert/convert.ts';
import type { ConvertOptions } from '../../../src/convert/options.ts';
import { readImageBlobs } from '../../../src/dict/image-dict.ts';
import { SqliteDict } from '../../../src/dict/sqlite-dict.ts';
import { openBootstrap } from '../../../src/formats/rafs/open.ts';
import { openImage } from '../../../src/reader/open.ts';
import type { FileNode } from '../../../src/tree/node.ts';
import { overlay } from '../../../src/tree/overlay.ts';
import { type Converted, layoutBlobPath, readConverted, readLayoutBlob, readLayoutJson } from '../../kit/converted.ts';
import { fixture, parseLayer, sha256 } from '../../kit/layers.ts';
import { makeImage } from '../../kit/make-image.ts';
import { noise } from '../../kit/random.ts';
import { startRegistry, type TestRegistry } from '../../kit/registry.ts';
import { needs } from '../../kit/skip.ts';
import { type SourceLayer, sourceLayout } from '../../kit/source-image.ts';
import { END, member } from '../../kit/tar.ts';

const skip = needs('addon', 'better-sqlite3');

const MIB = 1024 * 1024;
const REFERRED = 'containerd.io/snapshot/nydus-reference-blob-ids';

type Files = Readonly<Record<string, string>>;
const layer = (files: Files): SourceLayer => ({
  tar: Buffer.concat([...Object.entries(files).map(([name, data]) => member({ name, data })), END]),
});

/** A base image, and one of which most is content of the base. */
const BASE: Files = { a: noise(300_000, 1), b: noise(200_000, 2), c: noise(5000, 3) };
const DERIVED: Files[] = [
  { a: BASE.a!, own: noise(100_000, 4) },
  { moved: BASE.b!, tiny: BASE.c!, text: 'text '.repeat(1000) },
];

describe.skipIf(skip.reason)('a conversion with a dictionary', () => {
  const dir = mkdtempSync(join(tmpdir(), 'convert-dict-'));
  afterAll(() => rmSync(dir, { recursive: true }));
  const fresh = (): string => mkdtempSync(join(dir, 'd-'));
  const source = (...layers: Files[]): string => sourceLayout(fresh(), { layers: layers.map(layer) });
  const base = source(BASE);
  const derived = source(...DERIVED);

  /** Path → sha256 of its content, as the library reads it. */
  async function contentOf(reference: string): Promise<Record<string, string>> {
    await using image = await openImage(reference, { platform: 'linux/amd64' });
    const found: Record<string, string> = {};
    for (const [name, node] of image.root.children!) found[name] = await image.digest(node);
    return found;
  }
  const expected = (...layers: Files[]): Record<string, string> =>
    Object.fromEntries(
      layers.flatMap((files) =>
        Object.entries(files).map(([name, data]) => [name, sha256(Buffer.from(data, 'latin1'))]),
      ),
    );

  const referredIn = ({ manifest }: Converted): string[] =>
    JSON.parse(manifest.layers.at(-1)!.annotations![REFERRED] ?? '[]') as string[];

  it('refers to what an image in the same layout has, and says so', async () => {
    const target = join(fresh(), 'l');
    const { images: before } = await convert(base, `oci:${target}:base`);
    const known = before[0]!.layers[0]!.blob!;
    const plain = await convert(derived, `oci:${join(fresh(), 'l')}:plain`);
    const { digest, images } = await convert(derived, `oci:${target}:small`, { dicts: [`oci:${target}:base`] });
    const [report] = images;
    const image = readConverted(target, digest);

    expect(report!.dictionary).toMatchObject([{ blob: known, access: 'there', chunks: 6, plainBytes: 505_000 }]);
    const stored = (images: typeof before) => images[0]!.layers.reduce((sum, { blobSize }) => sum + blobSize, 0);
    const saved = stored(plain.images) - stored(images);
    const entries = 6 * (16 + 32);
    expect(Math.abs(saved - report!.dictionary[0]!.savedBytes)).toBeLessThan(entries);
    // In front of the bootstrap, so that the registry keeps it; every layer has a diffID, every blob its chunk info.
    expect(image.manifest.layers.map(({ digest }) => digest)).toEqual([
      ...report!.layers.map(({ blob }) => blob),
      known,
      report!.bootstrap.digest,
    ]);
    expect(image.config.rootfs.diff_ids.slice(0, -1)).toEqual(image.manifest.layers.slice(0, -1).map((l) => l.digest));
    expect(image.config.history.filter((entry) => entry.empty_layer !== true)).toHaveLength(4);
    expect(referredIn(image)).toEqual([known.slice(7)]);
    expect([...image.members.keys()]).toEqual([
      'image/',
      'image/image.boot',
      ...image.rafs.blobs.map(({ id }) => `image/${id}.blob.meta`),
    ]);
    const original = readConverted(target, before[0]!.digest);
    const meta = `image/${known.slice(7)}.blob.meta`;
    expect(image.members.get(meta)).toEqual(original.members.get(meta));
    expect(await contentOf(`oci:${target}:small`)).toEqual(expected(...DERIVED));
    const again = await convert(derived, `oci:${target}:again`, { dicts: [`oci:${target}:base`] });
    expect(again.digest).toBe(digest);
  });

  it('equals a conversion without a dictionary when a layer equals its blob, with as many history entries as layers', async () => {
    const target = join(fresh(), 'l');
    const before = await convert(base, `oci:${target}:base`);
    const known = before.images[0]!.layers[0]!;
    const options = { dicts: [`oci:${target}:base`], force: true };
    const { digest, images } = await convert(base, `oci:${target}:again`, options);
    expect(digest).toBe(before.digest);
    expect(images[0]!.layers[0]).toMatchObject({ blob: known.blob, blobSize: known.blobSize });
    expect(images[0]!.layers[0]!.transfer).toMatchObject({ there: known.blobSize, uploaded: 0 });
    expect(images[0]!.dictionary).toEqual([]);
    const { manifest, config } = readConverted(target, digest);
    expect(manifest.layers).toHaveLength(2);
    expect(config.rootfs.diff_ids).toHaveLength(2);
    expect(await contentOf(`oci:${target}:again`)).toEqual(expected(BASE));
  });

  it('takes chunks of the image’s own kind only', async () => {
    const target = join(fresh(), 'l');
    await convert(base, `oci:${target}:base`);
    const others: ConvertOptions[] = [{ chunkSize: 4096 }, { digester: 'sha256' }];
    for (const options of others) {
      const plain = await convert(derived, `oci:${target}:plain`, options);
      const made = await convert(derived, `oci:${target}:dict`, { ...options, dicts: [`oci:${target}:base`] });
      expect(made.digest).toBe(plain.digest);
    }
    const level = await convert(derived, `oci:${target}:none`, { compressor: 'none', dicts: [`oci:${target}:base`] });
    expect(level.images[0]!.dictionary).toHaveLength(1);
    expect(await contentOf(`oci:${target}:none`)).toEqual(expected(...DERIVED));
  });

  it('refers to nothing that costs more than it saves', async () => {
    const target = join(fresh(), 'l');
    await convert(source({ big: noise(30_000, 5), small: 'small' }), `oci:${target}:base`);
    const little = source({ small: 'small', own: 'own' });
    const plain = await convert(little, `oci:${target}:plain`);
    const made = await convert(little, `oci:${target}:dict`, { dicts: [`oci:${target}:base`] });
    expect(made.digest).toBe(plain.digest);
    expect(made.images[0]!.dictionary).toEqual([]);
  });

  it('works with reuse of lower layers, and with several images', async () => {
    const target = join(fresh(), 'l');
    await convert(source({ a: BASE.a! }), `oci:${target}:one`);
    await convert(base, `oci:${target}:two`);
    const options: ConvertOptions = { dedup: 'image', dicts: [`oci:${target}:one`, `oci:${target}:two`] };
    const twice = [...DERIVED, { copy: DERIVED[0]!.own! }, { last: BASE.b! }];
    const { images } = await convert(source(...twice), `oci:${target}:x`, options);
    expect(images[0]!.dictionary).toHaveLength(2);
    expect(images[0]!.layers.map(({ blob }) => blob === null)).toEqual([false, false, true, true]);
    expect(await contentOf(`oci:${target}:x`)).toEqual(expected(...twice));
  });

  it('of Nydus’s layer 1 of tame-mini for its layer 2 finds what nydus-image finds', async () => {
    const folder = fixture('rafs/chunk-dict');
    const known = '6460fc9d15236ff110701f48e4a1ed35255ed3d42ea456051bfffea51899d5b7';
    const layout = fixture('oci/tame-mini');
    const { manifests } = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8'));
    const gzip = manifests.find(
      (entry: { annotations: Record<string, string> }) =>
        entry.annotations['org.opencontainers.image.ref.name'] === 'tame-mini-gzip',
    );
    const tar = gunzipSync(readLayoutBlob(layout, readLayoutJson(layout, gzip.digest).layers[1].digest));
    const target = join(fresh(), 'l');
    mkdirSync(join(target, 'blobs/sha256'), { recursive: true });
    // Copying it would cost more than it saves.
    copyFileSync(join(folder, known), layoutBlobPath(target, `sha256:${known}`));
    const { digest, images } = await convert(sourceLayout(fresh(), { layers: [{ tar }] }), `oci:${target}:two`, {
      chunkSize: MIB,
      dicts: [`rafs:${join(folder, 'layer1.boot')}`],
    });
    const theirs = openBootstrap(readFileSync(join(folder, 'bootstrap')), { subject: 'fixture' });
    const ours = readConverted(target, digest);
    const [mine, nydus] = [ours.rafs.root(), theirs.root()].map((root) => referencesOf(root, known));
    expect(Object.values(mine!).flat().length).toBeGreaterThan(20);
    for (const [path, chunks] of Object.entries(mine!)) expect(chunks, path).toEqual(nydus![path]);
    const used = new Set(
      Object.values(mine!)
        .flat()
        .filter((chunk) => chunk.startsWith(known)),
    );
    expect(images[0]!.dictionary).toMatchObject([{ blob: `sha256:${known}`, access: 'there', chunks: used.size }]);
    expect(used.size).toBe(3);
  });

  /** Path → of each chunk the digest, and its number if it lies in the blob `known`. */
  function referencesOf(root: FileNode, known: string, path = ''): Record<string, string[]> {
    const found: Record<string, string[]> = {};
    for (const [name, node] of root.children!) {
      if (node.type === 'dir') Object.assign(found, referencesOf(node, known, `${path}/${name}`));
      if (node.type !== 'reg') continue;
      found[`${path}/${name}`] = node.chunks.map(
        ({ blob, index, digest }) => `${blob === known ? `${known} ${index}` : 'own'} ${digest.toString('hex')}`,
      );
    }
    return found;
  }

  describe('at a registry', () => {
    const asDict = ({ host }: TestRegistry) => ({ dicts: [`docker://${host}/library/base:1`] });
    const tagOf = ({ storage }: TestRegistry) => storage.repository('team/app').tags.get('1');
    const push = (registry: TestRegistry, options: ConvertOptions = {}) =>
      convert(derived, `docker://${registry.host}/team/app:1`, options);
    const putBase = (registry: TestRegistry) => convert(base, `docker://${registry.host}/library/base:1`);
    const plainDigest = async (): Promise<string> => (await convert(derived, `oci:${join(fresh(), 'l')}:p`)).digest;

    it('mounts the blob from where it is', async () => {
      await using registry = await startRegistry();
      const known = (await putBase(registry)).images[0]!.layers[0]!.blob!;
      const { images, digest } = await push(registry, asDict(registry));
      expect(images[0]!.dictionary).toMatchObject([{ blob: known, access: 'mounted' }]);
      expect(registry.storage.repository('team/app').blobs.has(known)).toBe(true);
      expect(tagOf(registry)).toBe(digest);
      expect(registry.requests.filter(({ method, path }) => method === 'GET' && path.endsWith(known))).toEqual([]);
      expect(await contentOf(`docker://${registry.host}/team/app:1`)).toEqual(expected(...DERIVED));
    });

    it('that cannot mount gets the blob’s bytes if that is cheaper, else its chunks anew', async () => {
      await using near = await startRegistry();
      await using far = await startRegistry();
      // All of the base is in the image twice, so that copying it is cheaper.
      const layers = [BASE, { ...BASE, more: 'more' }];
      const known = (await putBase(far)).images[0]!.layers[0]!.blob!;
      const target = `docker://${near.host}/team/app:1`;
      const { images } = await convert(source(...layers), target, asDict(far));
      expect(images[0]!.dictionary).toMatchObject([{ blob: known, access: 'copied' }]);
      expect(near.storage.repository('team/app').blobs.has(known)).toBe(true);
      expect(await contentOf(target)).toEqual(expected(...layers));
      await using other = await startRegistry();
      expect((await push(other, asDict(far))).digest).toBe(await plainDigest());
      expect(other.storage.repository('team/app').blobs.has(known)).toBe(false);
    });

    it('that has lost the blob stores its chunks anew', async () => {
      await using registry = await startRegistry();
      const known = (await putBase(registry)).images[0]!.layers[0]!.blob!;
      registry.storage.repository('library/base').blobs.delete(known);
      expect((await push(registry, asDict(registry))).digest).toBe(await plainDigest());
    });

    it('that loses the blob while layers are converted stores its chunks anew', async () => {
      await using registry = await startRegistry();
      const known = (await putBase(registry)).images[0]!.layers[0]!.blob!;
      // As soon as the first own blob arrives, which is after the blob was seen.
      registry.fault = ({ method, query }) => {
        if (method === 'PUT' && query.includes('digest=') && !query.includes(known.slice(7))) {
          for (const { blobs } of registry.storage.repositories.values()) blobs.delete(known);
        }
        return null;
      };
      const { digest, images } = await push(registry, asDict(registry));
      expect(images[0]!.dictionary).toEqual([]);
      expect(digest).toBe(await plainDigest());
    });

    it('that loses it just before the tag moves does not get the tag', async () => {
      await using registry = await startRegistry();
      const known = (await putBase(registry)).images[0]!.layers[0]!.blob!;
      const { digest: before } = await push(registry);
      let uploads = 0;
      registry.fault = ({ method, query }) => {
        // Two layers, then the bootstrap.
        if (method === 'PUT' && query.includes('digest=') && ++uploads === 3) {
          for (const { blobs } of registry.storage.repositories.values()) blobs.delete(known);
        }
        return null;
      };
      await expect(push(registry, { ...asDict(registry), force: true })).rejects.toMatchObject({
        code: 'UNAVAILABLE',
        message: expect.stringContaining(known.slice(7)),
        hint: expect.stringContaining('convert again'),
      });
      expect(uploads).toBeGreaterThanOrEqual(3);
      expect(tagOf(registry)).toBe(before);
      registry.fault = () => null;
      const { digest } = await push(registry, asDict(registry));
      expect(digest).toBe(before);
    });

    it('whose dictionary cannot be reached at all fails before anything is made', async () => {
      await using registry = await startRegistry();
      await expect(push(registry, asDict(registry))).rejects.toMatchObject({ code: 'NOT_FOUND' });
      await convert(base, `docker://${registry.host}/library/base:1`);
      registry.storage.putLayout('library/base', base.split(':')[1]!);
      const ordinary = { dicts: [`docker://${registry.host}/library/base:image`] };
      await expect(push(registry, ordinary)).rejects.toMatchObject({ code: 'USAGE' });
      expect(tagOf(registry)).toBeUndefined();
    });
  });

  it('with more blobs than an image can have keeps those that save most', async () => {
    const target = join(fresh(), 'l');
    const store = join(target, 'blobs/sha256');
    mkdirSync(store, { recursive: true });
    const database = join(fresh(), 'chunks.db');
    const size = (i: number) => 1000 + 10 * ((i * 7919) % 300);
    const name = (i: number) => `f${String(i).padStart(3, '0')}`;
    const all = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [name(i), noise(size(i), 1000 + i)]));
    {
      using dict = await SqliteDict.open(database);
      for (const [file, data] of Object.entries(all)) {
        const { tree, contents } = parseLayer(layer({ [file]: data }).tar);
        const bootstrap = await makeImage(overlay([tree]), contents, 128 * 1024, store);
        const blobs = await readImageBlobs(`rafs:${bootstrap}`);
        expect(dict.add(blobs)).toEqual({ blobs: 1, chunks: 1, places: 0 });
      }
    }
    const made = await convert(source(all), `oci:${target}:all`, { dicts: [`sqlite:${database}`] });
    const { dictionary } = made.images[0]!;
    expect(dictionary).toHaveLength(253);
    expect(readConverted(target, made.digest).rafs.blobs).toHaveLength(254);
    const sizes = Array.from({ length: 300 }, (_, i) => size(i)).sort((a, b) => b - a);
    expect(dictionary.map(({ plainBytes }) => plainBytes)).toEqual(sizes.slice(0, 253));
    expect(await contentOf(`oci:${target}:all`)).toEqual(expected(all));
  });
});
