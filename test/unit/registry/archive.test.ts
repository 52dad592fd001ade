/**
 * Archives and directories: what skopeo and docker write is read, what we write skopeo reads, and what nobody should
 * write is refused.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseManifest } from '../../../src/image/manifest.ts';
import { ANNOTATION, MEDIA } from '../../../src/image/media.ts';
import { parseReference } from '../../../src/image/reference.ts';
import { ls } from '../../../src/inspect/ls.ts';
import { openStore } from '../../../src/registry/open.ts';
import type { ImageStore } from '../../../src/registry/store.ts';
import { fixture, layerTars, sha256, zstdCompress } from '../../kit/layers.ts';
import { needs } from '../../kit/skip.ts';
import { sparse10 } from '../../kit/sparse.ts';
import { END, gnuLong, type Member, member, pax } from '../../kit/tar.ts';
import { diffTrees, type Row, readRows } from '../../kit/tree.ts';
import { collect, failure, pushImage } from './contract.ts';

const SOURCE = `oci:${fixture('oci/tame-mini')}:tame-mini-gzip`;
const TRUTH = readRows(fixture('truth/tame-mini.merged.jsonl'));
const DIFF_IDS = layerTars('oci/tame-mini', 'tame-mini-gzip').map(
  (tar) => `sha256:${createHash('sha256').update(tar).digest('hex')}`,
);

const open = (text: string, create = false): Promise<ImageStore> => openStore(parseReference(text), { create });

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'archives-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

const at = (name: string): string => join(dir, name);

/** Copies an image whole from one store to another, through our own code. */
async function copy(from: string, to: string): Promise<string> {
  await using source = await open(from);
  await using target = await open(to, true);
  const descriptor = await source.resolve(null);
  const bytes = await source.manifest(descriptor);
  const manifest = parseManifest(bytes, from);
  for (const blob of [...manifest.layers, manifest.config]) {
    const upload = await target.upload();
    for await (const piece of source.open(blob)) await upload.write(piece);
    await upload.commit(blob.digest, blob.size);
  }
  return (await target.pushManifest(bytes, descriptor.mediaType, null)).digest;
}

async function listed(reference: string): Promise<Row[]> {
  const rows: Row[] = [];
  for await (const row of ls(reference, { platform: 'linux/amd64', recursive: true, digests: true })) rows.push(row);
  return rows;
}

async function manifestOf(reference: string) {
  await using store = await open(reference);
  const descriptor = await store.resolve(null);
  return { descriptor, ...parseManifest(await store.manifest(descriptor), reference) };
}

const skopeo = (...words: string[]): string =>
  execFileSync('skopeo', ['--override-os', 'linux', '--override-arch', 'amd64', ...words], { encoding: 'utf8' });

const skip = needs('skopeo');
describe.skipIf(skip.reason)('with skopeo', () => {
  test.each(['oci-archive:a.tar:v1', 'dir:d'])('%s that it wrote has the same digest', async (name) => {
    const reference = name.replace(':', `:${dir}/`);
    skopeo('copy', '-q', SOURCE, reference);
    expect((await manifestOf(reference)).descriptor.digest).toBe((await manifestOf(SOURCE)).descriptor.digest);
    expect(diffTrees(TRUTH, await listed(reference))).toEqual([]);
  });

  test('docker-archive: that it wrote has the plain layers', async () => {
    skopeo('copy', '-q', SOURCE, `docker-archive:${at('d.tar')}:alpine:v1`);
    for (const ref of ['', ':alpine:v1', ':docker.io/library/alpine:v1', ':@0']) {
      const reference = `docker-archive:${at('d.tar')}${ref}`;
      const { descriptor, layers } = await manifestOf(reference);
      expect(descriptor.mediaType).toBe(MEDIA.dockerManifest);
      expect(layers.map(({ digest }) => digest)).toEqual(DIFF_IDS);
    }
    expect(diffTrees(TRUTH, await listed(`docker-archive:${at('d.tar')}`))).toEqual([]);
    expect((await failure('NOT_FOUND', manifestOf(`docker-archive:${at('d.tar')}:alpine`))).hint).toMatch(/alpine:v1/);
    expect((await failure('NOT_FOUND', manifestOf(`docker-archive:${at('d.tar')}:@1`))).message).toMatch(/1 images/);
  });

  test.each(['oci-archive:a.tar:v1', 'dir:d'])('it reads %s that we wrote, with the same digest', async (name) => {
    const reference = name.replace(':', `:${dir}/`);
    const digest = await copy(SOURCE, reference);
    expect(JSON.parse(skopeo('inspect', reference)).Digest).toBe(digest);
    skopeo('copy', '-q', reference, `oci:${at('back')}:v1`);
    expect((await manifestOf(`oci:${at('back')}:v1`)).descriptor.digest).toBe(digest);
  });

  test('it reads docker-archive: that we wrote', async () => {
    await copy(SOURCE, `docker-archive:${at('d.tar')}:r.example/x:v1`);
    skopeo('copy', '-q', `docker-archive:${at('d.tar')}:r.example/x:v1`, `oci:${at('back')}:v1`);
    expect(diffTrees(TRUTH, await listed(`oci:${at('back')}:v1`))).toEqual([]);
    expect(diffTrees(TRUTH, await listed(`docker-archive:${at('d.tar')}`))).toEqual([]);
  });

  test('an index in a directory', async () => {
    skopeo('copy', '-q', '--all', `oci:${fixture('nydus-oci/index')}:index`, `dir:${at('d')}`);
    await using store = await open(`dir:${at('d')}`);
    const found = await store.resolve(null);
    await using original = await open(`oci:${fixture('nydus-oci/index')}:index`);
    expect(found).toMatchObject(await original.resolve(null).then(({ digest, mediaType }) => ({ digest, mediaType })));
    const truth = TRUTH.map((row) => ({ ...row, mtime: null }));
    expect(diffTrees(truth, await listed(`dir:${at('d')}`))).toEqual([]);
  });
});

describe('written', () => {
  test('the same image is the same bytes, and nothing is left beside it', async () => {
    await copy(SOURCE, `oci-archive:${at('a.tar')}:v1`);
    await copy(SOURCE, `oci-archive:${at('b.tar')}:v1`);
    expect(readFileSync(at('a.tar')).equals(readFileSync(at('b.tar')))).toBe(true);
    expect(readdirSync(dir).sort()).toEqual(['a.tar', 'b.tar']);
  });

  test('takes the place of what was there, when it is whole', async () => {
    writeFileSync(at('a.tar'), 'what was there');
    {
      await using store = await open(`oci-archive:${at('a.tar')}:v1`, true);
      const upload = await store.upload();
      await upload.write(Buffer.from('a blob without an image'));
    }
    expect(readFileSync(at('a.tar'), 'utf8')).toBe('what was there');
    {
      await using store = await open(`oci-archive:${at('a.tar')}:v1`, true);
      await pushImage(store, null);
      expect(readFileSync(at('a.tar'), 'utf8')).toBe('what was there');
    }
    expect((await manifestOf(`oci-archive:${at('a.tar')}:v1`)).layers).toHaveLength(1);
    expect(readdirSync(dir)).toEqual(['a.tar']);
  });

  test('a signal that comes before the end leaves what was there', async () => {
    writeFileSync(at('a.tar'), 'what was there');
    const abort = new AbortController();
    const store = await open(`oci-archive:${at('a.tar')}:v1`, true);
    const config = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [] }));
    await store.pushManifest(config, MEDIA.ociIndex, null, { signal: abort.signal });
    abort.abort();
    await failure('ABORTED', Promise.resolve(store[Symbol.asyncDispose]()));
    expect(readFileSync(at('a.tar'), 'utf8')).toBe('what was there');
    expect(readdirSync(dir)).toEqual(['a.tar']);
  });

  test('what docker cannot load is refused', async () => {
    await using store = await open(`docker-archive:${at('d.tar')}`, true);
    const config = { mediaType: MEDIA.ociConfig, digest: DIFF_IDS[0]!, size: 1 };
    const layer = { ...config, mediaType: MEDIA.ociLayerGzip, annotations: { [ANNOTATION.nydusBootstrap]: 'true' } };
    const lazy = Buffer.from(JSON.stringify({ schemaVersion: 2, config, layers: [layer] }));
    expect((await failure('UNSUPPORTED', store.pushManifest(lazy, MEDIA.ociManifest, null))).hint).toMatch(/unpack/);
    await failure('UNSUPPORTED', store.pushManifest(Buffer.from('{}'), MEDIA.ociIndex, null));
  });

  test('a directory with something else in it stays as it is', async () => {
    writeFileSync(at('precious'), '');
    await failure('PRECONDITION', open(`dir:${dir}`, true));
    expect(readdirSync(dir)).toEqual(['precious']);
    await failure('NOT_FOUND', open(`dir:${dir}`));
    await failure('NOT_FOUND', open(`oci-archive:${at('none.tar')}`));
  });

  test('nothing is added to an archive that is only read', async () => {
    await copy(SOURCE, `oci-archive:${at('a.tar')}:v1`);
    await using store = await open(`oci-archive:${at('a.tar')}:v1`);
    await failure('UNSUPPORTED', store.upload());
    await failure('UNSUPPORTED', store.pushManifest(Buffer.from('{}'), MEDIA.ociManifest, null));
  });
});

/** An archive as docker saves one, by hand: each engine and tool has its own names for the same things. */
describe('docker save', () => {
  const tars = layerTars('oci/tame-mini', 'tame-mini-gzip');
  const config = Buffer.from(
    JSON.stringify({ os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: DIFF_IDS } }),
  );
  const configHex = createHash('sha256').update(config).digest('hex');

  function save(layers: readonly string[], image: object = {}): string {
    writeFileSync(at(`${configHex}.json`), config);
    const saved = { Config: `${configHex}.json`, RepoTags: ['x:1', 'y:2'], Layers: layers, ...image };
    writeFileSync(at('manifest.json'), JSON.stringify([saved]));
    execFileSync('tar', ['-cf', at('d.tar'), '-C', dir, ...readdirSync(dir)]);
    return `docker-archive:${at('d.tar')}`;
  }

  function put(name: string, data: Buffer): string {
    mkdirSync(join(dir, name, '..'), { recursive: true });
    writeFileSync(at(name), data);
    return name;
  }

  test('layer.tar in folders, one of them a link to another', async () => {
    put('one/layer.tar', tars[0]!);
    put('two/layer.tar', tars[1]!);
    put('three/real.tar', tars[2]!);
    symlinkSync('real.tar', at('three/layer.tar'));
    const reference = save(['one/layer.tar', 'two/layer.tar', 'three/layer.tar']);
    expect((await manifestOf(`${reference}:y:2`)).layers.map(({ digest }) => digest)).toEqual(DIFF_IDS);
    expect(diffTrees(TRUTH, await listed(`${reference}:x:1`))).toEqual([]);
    // Two names of one image leave no choice, as to skopeo; those of two images do.
    expect((await manifestOf(reference)).layers.map(({ digest }) => digest)).toEqual(DIFF_IDS);
    const saved = JSON.parse(readFileSync(at('manifest.json'), 'utf8'));
    const other = { Config: 'other.json', RepoTags: ['z:3'], Layers: [] };
    writeFileSync(at('other.json'), JSON.stringify({ rootfs: { type: 'layers', diff_ids: [] } }));
    writeFileSync(at('manifest.json'), JSON.stringify([...saved, other]));
    execFileSync('tar', ['-rf', at('d.tar'), '-C', dir, 'other.json', 'manifest.json']);
    expect((await failure('REFERENCE', manifestOf(reference))).hint).toMatch(/x:1.*y:2.*z:3/);
  });

  test('compressed layers have their own digests', async () => {
    const names = tars.map((tar, i) => put(`${i}.tar.gz`, gzipSync(tar)));
    const reference = save(names, { RepoTags: null });
    const { layers } = await manifestOf(reference);
    expect(layers.map(({ mediaType }) => mediaType)).toEqual(Array(3).fill(MEDIA.dockerLayerGzip));
    expect(diffTrees(TRUTH, await listed(reference))).toEqual([]);
  });

  test('a layer that begins with a skippable frame of zstd, and one that is compressed as nobody reads', async () => {
    const skippable = Buffer.from('532a4d18040000002a2a2a2a', 'hex');
    const names = tars.map((tar, i) => put(`${i}.tar`, Buffer.concat([skippable, zstdCompress(tar)])));
    const reference = save(names, { RepoTags: null });
    expect((await manifestOf(reference)).layers[0]!.mediaType).toBe(MEDIA.dockerLayerZstd);
    expect(diffTrees(TRUTH, await listed(reference))).toEqual([]);
    put('0.tar', Buffer.concat([Buffer.from('fd377a585a00', 'hex'), Buffer.alloc(100)]));
    expect((await failure('UNSUPPORTED', listed(save(names, { RepoTags: null })))).message).toContain('xz');
  });

  test('the layout that newer engines put beside it gives the manifest of the registry', async () => {
    cpSync(fixture('oci/tame-mini'), dir, { recursive: true });
    const { descriptor, config: real, layers } = await manifestOf(SOURCE);
    const blob = (digest: string): string => `blobs/${digest.replace(':', '/')}`;
    const reference = save([], { Config: blob(real.digest), Layers: layers.map(({ digest }) => blob(digest)) });
    expect((await manifestOf(`${reference}:x:1`)).descriptor.digest).toBe(descriptor.digest);
    expect(diffTrees(TRUTH, await listed(`${reference}:x:1`))).toEqual([]);
  });

  test('a gzip of it is read as well', async () => {
    const reference = save(
      tars.map((tar, i) => put(`${i}.tar`, tar)),
      { RepoTags: ['x:1'] },
    );
    writeFileSync(at('d.tar.gz'), gzipSync(readFileSync(at('d.tar'))));
    expect(diffTrees(TRUTH, await listed(reference))).toEqual([]);
    expect(diffTrees(TRUTH, await listed(`docker-archive:${at('d.tar.gz')}`))).toEqual([]);
    writeFileSync(at('cut.tar.gz'), readFileSync(at('d.tar.gz')).subarray(0, 50_000));
    await failure('FORMAT', manifestOf(`docker-archive:${at('cut.tar.gz')}`));
  });

  test('a layer that is not what the config says, and a config that is not what it is called', async () => {
    const names = tars.map((tar, i) => put(`${i}.tar`, i === 1 ? Buffer.concat([tar, Buffer.alloc(512)]) : tar));
    await failure('DIGEST_MISMATCH', listed(save(names, { RepoTags: ['x:1'] })));
    const lie = `${'0'.repeat(64)}.json`;
    put(lie, config);
    await failure('DIGEST_MISMATCH', manifestOf(save(names, { RepoTags: ['x:1'], Config: lie })));
  });

  test.each<[string, object, RegExp]>([
    ['a layer that is missing', { Layers: ['none.tar', 'a', 'b'] }, /none\.tar: missing/],
    ['a config that is missing', { Config: 'none.json' }, /none\.json: missing/],
    ['fewer layers than the config has', { Layers: [] }, /it has 0 layers, and the config has 3 diff_ids/],
    ['no list of layers', { Layers: 7 }, /manifest\.json 0\.Layers/],
  ])('%s', async (_, image, message) => {
    expect((await failure('FORMAT', manifestOf(save([], { RepoTags: ['x:1'], ...image })))).message).toMatch(message);
  });

  test('an OCI manifest without layers, as Docker 25.0.0 wrote it, is not the image', async () => {
    const names = tars.map((tar, i) => put(`${i}.tar`, tar));
    const blob = (mediaType: string, data: Buffer) => {
      put(`blobs/sha256/${sha256(data)}`, data);
      return { mediaType, digest: `sha256:${sha256(data)}`, size: data.length };
    };
    const described = blob(MEDIA.ociConfig, config);
    const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, config: described, layers: [] }));
    put('oci-layout', Buffer.from('{"imageLayoutVersion":"1.0.0"}'));
    put(
      'index.json',
      Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [blob(MEDIA.ociManifest, manifest)] })),
    );
    const reference = save(names, { RepoTags: ['x:1'], Config: `blobs/sha256/${sha256(config)}` });
    expect(diffTrees(TRUTH, await listed(`${reference}:x:1`))).toEqual([]);
  });

  test('what an old engine saved says so', async () => {
    put('repositories', Buffer.from('{}'));
    execFileSync('tar', ['-cf', at('d.tar'), '-C', dir, 'repositories']);
    expect((await failure('UNSUPPORTED', manifestOf(`docker-archive:${at('d.tar')}`))).message).toMatch(/1\.10/);
  });
});

describe('hostile archives', () => {
  const INDEX = '{"schemaVersion":2,"manifests":[]}';
  const index: Member = { name: 'index.json', data: INDEX };

  async function refused(parts: readonly Buffer[], message: RegExp): Promise<void> {
    writeFileSync(at('a.tar'), Buffer.concat(parts));
    expect((await failure('FORMAT', manifestOf(`oci-archive:${at('a.tar')}`))).message).toMatch(message);
  }

  test.each<[string, Buffer[], RegExp]>([
    ['a name that leaves the archive', [member({ name: '../index' }), END], /no index\.json/],
    [
      'a member longer than the file',
      [member({ ...index, size: 1e9 })],
      /1000000000 bytes .* exceed the file's 1024 bytes/,
    ],
    ['a member with a size of 2^53', [pax({ size: String(2 ** 53) }), member(index), END], /pax size/],
    ['a negative size', [member({ ...index, raw: [[124, Buffer.alloc(12, 0xff)]] }), END], /size/],
    ['a sparse member', [sparse10({ name: 'index.json', size: 9, parts: [] }), END], /sparse/],
    ['an old sparse member', [member({ ...index, type: 'S' }), END], /sparse/],
    ['a device', [member({ name: 'index.json', type: '3' }), END], /must not contain/],
    ['a broken checksum', [Buffer.concat([Buffer.from('x'), member(index).subarray(1)]), END], /checksum/],
    ['half a header', [member(index), Buffer.alloc(100, 1)], /truncated/],
    [
      'a loop of links',
      [member({ name: 'index.json', type: '2', link: 'index.json' }), END],
      /more than 4 links to follow/,
    ],
    ['no index', [member({ name: 'a' }), END], /no index\.json/],
    ['nothing', [Buffer.alloc(0)], /no index\.json/],
    ['an index of other bytes', [member({ name: 'index.json', data: '[' }), END], /not JSON|document/],
    ['a huge index', [member({ name: 'index.json', data: ' '.repeat(9 << 20) }), END], /exceed the limit/],
    ['a long name without an entry', [gnuLong('L', 'a/'.repeat(3000)), END], /longer than/],
  ])('%s', (_, parts, message) => refused(parts, message));

  test('a link out of the archive leads nowhere', async () => {
    for (const link of ['/etc/passwd', '../../etc/passwd', '/../index']) {
      await refused([member({ name: 'index.json', type: '2', link }), END], /no index\.json/);
    }
  });

  test('of a name that stands there twice the last one counts', async () => {
    const other = { ...index, data: INDEX.replace('[]', '7') };
    await refused([member(index), member(other), END], /manifests/);
    writeFileSync(at('a.tar'), Buffer.concat([member(other), member({ ...index, name: './index.json' }), END]));
    await failure('NOT_FOUND', manifestOf(`oci-archive:${at('a.tar')}`));
  });

  test('names that lie beside the layout do no harm', async () => {
    const parts = ['/absolute', 'a/../b', `deep/${'d/'.repeat(40)}x`].map((name) => member({ name }));
    writeFileSync(at('a.tar'), Buffer.concat([...parts, member(index), END]));
    await failure('NOT_FOUND', manifestOf(`oci-archive:${at('a.tar')}`));
  });

  test('more members than an archive has', async () => {
    const parts = Array.from({ length: 100_001 }, (_, i) => member({ name: `m${i}` }));
    await refused([...parts, END], /more than 100000 members/);
  });

  test('a compression that is not read is named', async () => {
    for (const [magic, program] of [
      ['28b52ffd', 'zstd'],
      ['fd377a585a00', 'xz'],
      ['425a6839', 'bzip2'],
    ]) {
      writeFileSync(at('a.tar'), Buffer.concat([Buffer.from(magic!, 'hex'), Buffer.alloc(100)]));
      const error = await failure('UNSUPPORTED', manifestOf(`oci-archive:${at('a.tar')}`));
      expect(error.message).toContain(program);
    }
  });

  test('a blob of other bytes', async () => {
    await copy(SOURCE, `oci-archive:${at('a.tar')}:v1`);
    const bytes = readFileSync(at('a.tar'));
    const { layers } = await manifestOf(`oci-archive:${at('a.tar')}:v1`);
    const start = bytes.indexOf(`blobs/sha256/${layers[0]!.digest.slice(7)}`) + 512;
    bytes[start + 1000]! ^= 1;
    writeFileSync(at('a.tar'), bytes);
    await using store = await open(`oci-archive:${at('a.tar')}:v1`);
    await failure('DIGEST_MISMATCH', collect(store.open(layers[0]!)));
    expect(gunzipSync(await collect(store.open(layers[1]!))).length).toBeGreaterThan(0);
  });
});
