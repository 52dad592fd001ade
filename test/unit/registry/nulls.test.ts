/** Documents as Go programs write them, null for what is absent, in every store that reads some. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { dockerConfigCredentials } from '../../../src/access/credentials.ts';
import { check } from '../../../src/check/check.ts';
import { convert } from '../../../src/convert/convert.ts';
import { parseReference } from '../../../src/image/reference.ts';
import { ls } from '../../../src/inspect/ls.ts';
import { openStore } from '../../../src/registry/open.ts';
import { unpack } from '../../../src/unpack/unpack.ts';
import { readConverted } from '../../kit/converted.ts';
import { failure } from '../../kit/failure.ts';
import { startRegistry } from '../../kit/registry.ts';
import { needs } from '../../kit/skip.ts';
import { digestOf, putImage, putLayout } from '../../kit/source-image.ts';
import { END, member } from '../../kit/tar.ts';

const skip = needs('addon');
const root = mkdtempSync(join(tmpdir(), 'nulls-'));
afterAll(() => rmSync(root, { recursive: true }));
const fresh = (): string => mkdtempSync(join(root, 't-'));
const REF = 'org.opencontainers.image.ref.name';
const tar = Buffer.concat([member({ name: 'f', data: 'f' }), END]);

async function pathsIn(reference: string): Promise<string[]> {
  const paths: string[] = [];
  for await (const row of ls(reference, { platform: 'linux/amd64', recursive: true })) paths.push(row.path!);
  return paths;
}

/** A layout with this index.json and no image. */
function layoutOf(index: string, marker = '{"imageLayoutVersion":"1.0.0"}'): string {
  const dir = fresh();
  writeFileSync(join(dir, 'oci-layout'), marker);
  mkdirSync(join(dir, 'blobs', 'sha256'), { recursive: true });
  writeFileSync(join(dir, 'index.json'), index);
  return dir;
}

describe.skipIf(skip.reason)('a layout', () => {
  // As `umoci init --layout` (0.4.7) writes it.
  test.each(['{"schemaVersion":2,"manifests":null}', '{"schemaVersion":2}', '{"schemaVersion":2,"manifests":[]}'])(
    'is empty when its index is %s',
    async (index) => {
      const dir = layoutOf(index);
      for (const reference of [`oci:${dir}`, `oci:${dir}:x`]) {
        expect((await failure(pathsIn(reference))).code).toBe('NOT_FOUND');
      }
      const source = fresh();
      const entry = putImage(source, { layers: [{ tar }] });
      await convert(putLayout(source, entry), `oci:${dir}:lazy`);
      expect(await pathsIn(`oci:${dir}:lazy`)).toEqual(['/', '/f']);
      await unpack(putLayout(source, entry), `oci:${dir}:plain`, { layers: true });
      expect(await pathsIn(`oci:${dir}:plain`)).toEqual(['/', '/f']);
    },
  );

  test('keeps the nulls of its index when an entry is added', async () => {
    const entry = {
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      digest: `sha256:${'0'.repeat(64)}`,
      size: 1,
      urls: null,
      annotations: { [REF]: 'theirs', other: null },
      platform: null,
    };
    const document = { schemaVersion: 2, manifests: [entry], annotations: null, theirs: { a: null } };
    const dir = layoutOf(JSON.stringify(document), '{"imageLayoutVersion":"1.0.0","x":null}');
    const source = fresh();
    await convert(putLayout(source, putImage(source, { layers: [{ tar }] })), `oci:${dir}:lazy`);
    const { manifests, ...rest } = JSON.parse(readFileSync(join(dir, 'index.json'), 'utf8'));
    expect({ ...rest, manifests: [manifests[0]] }).toEqual(document);
    expect(manifests).toHaveLength(2);
  });
});

describe.skipIf(skip.reason)('an image without layers', () => {
  const LISTS = { 'an empty list': [], null: null, nothing: undefined };
  const spellings = Object.entries(LISTS).flatMap(([layers, list]) =>
    Object.entries(LISTS).map(([ids, diffIds]) => [layers, ids, list, diffIds] as const),
  );

  test.each(spellings)('layers: %s, diff_ids: %s', async (_layers, _ids, layers, diffIds) => {
    const dir = fresh();
    const config = { rootfs: { type: 'layers', diff_ids: diffIds }, config: null, history: null };
    const image = { layers: [], config, manifest: { layers, annotations: null } };
    const reference = putLayout(dir, putImage(dir, image as never));
    expect(await pathsIn(reference)).toEqual(['/']);
    expect(await check(reference, { deep: true })).toMatchObject({ problems: [], ok: true });
    const target = `oci:${fresh()}/layout:lazy`;
    await convert(reference, target);
    expect(await pathsIn(target)).toEqual(['/']);
    expect(await check(target, { deep: true })).toMatchObject({ problems: [], ok: true });
    const tree = join(fresh(), 'tree');
    expect(await unpack(target, tree)).toMatchObject({ entries: 1, bytes: 0 });
  });
});

test.skipIf(skip.reason)(
  'a converted image’s config keeps what it is told of the container, nulls and all',
  async () => {
    const dir = fresh();
    const config = { Env: ['A=b'], Volumes: null, Labels: { a: '1' }, OnBuild: null };
    const source = { config, created: null, variant: null, container_config: { Cmd: null }, moby: null };
    const target = join(fresh(), 'layout');
    const { digest } = await convert(
      putLayout(dir, putImage(dir, { layers: [{ tar }], config: source })),
      `oci:${target}:lazy`,
    );
    const { rootfs: _, history: __, ...rest } = readConverted(target, digest).config;
    const { created: ___, variant: ____, ...kept } = source;
    expect(rest).toEqual({ architecture: 'amd64', os: 'linux', ...kept });
  },
);

test('docker’s config.json', async () => {
  const dir = fresh();
  const auth = Buffer.from('me:secret').toString('base64');
  const entry = { auth, username: null, identitytoken: null, email: null };
  const document = { auths: { 'a.example': entry, 'b.example': null }, credHelpers: null, credsStore: null };
  writeFileSync(join(dir, 'config.json'), JSON.stringify(document));
  const credentials = dockerConfigCredentials({ dir });
  expect(await credentials('a.example')).toEqual({ username: 'me', password: 'secret' });
  expect(await credentials('b.example')).toBeNull();
  writeFileSync(join(dir, 'config.json'), '{"auths":null}');
  expect(await credentials('a.example')).toBeNull();
});

describe.skipIf(skip.reason)('a registry', () => {
  test('its lists of referrers', async () => {
    const dir = fresh();
    const image = putImage(dir, { layers: [{ tar }] });
    putLayout(dir, image);
    for (const body of [
      '{"schemaVersion":2,"manifests":null}',
      '{"schemaVersion":2,"manifests":[],"annotations":null}',
    ]) {
      await using registry = await startRegistry({ referrers: { perPage: 10 } });
      registry.storage.putLayout('app', dir);
      const headers = { 'content-type': 'application/vnd.oci.image.index.v1+json' };
      registry.fault = ({ path }) =>
        path.includes('/referrers/') ? { kind: 'status', status: 200, headers, body } : null;
      await using store = await openStore(parseReference(`docker://${registry.host}/app:image`));
      expect(await store.referrers(image.digest, null)).toEqual([]);
      expect(await pathsIn(`docker://${registry.host}/app:image`)).toEqual(['/', '/f']);
    }
  });

  test('its errors', async () => {
    await using registry = await startRegistry();
    for (const [body, words] of [
      ['{"errors":null}', 'answered 404'],
      ['{"errors":[{"code":"MANIFEST_UNKNOWN","message":null,"detail":null}]}', 'answered 404: MANIFEST_UNKNOWN'],
      ['null', 'answered 404'],
    ] as const) {
      registry.fault = () => ({ kind: 'status', status: 404, body });
      const error = await failure(pathsIn(`docker://${registry.host}/app:image`));
      expect(error).toMatchObject({ code: 'NOT_FOUND', message: expect.stringMatching(new RegExp(`${words}$`)) });
    }
  });

  test.each(['token', 'access_token'])('its tokens: %s', async (name) => {
    const dir = fresh();
    putLayout(dir, putImage(dir, { layers: [{ tar }] }));
    await using registry = await startRegistry({ auth: 'token', anonymousPull: true });
    registry.storage.putLayout('app', dir);
    const none = {
      token: null,
      access_token: null,
      refresh_token: null,
      scope: null,
      issued_at: null,
      expires_in: null,
    };
    registry.fault = ({ path, headers }) => {
      if (path === '/token') return { kind: 'status', status: 200, body: JSON.stringify({ ...none, [name]: 'abc' }) };
      return headers.authorization === 'Bearer abc' ? { kind: 'delay', ms: 0 } : null;
    };
    const error = await failure(pathsIn(`docker://${registry.host}/app:image`));
    // The registry of the tests knows its own tokens only; it was asked with this one.
    expect(error.code).toBe('UNAUTHORIZED');
    expect(registry.requests.some(({ headers }) => headers.authorization === 'Bearer abc')).toBe(true);
  });
});

test('an archive of docker save', async () => {
  const config = Buffer.from(
    JSON.stringify({ os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: null }, history: null }),
  );
  const name = `${digestOf(config).slice(7)}.json`;
  const path = join(fresh(), 'a.tar');
  const saved = [{ Config: name, RepoTags: null, Layers: null, Parent: null, LayerSources: null }];
  const members = [
    member({ name, data: config.toString() }),
    member({ name: 'manifest.json', data: JSON.stringify(saved) }),
    END,
  ];
  writeFileSync(path, Buffer.concat(members));
  expect(await pathsIn(`docker-archive:${path}`)).toEqual(['/']);
});
