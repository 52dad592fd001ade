/** The programs of examples/ do what they say, as a user runs them: compiled, in a process of their own. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkout } from '#cache';
import { fixture } from '../kit/layers.ts';
import { mountsBelow } from '../kit/mounts.ts';
import { run } from '../kit/process.ts';
import { startRegistry, type TestRegistry } from '../kit/registry.ts';
import { PASSWORD, USER } from '../kit/registry-auth.ts';
import { needs } from '../kit/skip.ts';
import { putEntries, putImage } from '../kit/source-image.ts';
import { END, member } from '../kit/tar.ts';
import { readRows } from '../kit/tree.ts';

const built = needs('dist', 'addon');
const mounts = needs('dist', 'addon', 'root', 'erofs', 'fuse');

describe.skipIf(built.reason)('the example', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-examples-'));
  let registry: TestRegistry;
  const image = (name: string): string => `docker://${registry.host}/${name}`;
  const example = (name: string, args: readonly string[], env: NodeJS.ProcessEnv = {}) =>
    run(process.execPath, [join(checkout, '.cache', 'examples', `${name}.js`), ...args], {
      env: { HOME: dir, TMPDIR: dir, ...env },
    });
  const blobBytes = (): number =>
    registry.requests.reduce((sum, { path, bytes }) => sum + (path.includes('/blobs/') ? bytes : 0), 0);

  beforeAll(async () => {
    const compiler = join(checkout, 'node_modules', 'typescript', 'bin', 'tsc');
    await run(process.execPath, [compiler, '-p', join(checkout, 'examples')]);
    registry = await startRegistry();
    registry.storage.putLayout('tame', fixture('oci', 'tame-mini'));
    registry.storage.putLayout('nydus', fixture('nydus-oci', 'index'));
  });
  afterAll(async () => {
    await registry?.close();
    rmSync(dir, { recursive: true });
  });

  it('convert writes a lazy image, tells its progress and what it uploaded', async () => {
    const { stdout, stderr } = await example('convert', [image('tame:tame-mini-gzip'), image('tame:lazy')]);
    const digest = registry.storage.repository('tame').tags.get('lazy');
    expect(stdout).toMatch(new RegExp(`^linux/amd64: 3 layers became 3 blobs\n${digest}: [1-9]\\d+ bytes uploaded\n$`));
    expect(stderr).toMatch(/^convert [0-9a-f]{12}: \d+ % of \d+ bytes\n/);
    expect(stderr).toMatch(/: 100 % of \d+ bytes\n$/);
  });

  it('convert prints an error of the library with its code', async () => {
    await expect(example('convert', [image('tame:missing'), image('tame:lazy')])).rejects.toThrow('NOT_FOUND: ');
  });

  it('largest-files lists them by size, and downloads none of them', async () => {
    registry.requests.length = 0;
    const { stdout } = await example('largest-files', [image('nydus:index'), '3']);
    const found = stdout.trimEnd().split('\n');
    const sizes = readRows(fixture('truth/tame-mini.merged.jsonl'))
      .flatMap(({ type, size, path }) => (type === 'reg' && path !== undefined ? [{ size: size!, path }] : []))
      .toSorted((a, b) => b.size - a.size);
    expect(found).toEqual(sizes.slice(0, 3).map(({ size, path }) => `${String(size).padStart(12)}  ${path}`));
    expect(blobBytes()).toBeLessThan(sizes[0]!.size);
  });

  it('diff-tags lists changes of files and of the configuration', async () => {
    const layer = (files: Readonly<Record<string, string>>) => ({
      tar: Buffer.concat([...Object.entries(files).map(([name, data]) => member({ name, data })), END]),
    });
    const layout = join(dir, 'two-tags');
    const [older, newer] = [
      putImage(layout, { layers: [layer({ same: '1', other: '1', old: '1' })], config: { config: { Cmd: ['a'] } } }),
      putImage(layout, { layers: [layer({ same: '1', other: '22', new: '1' })], config: { config: { Cmd: ['b'] } } }),
    ];
    putEntries(layout, [
      ['1', older],
      ['2', newer],
    ]);
    registry.storage.putLayout('app', layout);
    const lines = (await example('diff-tags', [image('app'), '1', '2'])).stdout.trimEnd().split('\n');
    expect(lines.slice(0, 3)).toEqual(['added    /new', 'removed  /old', 'changed  /other  (size)']);
    expect(lines).toContain('config   config.config.Cmd: ["a"] → ["b"]');
    expect(lines.at(-1)).toBe('1 added, 1 removed, 1 changed');
  });

  it('credentials logs in with what its own source knows, and at this registry only', async () => {
    await using secured = await startRegistry({ auth: 'token' });
    secured.storage.putLayout('tame', fixture('oci', 'tame-mini'));
    const repository = `docker://${secured.host}/tame`;
    const login = { REGISTRY_USER: USER, REGISTRY_PASSWORD: PASSWORD };
    const { stdout } = await example('credentials', [repository], login);
    expect(stdout.trimEnd().split('\n')).toContain('tame-mini-gzip');
    await expect(example('credentials', [repository], { ...login, REGISTRY_PASSWORD: 'wrong' })).rejects.toThrow(
      'UNAUTHORIZED',
    );
  });

  it.skipIf(mounts.reason)('mount reads a mounted image, and leaves nothing behind', { timeout: 120_000 }, async () => {
    const { stdout } = await example('mount', [image('nydus:index'), '/sizes']);
    const names = readRows(fixture('truth/tame-mini.merged.jsonl'))
      .flatMap(({ path }) => /^\/sizes\/([^/]+)$/.exec(path ?? '')?.[1] ?? [])
      .sort();
    expect(stdout).toBe(`/sizes has ${names.length} entries: ${names.join(' ')}\n`);
    expect(mountsBelow(dir)).toEqual([]);
  });
});
