/** What a conversion leaves: a combined index that everybody can pull from, or lazy manifests that refer to the original. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { convert } from '../../../src/convert/convert.ts';
import type { ConvertOptions } from '../../../src/convert/options.ts';
import { inspect } from '../../../src/inspect/inspect.ts';
import { layoutBlobPath, readConverted, readLayoutBlob, readLayoutJson } from '../../kit/converted.ts';
import { fixture } from '../../kit/layers.ts';
import { startRegistry } from '../../kit/registry.ts';
import type { Repository } from '../../kit/registry-storage.ts';
import { needs } from '../../kit/skip.ts';
import { putData, putImage, putIndex, putLayout, type SourceEntry, type SourceLayer } from '../../kit/source-image.ts';
import { END, member } from '../../kit/tar.ts';

const skip = needs('addon');

const NYDUS = 'application/vnd.nydus.image.manifest.v1+json';
const file = (name: string, data: string): SourceLayer => ({ tar: Buffer.concat([member({ name, data }), END]) });

describe.skipIf(skip.reason)('the target of a conversion', () => {
  const dir = mkdtempSync(join(tmpdir(), 'convert-target-'));
  afterAll(() => rmSync(dir, { recursive: true }));
  const fresh = (): string => mkdtempSync(join(dir, 't-'));

  /** amd64 and arm64, which share a layer, an attestation, a lazy image that is out of date, and one that does not say so. */
  async function source(): Promise<{ path: string; reference: string; entries: SourceEntry[] }> {
    const path = fresh();
    const shared = file('shared', 'shared');
    const old = await convert(putLayout(path, putImage(path, { layers: [file('old', 'old')] })), `oci:${path}:old`);
    const lazy = readLayoutBlob(path, old.digest);
    const unmarked = { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: old.digest, size: lazy.length };
    const entries: SourceEntry[] = [
      { ...unmarked, platform: { os: 'linux', architecture: 'amd64' } },
      ...['amd64', 'arm64'].map((architecture) => ({
        ...putImage(path, { layers: [shared, file(architecture, architecture)], config: { architecture } }),
        platform: { os: 'linux', architecture },
        annotations: { note: architecture },
      })),
      {
        ...putImage(path, { layers: [{ tar: END, descriptor: { mediaType: 'application/vnd.in-toto+json' } }] }),
        platform: { os: 'unknown', architecture: 'unknown' },
      },
      {
        ...putImage(path, { layers: [file('older', 'older')] }),
        platform: { os: 'linux', architecture: 'arm64' },
        artifactType: NYDUS,
      },
    ];
    return { path, reference: putLayout(path, putIndex(path, entries)), entries };
  }

  const manifestsIn = (path: string, digest: string): SourceEntry[] => readLayoutJson(path, digest).manifests;

  /** Every blob that a manifest or index names is there. */
  function expectWhole(path: string, digest: string): void {
    const document = readLayoutJson(path, digest);
    for (const child of document.manifests ?? []) expectWhole(path, child.digest);
    for (const { digest: part, size } of document.config === undefined ? [] : [document.config, ...document.layers]) {
      expect(readLayoutBlob(path, part).length, part).toBe(size);
    }
  }

  describe('as an index', () => {
    it('has the originals as they were, first, and a marked lazy manifest for each', async () => {
      const { path, reference, entries } = await source();
      const target = join(fresh(), 'layout');
      const { digest, images } = await convert(reference, `oci:${target}:both`, { as: 'index' });
      const [, amd64, arm64, attestation] = entries;
      const lazy = ['amd64', 'arm64'].map((architecture, at) => ({
        mediaType: 'application/vnd.oci.image.manifest.v1+json',
        digest: images[at]!.digest,
        size: expect.any(Number),
        artifactType: NYDUS,
        platform: { os: 'linux', architecture, 'os.features': ['nydus.remoteimage.v1'] },
      }));
      expect(manifestsIn(target, digest)).toEqual([amd64, arm64, attestation, ...lazy]);
      for (const { digest: original } of [amd64!, arm64!, attestation!]) {
        expect(readLayoutBlob(target, original)).toEqual(readLayoutBlob(path, original));
      }
      expectWhole(target, digest);
      for (const { digest: image } of images) expect(readLayoutJson(target, image).artifactType).toBe(NYDUS);
    });

    it('is read as the lazy image, and converting it again gives the same index', async () => {
      const { reference } = await source();
      const target = join(fresh(), 'layout');
      const first = await convert(reference, `oci:${target}:both`, { as: 'index' });
      for (const [at, platform] of ['linux/amd64', 'linux/arm64'].entries()) {
        const found = await inspect(`oci:${target}:both`, { platform });
        expect(found).toMatchObject({ kind: 'lazy', manifest: { digest: first.images[at]!.digest } });
      }
      const again = await convert(`oci:${target}:both`, `oci:${target}:both`, { as: 'index' });
      expect(manifestsIn(target, again.digest)).toEqual(manifestsIn(target, first.digest));
      // With other choices the lazy manifests are others, in the places of the first.
      const other = await convert(`oci:${target}:both`, `oci:${target}:both`, { as: 'index', chunkSize: 4096 });
      expect(manifestsIn(target, other.digest).map(({ platform }) => platform)).toEqual(
        manifestsIn(target, first.digest).map(({ platform }) => platform),
      );
      expect(manifestsIn(target, other.digest).at(-1)!.digest).toBe(other.images.at(-1)!.digest);
    });

    it('of one platform has that one, and of a lone manifest its platform from the config', async () => {
      const { reference, entries } = await source();
      const target = join(fresh(), 'layout');
      const { digest } = await convert(reference, `oci:${target}:one`, { as: 'index', platforms: ['linux/arm64'] });
      expect(manifestsIn(target, digest)).toMatchObject([entries[2]!, { artifactType: NYDUS }]);
      const path = fresh();
      const lone = putLayout(path, putImage(path, { layers: [file('a', 'a')], config: { architecture: 's390x' } }));
      const made = await convert(lone, `oci:${target}:lone`, { as: 'index' });
      const platform = { os: 'linux', architecture: 's390x' };
      expect(manifestsIn(target, made.digest)).toMatchObject([{ platform }, { platform, artifactType: NYDUS }]);
      expect(manifestsIn(target, made.digest)[0]!.annotations).toBeUndefined();
    });

    it('keeps entries of types that say nothing to anybody here as blobs, in layouts and registries', async () => {
      const path = fresh();
      const image = {
        ...putImage(path, { layers: [file('a', 'a')] }),
        platform: { os: 'linux', architecture: 'amd64' },
      };
      const odd = putData(path, 'application/vnd.example.odd+json', { a: 1 });
      const reference = putLayout(path, putIndex(path, [image, odd]));
      const target = join(fresh(), 'layout');
      const { digest } = await convert(reference, `oci:${target}:both`, { as: 'index' });
      expect(manifestsIn(target, digest)).toMatchObject([image, odd, { artifactType: NYDUS }]);
      expect(readLayoutJson(target, odd.digest)).toEqual({ a: 1 });
      await using registry = await startRegistry();
      expect(await convert(reference, `docker://${registry.host}/app:1`, { as: 'index' })).toMatchObject({ digest });
      expect(registry.storage.repository('app').blobs.has(odd.digest)).toBe(true);
    });

    it('of nydusify’s combined index keeps its original', async () => {
      const target = join(fresh(), 'layout');
      const from = `oci:${fixture('nydus-oci/index')}:index`;
      const { digest } = await convert(from, `oci:${target}:both`, { as: 'index' });
      const [original, lazy, ...others] = manifestsIn(target, digest);
      expect(others).toEqual([]);
      expect(original!.digest).toBe('sha256:fd4ab4873b3439d6c0ed3a6fc4ca22c09bb2fff2688bf292a78a5be4d31e3c60');
      expect(readConverted(target, lazy!.digest).rafs.blobs).toHaveLength(3);
      expectWhole(target, digest);
    });

    it('in another repository mounts the original’s blobs, and reads a shared layer once', async () => {
      const { path, reference } = await source();
      await using registry = await startRegistry();
      registry.storage.putLayout('library/app', path);
      const from = `docker://${registry.host}/library/app:image`;
      const { digest, images } = await convert(from, `docker://${registry.host}/lazy/app:1`, { as: 'index' });
      const there = await convert(reference, `oci:${join(fresh(), 'layout')}:both`, { as: 'index' });
      expect(digest).toBe(there.digest);
      const shared = images[0]!.layers[0]!.source;
      expect(images[1]!.layers[0]!.source).toBe(shared);
      const read = registry.requests.filter(({ method, path }) => method === 'GET' && path.endsWith(shared));
      expect(read).toHaveLength(1);
      expect(registry.requests.filter(({ query }) => query.includes('mount=')).length).toBeGreaterThan(4);
      expect(missingOf(registry.storage.repository('lazy/app'), digest)).toEqual([]);
    });
  });

  describe('as a referrer', () => {
    const cases: Array<[string, object, string[]]> = [
      ['a registry that lists referrers', { referrers: { perPage: 1 } }, ['image', 'lacuna-']],
      ['a registry that does not', {}, ['image', 'sha256-', 'lacuna-']],
    ];
    it.each(cases)('in %s is found by the original’s tag, and not by its digest', async (_, options, tags) => {
      const { path } = await source();
      await using registry = await startRegistry(options);
      registry.storage.putLayout('app', path);
      const image = `docker://${registry.host}/app`;
      const before = registry.storage.repository('app').tags.get('image')!;
      const { digest, images } = await convert(`${image}:image`, `${image}:image`, { as: 'referrer' });
      const { tags: after, manifests } = registry.storage.repository('app');
      expect([digest, after.get('image')]).toEqual([before, before]);
      expect(new Set([...after.keys()].filter((tag) => tag !== 'old').map((tag) => tag.replace(/-.*/, '-')))).toEqual(
        new Set(tags),
      );
      const [amd64, arm64] = images;
      const lazy = JSON.parse(manifests.get(arm64!.digest)!.bytes.toString('utf8'));
      expect(lazy).toMatchObject({ artifactType: NYDUS, subject: { digest: arm64!.source } });

      const at = async (reference: string, more = {}) => {
        const { kind, manifest } = await inspect(reference, { platform: 'linux/arm64', ...more });
        return [kind, manifest!.digest];
      };
      expect(await at(`${image}:image`)).toEqual(['lazy', arm64!.digest]);
      expect(await at(`${image}:image`, { referrers: false })).toEqual(['layers', arm64!.source]);
      expect(await at(`${image}@${before}`)).toEqual(['layers', arm64!.source]);
      expect(await at(`${image}@${before}`, { referrers: true })).toEqual(['lazy', arm64!.digest]);
      // An index that has a lazy one for the platform needs no referrer.
      expect(await at(`${image}:image`, { platform: 'linux/amd64' })).not.toEqual(['lazy', amd64!.digest]);
    });

    it('of the newest conversion, when there are several', async () => {
      const { path } = await source();
      await using registry = await startRegistry();
      registry.storage.putLayout('app', path);
      const image = `docker://${registry.host}/app:image`;
      const made: string[] = [];
      for (const chunkSize of [4096, 8192, 4096]) {
        const { images } = await convert(image, image, { as: 'referrer', platforms: ['linux/arm64'], chunkSize });
        made.push(images[0]!.digest);
        const { manifest } = await inspect(image, { platform: 'linux/arm64' });
        expect(manifest!.digest).toBe(made.at(-1));
      }
      expect(made[2]).toBe(made[0]);
    });

    it('elsewhere comes with the original, whose tag is there last', async () => {
      const { path, reference } = await source();
      const target = join(fresh(), 'layout');
      const { digest, images } = await convert(reference, `oci:${target}:copy`, { as: 'referrer' });
      expect(readLayoutBlob(target, digest)).toEqual(readLayoutBlob(path, digest));
      expectWhole(target, digest);
      const found = await inspect(`oci:${target}:copy`, { platform: 'linux/arm64' });
      expect(found).toMatchObject({ kind: 'lazy', manifest: { digest: images[1]!.digest } });
      const { manifests } = JSON.parse(readFileSync(join(target, 'index.json'), 'utf8'));
      expect(manifests.at(-1).annotations).toEqual({ 'org.opencontainers.image.ref.name': 'copy' });
    });

    it('that cannot be made leaves the tag where it is', async () => {
      const { path } = await source();
      rmSync(layoutBlobPath(path, (await convertedLayer(path))!));
      const target = join(fresh(), 'layout');
      const options: ConvertOptions = { as: 'referrer' };
      await expect(convert(`oci:${path}:image`, `oci:${target}:copy`, options)).rejects.toMatchObject({
        code: 'NOT_FOUND',
      });
      await expect(inspect(`oci:${target}:copy`)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    });
  });

  /** The layer that only arm64 has. */
  async function convertedLayer(path: string): Promise<string | undefined> {
    const { images } = await convert(`oci:${path}:image`, `oci:${join(fresh(), 'layout')}:x`);
    return images[1]!.layers[1]!.source;
  }
});

/** Digests that a manifest or index names and a repository does not have. */
function missingOf(repository: Repository, digest: string): string[] {
  const document = JSON.parse(repository.manifests.get(digest)!.bytes.toString('utf8'));
  const children: string[] = (document.manifests ?? []).map((child: SourceEntry) => child.digest);
  const lost = children.filter((child) => !repository.manifests.has(child));
  const parts: SourceEntry[] = document.config === undefined ? [] : [document.config, ...document.layers];
  return [
    ...lost,
    ...parts.map((part) => part.digest).filter((part) => !repository.blobs.has(part)),
    ...children.flatMap((child) => (repository.manifests.has(child) ? missingOf(repository, child) : [])),
  ];
}
