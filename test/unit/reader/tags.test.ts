/** Names of images in every place, and what points at them. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { LacunaError } from '../../../src/errors.ts';
import { inspect } from '../../../src/inspect/inspect.ts';
import { referrers } from '../../../src/inspect/referrers.ts';
import { tags } from '../../../src/inspect/tags.ts';
import { openNamedStore } from '../../../src/registry/source.ts';
import { fixture, sha256 } from '../../kit/layers.ts';
import { startRegistry } from '../../kit/registry.ts';
import { putImage, putIndex } from '../../kit/source-image.ts';

async function all(reference: string): Promise<string[]> {
  const found: string[] = [];
  for await (const tag of tags(reference)) found.push(tag);
  return found;
}

const TYPE = 'application/vnd.example.sbom';

describe('tags', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-tags-'));
  afterAll(() => rmSync(dir, { recursive: true }));

  it('are those of a repository, however many pages they take', async () => {
    await using registry = await startRegistry({ tagsPerPage: 3 });
    const names = Array.from({ length: 8 }, (_, i) => `v1.${i}`);
    for (const name of names) registry.storage.putManifest('team/app', 'x/y', Buffer.from(name), name);
    expect(await all(`docker://${registry.host}/team/app`)).toEqual(names);
    expect(registry.requests.map(({ query }) => query)).toEqual(['?n=1000', '?last=v1.2&n=3', '?last=v1.5&n=3']);
    registry.storage.repository('empty');
    expect(await all(`docker://${registry.host}/empty:whatever`)).toEqual([]);
    await expect(all(`docker://${registry.host}/nowhere`)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('that never end, or are none, are an error of the registry', async () => {
    await using registry = await startRegistry({});
    const answer = (body: string, headers: Record<string, string> = {}) => {
      registry.fault = () => ({ kind: 'status', status: 200, headers, body });
    };
    const reference = `docker://${registry.host}/app`;
    answer('{"tags":["a b"]}');
    await expect(all(reference)).rejects.toMatchObject({ code: 'FORMAT', field: 'tags' });
    answer('{"tags":{}}');
    await expect(all(reference)).rejects.toMatchObject({ code: 'FORMAT', field: 'tags' });
    answer('{"name":"app","tags":null}');
    expect(await all(reference)).toEqual([]);
    answer('{"tags":["a"]}', { link: '</v2/app/tags/list?n=1000>; rel="next"' });
    await expect(all(reference)).rejects.toMatchObject({ code: 'PROTOCOL' });
  });

  it('are listed where the one that is named is missing', async () => {
    await using registry = await startRegistry({});
    const repository = `docker://${registry.host}/app`;
    const hint = async (reference: string): Promise<string | null> =>
      (await inspect(reference).catch((error: LacunaError) => `${error.code}: ${error.hint}`)) as string;
    for (let i = 0; i < 9; i++) registry.storage.putManifest('app', 'x/y', Buffer.from(`${i}`), `release-${i}`);
    const list = `it has: ${Array.from({ length: 8 }, (_, i) => `release-${i}`).join(', ')}, … (lacuna tags lists all)`;
    expect(await hint(repository)).toBe(`NOT_FOUND: ${list}`);
    expect(registry.requests.map(({ path }) => path)).toEqual(['/v2/app/manifests/latest', '/v2/app/tags/list']);
    expect(await hint(`${repository}:realease-7`)).toBe(`NOT_FOUND: did you mean release-7? ${list}`);
    expect(await hint(`docker://${registry.host}/nowhere`)).toBe('NOT_FOUND: check the name and the tag');
    registry.fault = ({ path }) => (path.endsWith('/tags/list') ? { kind: 'status', status: 403 } : null);
    expect(await hint(repository)).toBe('NOT_FOUND: check the name and the tag');
  });

  it('are the names in a layout and in archives; a directory has none, bare files cannot have any', async () => {
    const layout = fixture('oci/tame-mini');
    const listed = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')).manifests as Array<{
      annotations: Record<string, string>;
    }>;
    const names = listed.map(({ annotations }) => annotations['org.opencontainers.image.ref.name']!);
    expect(names.length).toBeGreaterThan(1);
    expect(await all(`oci:${layout}`)).toEqual(names);
    const archive = join(dir, 'layout.tar');
    execFileSync('tar', ['-cf', archive, '-C', layout, '.']);
    expect(await all(`oci-archive:${archive}`)).toEqual(names);
    await expect(all(`rafs:${fixture('rafs/default/bootstrap')}`)).rejects.toMatchObject({ code: 'USAGE' });
  });
});

describe('referrers', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-referrers-'));
  afterAll(() => rmSync(dir, { recursive: true }));

  it.each([{ referrers: { perPage: 1 } }, {}])(
    'are a tree, of an index for each of its manifests (%j)',
    async (options) => {
      await using registry = await startRegistry(options);
      const { storage } = registry;
      const index = putIndex(join(dir, 'x'), [
        { ...image('a'), platform: { os: 'linux', architecture: 'amd64' } },
        { ...image('b'), platform: { os: 'linux', architecture: 'arm64', variant: 'v8' } },
      ]);
      for (const { digest, mediaType } of [image('a'), image('b'), index]) {
        storage.putManifest('app', mediaType, blob(digest), digest === index.digest ? 'v1' : undefined);
      }
      const push = async (artifactType: string, subject: { mediaType: string; digest: string; size: number }) => {
        const empty = storage.putBlob('app', Buffer.from('{}'));
        const bytes = Buffer.from(
          JSON.stringify({
            schemaVersion: 2,
            mediaType: MANIFEST,
            artifactType,
            config: { ...empty, mediaType: 'application/vnd.oci.empty.v1+json' },
            layers: [],
            subject: { mediaType: subject.mediaType, digest: subject.digest, size: subject.size },
            annotations: { by: 'test' },
          }),
        );
        await using store = await openNamedStore(`docker://${registry.host}/app:v1`);
        return await store.pushManifest(bytes, MANIFEST, `sha256:${sha256(bytes)}`);
      };
      const sbom = await push(TYPE, image('b'));
      const signature = await push('application/vnd.example.signature', sbom);
      const other = await push('application/vnd.example.other', index);

      const found = await referrers(`docker://${registry.host}/app:v1`);
      expect(found.map(({ digest, platform }) => [digest, platform])).toEqual([
        [index.digest, null],
        [image('a').digest, 'linux/amd64'],
        [image('b').digest, 'linux/arm64/v8'],
      ]);
      expect(found[0]!.referrers).toMatchObject([{ digest: other.digest, annotations: { by: 'test' } }]);
      expect(found[1]!.referrers).toEqual([]);
      expect(found[2]!.referrers).toMatchObject([
        {
          digest: sbom.digest,
          artifactType: TYPE,
          size: sbom.size,
          referrers: [{ digest: signature.digest, referrers: [] }],
        },
      ]);
      const typed = await referrers(`docker://${registry.host}/app:v1`, { type: TYPE });
      expect(typed.map((subject) => subject.referrers.length)).toEqual([0, 0, 1]);
    },
  );

  const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
  const image = (name: string) => putImage(join(dir, 'x'), { layers: [], config: { author: name } });
  const blob = (digest: string) => readFileSync(join(dir, 'x', 'blobs', ...digest.split(':')));
});
