/** Indexes as people have them: nested, with one name for two platforms, and with entries that are not images. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { check } from '../../../src/check/check.ts';
import { convert } from '../../../src/convert/convert.ts';
import { hostPlatform } from '../../../src/image/platform.ts';
import { ls } from '../../../src/inspect/ls.ts';
import { unpack } from '../../../src/unpack/unpack.ts';
import { readLayoutBlob, readLayoutJson } from '../../kit/converted.ts';
import { failure } from '../../kit/failure.ts';
import { startRegistry } from '../../kit/registry.ts';
import { needs } from '../../kit/skip.ts';
import {
  putData,
  putEntries,
  putImage,
  putIndex,
  putLayout,
  type SourceEntry,
  type SourceImage,
} from '../../kit/source-image.ts';
import { END, member } from '../../kit/tar.ts';

const skip = needs('addon');
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const CONFIG = 'application/vnd.oci.image.config.v1+json';
const EMPTY = 'application/vnd.oci.empty.v1+json';
const ARTIFACT = 'application/vnd.oci.artifact.manifest.v1+json';
const ATTESTATION = 'application/vnd.docker.attestation.manifest.v1+json';
const SOCI = 'application/vnd.amazon.soci.index.v2+json';
const HELM = 'application/vnd.cncf.helm.config.v1+json';

const root = mkdtempSync(join(tmpdir(), 'index-forms-'));
afterAll(() => rmSync(root, { recursive: true }));
const fresh = (): string => mkdtempSync(join(root, 't-'));

const platform = (architecture: string) => ({ os: 'linux', architecture });
const image = (architecture: string, fields: Partial<SourceImage> = {}): SourceImage => ({
  layers: [{ tar: Buffer.concat([member({ name: architecture, data: architecture }), END]) }],
  config: { architecture },
  ...fields,
});
const put = (dir: string, architecture: string): SourceEntry => ({
  ...putImage(dir, image(architecture)),
  platform: platform(architecture),
});

/** A manifest of something else: its config of this type, its layer of that. */
const putArtifact = (dir: string, config: string, layer: string, fields: object = {}): SourceEntry =>
  putData(dir, MANIFEST, {
    schemaVersion: 2,
    mediaType: MANIFEST,
    config: putData(dir, config, { name: 'demo' }),
    layers: [putData(dir, layer, Buffer.from('not a tar'))],
    ...fields,
  });

async function namesIn(reference: string, architecture: string): Promise<string[]> {
  const names: string[] = [];
  for await (const row of ls(reference, { platform: `linux/${architecture}`, recursive: true }))
    names.push(row.path ?? '');
  return names.filter((name) => name !== '/');
}

/** Entries beside the image `of` in the forms that tools write. */
const BESIDE: Readonly<Record<string, (dir: string, of: SourceEntry) => SourceEntry>> = {
  'an attestation of BuildKit': (dir) => ({
    ...putArtifact(dir, CONFIG, 'application/vnd.in-toto+json'),
    platform: { os: 'unknown', architecture: 'unknown' },
  }),
  'an attestation as an OCI artifact': (dir, of) => ({
    ...putArtifact(dir, EMPTY, 'application/vnd.in-toto+json', { artifactType: ATTESTATION, subject: of }),
    artifactType: ATTESTATION,
    platform: { os: 'unknown', architecture: 'unknown' },
  }),
  'an attestation with its type and no platform': (dir) => ({
    ...putArtifact(dir, EMPTY, 'application/vnd.in-toto+json', { artifactType: ATTESTATION }),
    artifactType: ATTESTATION,
  }),
  'an attestation with neither': (dir) =>
    putArtifact(dir, EMPTY, 'application/vnd.in-toto+json', { artifactType: ATTESTATION }),
  'an attestation as an artifact manifest': (dir, of) =>
    putData(dir, ARTIFACT, {
      mediaType: ARTIFACT,
      artifactType: ATTESTATION,
      blobs: [putData(dir, 'application/vnd.in-toto+json', Buffer.from('{}'))],
      subject: of,
    }),
  'a chart': (dir) => putArtifact(dir, HELM, 'application/vnd.cncf.helm.chart.content.v1.tar+gzip'),
  'a chart whose layer has the type of an image’s': (dir) =>
    putArtifact(dir, HELM, 'application/vnd.oci.image.layer.v1.tar+gzip'),
  'a signature of cosign': (dir) => putArtifact(dir, CONFIG, 'application/vnd.dev.cosign.simplesigning.v1+json'),
  'a SOCI index for the image’s platform': (dir, of) => ({
    ...putArtifact(dir, SOCI, 'application/octet-stream', { artifactType: SOCI }),
    artifactType: SOCI,
    platform: of.platform!,
  }),
  'a SOCI index of the first version': (dir, of) =>
    putArtifact(dir, 'application/vnd.amazon.soci.index.v1+json', 'application/octet-stream', { subject: of }),
  'a wasm module for the image’s platform': (dir, of) => ({
    ...putArtifact(dir, 'application/vnd.wasm.config.v0+json', 'application/wasm'),
    platform: of.platform!,
  }),
};

describe.skipIf(skip.reason)('an index with', () => {
  for (const [name, entry] of Object.entries(BESIDE)) {
    for (const place of ['before', 'behind'] as const) {
      test(`${name} ${place} its images`, async () => {
        const dir = fresh();
        const [amd64, arm64] = [put(dir, 'amd64'), put(dir, 'arm64')];
        const other = entry(dir, amd64);
        const entries = place === 'before' ? [other, amd64, arm64] : [amd64, arm64, other];
        const reference = putLayout(dir, putIndex(dir, entries));
        expect(await namesIn(reference, 'amd64')).toEqual(['/amd64']);
        expect(await namesIn(reference, 'arm64')).toEqual(['/arm64']);
        expect(await check(reference, { deep: true })).toMatchObject({ problems: [], ok: true });
        expect((await failure(namesIn(reference, 's390x'))).code).toBe('NOT_FOUND');

        const lazy = `oci:${fresh()}/layout:lazy`;
        const { images, digest } = await convert(reference, lazy);
        expect(images.map(({ source }) => source)).toEqual([amd64.digest, arm64.digest]);
        expect(await namesIn(lazy, 'arm64')).toEqual(['/arm64']);
        const listed = readLayoutJson(lazy.split(':')[1]!, digest).manifests as SourceEntry[];
        expect(listed.map((one) => one.platform)).toEqual([platform('amd64'), platform('arm64')]);
      });
    }

    test(`${name}, kept as an index`, async () => {
      const dir = fresh();
      const amd64 = put(dir, 'amd64');
      const other = entry(dir, amd64);
      const target = join(fresh(), 'layout');
      const { digest } = await convert(putLayout(dir, putIndex(dir, [amd64, other])), `oci:${target}:both`, {
        as: 'index',
      });
      const listed = readLayoutJson(target, digest).manifests as SourceEntry[];
      expect(listed.map((one) => one.digest)).toEqual([amd64.digest, other.digest, expect.any(String)]);
      expect(readLayoutBlob(target, other.digest)).toEqual(readLayoutBlob(dir, other.digest));
      const { config, layers, blobs } = readLayoutJson(target, other.digest);
      for (const part of blobs ?? [config, ...layers])
        expect(readLayoutBlob(target, part.digest)).toHaveLength(part.size);
      expect(await check(`oci:${target}:both`, { deep: true })).toMatchObject({ problems: [], ok: true });
    });
  }

  test('two images that name no platform: their configs do', async () => {
    const dir = fresh();
    const entries = ['arm64', 'amd64'].map((architecture) => putImage(dir, image(architecture)));
    const reference = putLayout(dir, putIndex(dir, entries));
    expect(await namesIn(reference, 'amd64')).toEqual(['/amd64']);
    expect(await namesIn(reference, 'arm64')).toEqual(['/arm64']);
    expect((await failure(namesIn(reference, 's390x'))).code).toBe('NOT_FOUND');
    const { images } = await convert(reference, `oci:${fresh()}/layout:lazy`, { platforms: ['linux/amd64'] });
    expect(images.map(({ source }) => source)).toEqual([entries[1]!.digest]);
  });

  test('nothing but artifacts is not an image', async () => {
    const dir = fresh();
    const reference = putLayout(dir, putIndex(dir, [BESIDE['a chart']!(dir, put(dir, 'amd64'))]));
    for (const work of [() => namesIn(reference, 'amd64'), () => convert(reference, `oci:${fresh()}/layout:lazy`)]) {
      expect(await failure(work())).toMatchObject({ code: 'UNSUPPORTED' });
    }
  });

  test('nothing', async () => {
    const dir = fresh();
    const reference = putLayout(dir, putIndex(dir, []));
    expect((await failure(namesIn(reference, 'amd64'))).code).toBe('NOT_FOUND');
    expect((await failure(convert(reference, `oci:${fresh()}/layout:lazy`))).code).toBe('NOT_FOUND');
  });

  test('an artifact manifest, in a registry', async () => {
    const dir = fresh();
    const amd64 = put(dir, 'amd64');
    const other = BESIDE['an attestation as an artifact manifest']!(dir, amd64);
    putLayout(dir, putIndex(dir, [other, amd64]));
    await using registry = await startRegistry();
    registry.storage.putLayout('app', dir);
    for (const blob of readLayoutJson(dir, other.digest).blobs) {
      registry.storage.putBlob('app', readLayoutBlob(dir, blob.digest));
    }
    const target = join(fresh(), 'layout');
    await convert(`docker://${registry.host}/app:image`, `oci:${target}:both`, { as: 'index' });
    expect(readLayoutBlob(target, other.digest)).toEqual(readLayoutBlob(dir, other.digest));
  });
});

test.skipIf(skip.reason)('an image whose config names no platform is for every one', async () => {
  const dir = fresh();
  const reference = putLayout(dir, putImage(dir, image('any', { config: { os: undefined, architecture: null } })));
  const target = join(fresh(), 'layout');
  for (const architecture of ['amd64', 'arm64']) {
    expect(await namesIn(reference, architecture)).toEqual(['/any']);
    const lazy = `oci:${target}:${architecture}`;
    await convert(reference, lazy, { platforms: [`linux/${architecture}`] });
    expect(await namesIn(lazy, architecture)).toEqual(['/any']);
  }
  expect(await check(reference, { deep: true })).toMatchObject({ problems: [], ok: true });
  const { digest } = await convert(reference, `oci:${target}:both`, { as: 'index' });
  const { os, architecture } = hostPlatform();
  const listed = readLayoutJson(target, digest).manifests as SourceEntry[];
  expect(listed.map((entry) => entry.platform)).toMatchObject([
    { os, architecture },
    { os, architecture },
  ]);
});

describe.skipIf(skip.reason)('indexes within indexes', () => {
  test('stand for what they list', async () => {
    const dir = fresh();
    const [amd64, arm64, s390x] = [put(dir, 'amd64'), put(dir, 'arm64'), putImage(dir, image('s390x'))];
    const attestation = BESIDE['an attestation of BuildKit']!(dir, amd64);
    const inner = putIndex(dir, [attestation, arm64]);
    const named = { ...putIndex(dir, [s390x, attestation]), platform: platform('s390x') };
    const reference = putLayout(dir, putIndex(dir, [putIndex(dir, [inner, attestation]), amd64, named]));
    for (const architecture of ['amd64', 'arm64', 's390x']) {
      expect(await namesIn(reference, architecture)).toEqual([`/${architecture}`]);
    }
    expect(await check(reference, { deep: true })).toMatchObject({ problems: [], ok: true });
    expect((await check(reference)).images.filter(({ kind }) => kind === 'layers')).toHaveLength(3);

    const target = join(fresh(), 'layout');
    const lazy = await convert(reference, `oci:${target}:lazy`);
    expect(lazy.images.map(({ source }) => source)).toEqual([arm64.digest, amd64.digest, s390x.digest]);
    const both = await convert(reference, `oci:${target}:both`, { as: 'index' });
    const listed = readLayoutJson(target, both.digest).manifests as SourceEntry[];
    expect(listed).toHaveLength(3 + 3);
    expect(readLayoutBlob(target, inner.digest)).toEqual(readLayoutBlob(dir, inner.digest));
    for (const architecture of ['amd64', 'arm64', 's390x']) {
      expect(await namesIn(`oci:${target}:both`, architecture)).toEqual([`/${architecture}`]);
    }
  });

  test('end at a depth', async () => {
    const dir = fresh();
    let entry = put(dir, 'amd64');
    for (let depth = 0; depth < 4; depth++) entry = putIndex(dir, [entry]);
    const deepest = putLayout(dir, entry);
    expect(await namesIn(deepest, 'amd64')).toEqual(['/amd64']);
    const deeper = putLayout(dir, putIndex(dir, [entry]));
    const error = await failure(namesIn(deeper, 'amd64'));
    expect(error).toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining('more than 4 deep') });
    expect(await check(deeper)).toMatchObject({ errors: 0, warnings: 1 });
  });

  test('end at a number of entries, however often they are listed', async () => {
    const dir = fresh();
    const wide = putIndex(dir, Array(1000).fill(put(dir, 'amd64')));
    const reference = putLayout(dir, putIndex(dir, Array(5).fill(wide)));
    const error = await failure(namesIn(reference, 'amd64'));
    expect(await check(reference)).toMatchObject({ errors: 0, warnings: 1 });
    expect(error).toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining('more than 4096 entries') });
  });
});

describe.skipIf(skip.reason)('one name in a layout', () => {
  const ref = 'v1.0';

  test.each([true, false])('for two platforms, which the entries name: %j', async (isNamed) => {
    const dir = fresh();
    const entries = ['arm64', 'amd64'].map((architecture) => {
      const entry = putImage(dir, image(architecture));
      return isNamed ? { ...entry, platform: platform(architecture) } : entry;
    });
    putEntries(
      dir,
      entries.map((entry) => [ref, entry] as const),
    );
    for (const reference of [`oci:${dir}:${ref}`, `oci:${dir}`]) {
      expect(await namesIn(reference, 'amd64')).toEqual(['/amd64']);
      expect(await namesIn(reference, 'arm64')).toEqual(['/arm64']);
      expect((await failure(namesIn(reference, 's390x'))).code).toBe('NOT_FOUND');
      expect(await check(reference)).toMatchObject({ problems: [], images: [{ kind: 'layers' }, { kind: 'layers' }] });
    }
    const target = join(fresh(), 'layout');
    const one = await convert(`oci:${dir}:${ref}`, `oci:${target}:one`, { platforms: ['linux/amd64'] });
    expect(one.images.map(({ source }) => source)).toEqual([entries[1]!.digest]);
    for (const as of ['lazy', 'index', 'referrer'] as const) {
      const { images } = await convert(`oci:${dir}:${ref}`, `oci:${target}:${as}`, { as });
      expect(images.map(({ source }) => source)).toEqual(entries.map(({ digest }) => digest));
      for (const architecture of ['amd64', 'arm64']) {
        expect(await namesIn(`oci:${target}:${as}`, architecture)).toEqual([`/${architecture}`]);
      }
    }
    await unpack(`oci:${dir}:${ref}`, `oci:${target}:plain`, { platform: 'linux/arm64', layers: true });
    expect(await namesIn(`oci:${target}:plain`, 'arm64')).toEqual(['/arm64']);
  });

  test('for one image twice is no question', async () => {
    const dir = fresh();
    const entry = put(dir, 'amd64');
    putEntries(dir, [
      [ref, entry],
      [ref, entry],
    ]);
    expect(await namesIn(`oci:${dir}:${ref}`, 'amd64')).toEqual(['/amd64']);
  });

  test('for two images of one platform is ambiguous, and the error names both', async () => {
    const dir = fresh();
    const [a, b] = [put(dir, 'amd64'), putImage(dir, image('b', { config: { architecture: 'amd64' } }))];
    putEntries(dir, [
      [ref, a],
      [ref, b],
    ]);
    const error = await failure(namesIn(`oci:${dir}:${ref}`, 'amd64'));
    expect(error).toMatchObject({ code: 'REFERENCE' });
    for (const digest of [a.digest, b.digest]) expect(error.message).toContain(digest);
    expect(await namesIn(`oci:${dir}:${b.digest}`, 'amd64')).toEqual(['/b']);
  });
});

describe.skipIf(skip.reason)('a name that is not an image’s', () => {
  const cases = Object.entries(BESIDE).filter(([name]) => !/attestation (with|as an OCI)/.test(name));
  test.each(cases)('%s: UNSUPPORTED, with its type', async (_name, entry) => {
    const dir = fresh();
    const found = entry(dir, put(dir, 'amd64'));
    const reference = putLayout(dir, { mediaType: found.mediaType, digest: found.digest, size: found.size });
    const type = /vnd\.(cncf\.helm|dev\.cosign|amazon\.soci|wasm|in-toto|oci\.artifact)/;
    await using registry = await startRegistry();
    if (found.mediaType === MANIFEST) registry.storage.putLayout('app', dir);
    else registry.storage.putManifest('app', found.mediaType, readLayoutBlob(dir, found.digest), 'image');
    for (const source of [reference, `docker://${registry.host}/app:image`]) {
      const works = [
        () => namesIn(source, 'amd64'),
        () => check(source),
        () => convert(source, `oci:${fresh()}/layout:lazy`),
        () => unpack(source, join(fresh(), 'tree')),
      ];
      for (const work of works) {
        const error = await failure(work());
        expect(error).toMatchObject({ code: 'UNSUPPORTED' });
        expect(error.message).toMatch(type);
        expect(error.message).toContain('not an image');
      }
    }
  });

  test('a layer that no engine knows is named', async () => {
    const dir = fresh();
    const tar = Buffer.concat([member({ name: 'a', data: 'a' }), END]);
    const mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip+encrypted';
    const reference = putLayout(dir, putImage(dir, { layers: [{ tar }, { tar, descriptor: { mediaType } }] }));
    for (const work of [() => namesIn(reference, 'amd64'), () => convert(reference, `oci:${fresh()}/layout:lazy`)]) {
      const error = await failure(work());
      expect(error).toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining(mediaType) });
    }
  });
});
