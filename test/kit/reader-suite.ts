/** What reading an image without mounting it must do, with the addon and without it. */
import { expect, it } from 'vitest';
import { cat } from '../../src/inspect/cat.ts';
import { inspect } from '../../src/inspect/inspect.ts';
import { type LsOptions, ls } from '../../src/inspect/ls.ts';
import { openImage } from '../../src/reader/open.ts';
import { fixture, sha256 } from './layers.ts';
import { diffTrees, nydusImageTime, type Row, readRows } from './tree.ts';

const NYDUS = `oci:${fixture('nydus-oci/index')}:index`;
const NASTY = `oci:${fixture('oci/nasty-mini')}:nasty-mini`;
const TRUTH = readRows(fixture('truth/tame-mini.merged.jsonl'));

async function rows(reference: string, options: LsOptions = {}): Promise<Row[]> {
  const found: Row[] = [];
  for await (const row of ls(reference, { platform: 'linux/amd64', ...options })) found.push(row);
  return found;
}

async function text(reference: string, ...paths: string[]): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of cat(reference, paths, { platform: 'linux/amd64' })) pieces.push(piece);
  return Buffer.concat(pieces);
}

export function readerSuite(): void {
  it('lists an image of nydusify, found in a combined index, as the truth says', async () => {
    const found = await rows(NYDUS, { recursive: true, digests: true });
    expect(diffTrees(TRUTH, found, { time: nydusImageTime })).toEqual([]);
    expect(found.filter((row) => row.type === 'reg').every((row) => row.sha256 !== undefined)).toBe(true);
  });

  it.each(['gzip', 'zstd', 'zstd-multi'])('lists an ordinary image with %s layers as the truth says', async (kind) => {
    const found = await rows(`${NASTY}-${kind}`, { recursive: true, digests: true });
    expect(diffTrees(readRows(fixture('truth/nasty-mini.merged.jsonl')), found)).toEqual([]);
    expect(found.find((row) => row.type === 'reg')?.sha256).toMatch(/^[0-9a-f]{64}$/);
  });

  it.each([
    ['default/bootstrap', 'truth/tame-mini.only-layer1.merged.jsonl'],
    ['merged/bootstrap', 'truth/tame-mini.merged.jsonl'],
    [
      'inline-meta-toc/d13b65e4d824a0fe08d8b4141d4d3f7014744ae30a38051288921e804fb5afab.boot',
      'truth/tame-mini.only-layer1.merged.jsonl',
    ],
  ])('lists the bare files rafs/%s', async (bootstrap, truth) => {
    const found = await rows(`rafs:${fixture('rafs', bootstrap)}`, { recursive: true, digests: true });
    expect(diffTrees(readRows(fixture(truth)), found, { time: nydusImageTime })).toEqual([]);
  });

  it('lists one directory, or one path, and says when there is none', async () => {
    const children = (await rows(NYDUS, { path: '/bin' })).map(({ path }) => path);
    const expected = TRUTH.filter(({ path }) => path === '/bin' || /^\/bin\/[^/]+$/.test(path ?? '')).map(
      ({ path }) => path,
    );
    expect(children).toEqual(expected);
    expect((await rows(NYDUS, { path: 'bin/box' })).map(({ path }) => path)).toEqual(['/bin/box']);
    const deep = await rows(NYDUS, { path: '/sizes', recursive: true });
    expect(deep).toEqual(
      (await rows(NYDUS, { recursive: true })).filter((row) => /^\/sizes(\/|$)/.test(row.path ?? '')),
    );
    await expect(rows(NYDUS, { path: '/nowhere' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it.each([NYDUS, `${NASTY}-gzip`])('prints files of %s, through symlinks, one after another', async (reference) => {
    const box = TRUTH.find(({ path }) => path === '/bin/box')!;
    expect(sha256(await text(reference, '/bin/box'))).toBe(box.sha256);
    const link = TRUTH.find(({ path }) => path === '/bin/sym')!;
    expect(link.target).toBe('box');
    expect((await text(reference, 'bin/sym', '/bin/ls')).length).toBe(2 * box.size!);
    await expect(text(reference, '/bin/box', '/nowhere')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(text(reference, '/bin')).rejects.toMatchObject({ code: 'USAGE' });
  });

  it.each([NYDUS, `${NASTY}-gzip`])('reads ranges of a file of %s', async (reference) => {
    await using image = await openImage(reference, { platform: 'linux/amd64' });
    const node = image.root.children!.get('big')!.children!.get('compressible')!;
    const read = async (offset?: number, length?: number) => {
      const pieces: Buffer[] = [];
      const range = { ...(offset === undefined ? {} : { offset }), ...(length === undefined ? {} : { length }) };
      for await (const piece of image.read(node, range)) pieces.push(Buffer.from(piece));
      return Buffer.concat(pieces);
    };
    const whole = await read();
    expect(whole.length).toBe(node.size);
    for (const [offset, length] of [
      [0, 1],
      [1, 70_000],
      [node.size - 5, 5],
      [node.size, 0],
      [131_071, 2],
    ] as const) {
      expect((await read(offset, length)).equals(whole.subarray(offset, offset + length))).toBe(true);
    }
    expect((await read(100)).equals(whole.subarray(100))).toBe(true);
    await expect(read(node.size + 1)).rejects.toMatchObject({ code: 'USAGE' });
  });

  it('inspects a lazy and an ordinary image', async () => {
    const lazy = await inspect(NYDUS, { platform: 'linux/amd64', tree: true });
    expect(lazy.kind).toBe('lazy');
    expect(lazy.manifest?.digest).toBe('sha256:78e2c06e8d960e23ef446a5461e0f89e3125bfc2c3aca4fca647b55d20999735');
    expect(lazy.manifest?.layers.map(({ role }) => role)).toEqual(['blob', 'blob', 'blob', 'bootstrap']);
    const { blobs, tree } = lazy.bootstrap!;
    const digests = lazy.manifest!.layers.slice(0, 3).map(({ digest }) => digest);
    expect(blobs.map(({ id }) => `sha256:${id}`).toSorted()).toEqual(digests.toSorted());
    const count = (type: string) => TRUTH.filter((row) => row.type === type).length;
    expect(tree).toMatchObject({ regularFiles: count('reg'), directories: count('dir'), symlinks: count('symlink') });
    expect(tree!.chunks).toBe(blobs.reduce((sum, blob) => sum + blob.usedChunks!, 0));
    expect(tree!.sharedBytes).toBeGreaterThan(0);

    const ordinary = await inspect(`${NASTY}-zstd`, { platform: 'linux/amd64' });
    expect(ordinary).toMatchObject({ kind: 'layers', bootstrap: null, config: { os: 'linux' } });
    expect(ordinary.manifest?.layers.map(({ role }) => role)).toEqual(['tar', 'tar', 'tar']);
  });

  it('says which platform is missing', async () => {
    const wrong = rows(NYDUS, { platform: 'linux/riscv64' });
    await expect(wrong).rejects.toMatchObject({ code: 'NOT_FOUND', message: expect.stringMatching(/linux\/riscv64/) });
  });
}
