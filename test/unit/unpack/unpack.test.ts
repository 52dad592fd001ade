/** What an image is unpacked to is what it holds: against the truth of the fixtures, the walker, tar, umoci and skopeo. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { convert } from '../../../src/convert/convert.ts';
import { parseManifest } from '../../../src/image/manifest.ts';
import { MEDIA } from '../../../src/image/media.ts';
import { parseReference } from '../../../src/image/reference.ts';
import { ls } from '../../../src/inspect/ls.ts';
import { openStore } from '../../../src/registry/open.ts';
import type { UnpackOptions } from '../../../src/unpack/options.ts';
import { unpack } from '../../../src/unpack/unpack.ts';
import { fixture } from '../../kit/layers.ts';
import { startRegistry } from '../../kit/registry.ts';
import { needs } from '../../kit/skip.ts';
import { sourceLayout } from '../../kit/source-image.ts';
import { END, member } from '../../kit/tar.ts';
import { diffTrees, type Row, readRows, walk } from '../../kit/tree.ts';
import { failure } from '../registry/contract.ts';

const PLATFORM = { platform: 'linux/amd64' } as const;
const source = (tree: string): string => `oci:${fixture('oci', tree)}:${tree}-gzip`;
const truth = (tree: string): Row[] => readRows(fixture(`truth/${tree}.merged.jsonl`));
const unpackTo = (from: string, to: string, options: UnpackOptions = {}) =>
  unpack(from, to, { ...PLATFORM, ...options });

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'unpack-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));
const at = (name: string): string => join(dir, name);

async function listed(reference: string): Promise<Row[]> {
  const rows: Row[] = [];
  for await (const row of ls(reference, { ...PLATFORM, recursive: true, digests: true })) rows.push(row);
  return rows;
}

async function lazy(tree: string): Promise<string> {
  await convert(source(tree), `oci:${at(`lazy-${tree}`)}:lazy`);
  return `oci:${at(`lazy-${tree}`)}:lazy`;
}

async function manifestOf(reference: string) {
  await using store = await openStore(parseReference(reference));
  const descriptor = await store.resolve(null);
  return { descriptor, ...parseManifest(await store.manifest(descriptor), reference) };
}

const skip = needs('addon', 'root', 'python3');
describe.skipIf(skip.reason).each(['tame-mini', 'nasty-mini'])('%s as root', (tree) => {
  test('a directory of the lazy image', async () => {
    const target = at('rootfs');
    const result = await unpackTo(await lazy(tree), target);
    expect(diffTrees(truth(tree), await walk(target))).toEqual([]);
    expect(result).toMatchObject({ format: 'dir', target, entries: truth(tree).length });
    expect(Object.values(result.skipped).every((count) => count === 0)).toBe(true);
    expect(readdirSync(dir).sort()).toEqual([`lazy-${tree}`, 'rootfs']);
  });

  test('a directory of the ordinary image, where an empty one was', async () => {
    mkdirSync(at('rootfs'));
    await unpackTo(source(tree), at('rootfs'));
    expect(diffTrees(truth(tree), await walk(at('rootfs')))).toEqual([]);
  });

  test('a tar, which GNU tar unpacks, the same bytes each time', async () => {
    const image = await lazy(tree);
    for (const name of ['a.tar', 'b.tar']) await unpackTo(image, at(name), { format: 'tar' });
    expect(readFileSync(at('a.tar')).equals(readFileSync(at('b.tar')))).toBe(true);
    // -P: GNU tar would else make symbolic links last, which changes the times of their directories.
    mkdirSync(at('out'));
    execFileSync('tar', ['-xpPf', at('a.tar'), '-C', at('out'), '--xattrs', '--xattrs-include=*', '--numeric-owner']);
    expect(diffTrees(truth(tree), await walk(at('out')), { ignore: ['xattrs'] })).toEqual([]);
    // GNU tar sets no attribute with an empty value, and none of a symlink's; an image of the tar shows all.
    const layer = sourceLayout(at('again'), { layers: [{ tar: readFileSync(at('a.tar')), how: 'none' }] });
    expect(diffTrees(truth(tree), await listed(layer))).toEqual([]);
  });

  test('a tar where the name says so', async () => {
    const { format } = await unpackTo(source(tree), at('named.tar'));
    expect([format, statSync(at('named.tar')).isFile()]).toEqual(['tar', true]);
  });

  test('an ordinary image of one layer, and that converted again is the same tree', async () => {
    const image = await lazy(tree);
    const { digest } = await unpackTo(image, `oci:${at('plain')}:v1`);
    const { descriptor, layers } = await manifestOf(`oci:${at('plain')}:v1`);
    expect(descriptor.digest).toBe(digest);
    expect(layers.map(({ mediaType }) => mediaType)).toEqual([MEDIA.ociLayerGzip]);
    expect(diffTrees(truth(tree), await listed(`oci:${at('plain')}:v1`))).toEqual([]);
    await convert(`oci:${at('plain')}:v1`, `oci:${at('plain')}:lazy`);
    expect(diffTrees(truth(tree), await listed(`oci:${at('plain')}:lazy`))).toEqual([]);
    // The same again, through an archive.
    await unpackTo(image, `oci-archive:${at('plain.tar')}:v1`);
    expect((await manifestOf(`oci-archive:${at('plain.tar')}:v1`)).descriptor.digest).toBe(digest);
  });
});

describe.skipIf(skip.reason)('the layers', () => {
  test('of the original come back byte for byte where it is', async () => {
    await using registry = await startRegistry();
    registry.storage.putLayout('x', fixture('oci/tame-mini'));
    const original = `docker://${registry.host}/x:tame-mini-gzip`;
    await convert(original, `docker://${registry.host}/x:lazy`);
    const { digest } = await unpackTo(`docker://${registry.host}/x:lazy`, `oci:${at('back')}:v1`, { layers: true });
    expect(digest).toBe((await manifestOf(original)).descriptor.digest);
    expect((await manifestOf(`oci:${at('back')}:v1`)).descriptor.digest).toBe(digest);
    expect(diffTrees(truth('tame-mini'), await listed(`oci:${at('back')}:v1`))).toEqual([]);
  });

  test('are refused where the original is not, and say what there is instead', async () => {
    const error = await failure('NOT_FOUND', unpackTo(await lazy('tame-mini'), `oci:${at('x')}:v1`, { layers: true }));
    expect(error.message).toMatch(/original image sha256:[0-9a-f]{64} was not found/);
    expect(error.hint).toMatch(/one layer/);
    await failure('USAGE', unpackTo(source('tame-mini'), at('x'), { layers: true }));
  });

  test('of an ordinary image are itself', async () => {
    const { digest } = await unpackTo(source('tame-mini'), `dir:${at('d')}`, { layers: true });
    expect(digest).toBe((await manifestOf(source('tame-mini'))).descriptor.digest);
  });
});

describe.skipIf(skip.reason)('every form of a lazy image', () => {
  test.each(['default', 'merged', 'lz4', 'chunk-4k', 'sha256'])('bare files rafs/%s', async (name) => {
    const expected = name === 'merged' ? 'tame-mini.merged' : 'tame-mini.only-layer1.merged';
    await unpackTo(`rafs:${fixture('rafs', name, 'bootstrap')}`, at('rootfs'));
    const rows = readRows(fixture(`truth/${expected}.jsonl`));
    // The tool that made it keeps whole seconds after 1970.
    expect(diffTrees(rows, await walk(at('rootfs')), { ignore: ['mtime'] })).toEqual([]);
  });

  const more = needs('skopeo', 'umoci');
  test.skipIf(more.reason)('skopeo and umoci take what became of it', async () => {
    const image = await lazy('tame-mini');
    await unpackTo(image, `docker-archive:${at('d.tar')}:r.example/x:v1`);
    execFileSync('skopeo', ['copy', '-q', `docker-archive:${at('d.tar')}:r.example/x:v1`, `oci:${at('s')}:v1`]);
    execFileSync('umoci', ['unpack', '--image', `${at('s')}:v1`, at('bundle')], { stdio: 'ignore' });
    const ignore = ['xattrs'] as const;
    expect(diffTrees(truth('tame-mini'), await walk(at('bundle/rootfs')), { ignore })).toEqual([]);
  });
});

const asNobody = needs('addon', 'root', 'dist', 'python3');
describe.skipIf(asNobody.reason)('as another user', () => {
  const NOBODY = 65534;
  const cli = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url));

  test('a directory without owners and devices, and it says so', async () => {
    chmodSync(dir, 0o755);
    mkdirSync(at('mine'));
    chownSync(at('mine'), NOBODY, NOBODY);
    const words = [cli, 'unpack', '--platform', 'linux/amd64', '--json', source('nasty-mini'), at('mine/rootfs')];
    const run = spawnSync(process.execPath, words, { uid: NOBODY, gid: NOBODY, encoding: 'utf8', cwd: '/' });
    expect(run.stderr).toMatch(/belong to you/);
    expect(run.status, run.stderr).toBe(0);
    const rows = truth('nasty-mini');
    const kept = rows.filter(({ type }) => type !== 'char' && type !== 'block');
    // Which of the others a user may set is the kernel's business.
    const user = (row: Row): Row => ({
      ...row,
      uid: NOBODY,
      gid: NOBODY,
      xattrs: Object.fromEntries(Object.entries(row.xattrs ?? {}).filter(([key]) => key.startsWith('user.'))),
    });
    expect(diffTrees(kept.map(user), (await walk(at('mine/rootfs'))).map(user))).toEqual([]);
    const { skipped } = JSON.parse(run.stdout);
    expect(skipped.devices).toBe(rows.length - kept.length);
    expect(skipped.owners).toBeGreaterThan(0);
    expect(readdirSync(at('mine'))).toEqual(['rootfs']);
  });
});

describe.skipIf(skip.reason)('care', () => {
  const image = (...parts: Buffer[]): string =>
    sourceLayout(at('image'), { layers: [{ tar: Buffer.concat([...parts, END]) }] });

  test('a directory that is not empty is left alone', async () => {
    mkdirSync(at('rootfs'));
    writeFileSync(at('rootfs/precious'), '');
    expect((await failure('PRECONDITION', unpackTo(source('tame-mini'), at('rootfs')))).hint).toMatch(/empty/);
    expect(readdirSync(at('rootfs'))).toEqual(['precious']);
  });

  test('links that lead out of the target are made and never followed', async () => {
    mkdirSync(at('outside'));
    const links = [
      member({ name: 'out', type: '2', link: at('outside') }),
      member({ name: 'up', type: '2', link: '../outside' }),
      member({ name: 'dir/', type: '5' }),
      member({ name: 'dir/up', type: '2', link: '../../outside' }),
    ];
    await unpackTo(image(...links, member({ name: 'out/x', data: 'x' }), member({ name: 'up/y', data: 'y' })), at('r'));
    expect(readdirSync(at('outside'))).toEqual([]);
    expect((await walk(at('r'))).filter(({ type }) => type === 'symlink').map(({ path }) => path)).toContain('/dir/up');
  });

  test('zeros become holes, to the last byte', async () => {
    const megabyte = '\0'.repeat(1 << 20);
    const data = `${megabyte}x${megabyte}${'\0'.repeat(100)}`;
    const sparse = image(member({ name: 'sparse', data }), member({ name: 'zero', data: megabyte }));
    await convert(sparse, `oci:${at('lazy')}:v1`, { chunkSize: 4096 });
    for (const [from, to] of [
      [sparse, at('a')],
      [`oci:${at('lazy')}:v1`, at('b')],
    ] as const) {
      await unpackTo(from, to);
      expect(readFileSync(join(to, 'sparse'), 'latin1') === data).toBe(true);
      expect(statSync(join(to, 'sparse')).blocks * 512).toBeLessThan(64 * 1024);
      expect(statSync(join(to, 'zero'))).toMatchObject({ size: 1 << 20, blocks: 0 });
    }
  });

  test('a signal leaves nothing', async () => {
    const from = await lazy('nasty-mini');
    for (const [target, form] of [
      [at('rootfs'), 'dir'],
      [at('x.tar'), 'tar'],
      [`oci-archive:${at('y.tar')}`, 'image'],
    ] as const) {
      const abort = new AbortController();
      const onProgress = () => abort.abort();
      await failure('ABORTED', unpackTo(from, target, { format: form, signal: abort.signal, onProgress }));
    }
    expect(readdirSync(dir)).toEqual(['lazy-nasty-mini']);
  });

  test('a damaged blob leaves nothing', async () => {
    const from = await lazy('tame-mini');
    const { layers } = await manifestOf(from);
    const blob = at(`lazy-tame-mini/blobs/sha256/${layers[0]!.digest.slice(7)}`);
    const bytes = readFileSync(blob);
    bytes.fill(0, 1000, 2000);
    writeFileSync(blob, bytes);
    await expect(unpackTo(from, at('rootfs'))).rejects.toMatchObject({ code: expect.stringMatching(/FORMAT|DIGEST/) });
    expect(readdirSync(dir)).toEqual(['lazy-tame-mini']);
  });
});
