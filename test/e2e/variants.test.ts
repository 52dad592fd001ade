/**
 * Everything that RAFS v6 can say, through the daemon and the kernel's EROFS: read in random order by several
 * processes, equal to the truth.
 */
import { cpSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DaemonFixture } from '../kit/daemon-fixture.ts';
import { fixture } from '../kit/layers.ts';
import { run } from '../kit/process.ts';
import { needs } from '../kit/skip.ts';
import { diffTrees, nydusImageTime, type Row, readRows, walk } from '../kit/tree.ts';

const skip = needs('root', 'fuse', 'erofs', 'addon', 'holder', 'dist', 'python3');
const READER = fileURLToPath(new URL('../kit/read-random.py', import.meta.url));
const READERS = 3;

const LAYER1 = 'truth/tame-mini.only-layer1.merged.jsonl';
const MERGED = 'truth/tame-mini.merged.jsonl';

/** Folder and truth. */
const VARIANTS: readonly (readonly [string, string])[] = [
  ['default', LAYER1],
  ['sha256', LAYER1],
  ['lz4', LAYER1],
  ['chunk-4k', LAYER1],
  ['chunk-64k', LAYER1],
  ['chunk-16m', LAYER1],
  ['blob-toc', LAYER1],
  ['prefetch', LAYER1],
  ['targz', LAYER1],
  ['inline-meta', LAYER1],
  ['inline-meta-toc', LAYER1],
  ['merged', MERGED],
  ['batch', LAYER1],
  ['encrypted', LAYER1],
  // Many gzip members, none of which needs a window; the data is in the original layers.
  ['zran', MERGED],
  // One member: spans with windows that begin in the middle of bytes.
  ['zran-single', LAYER1],
  // A member for each chunk.
  ['estargz-ref', LAYER1],
];

describe.skipIf(skip.reason)('through the daemon', () => {
  let room: DaemonFixture;
  beforeAll(async () => {
    room = await DaemonFixture.start();
  });
  afterAll(() => room[Symbol.asyncDispose]());

  async function mount(variant: string): Promise<string> {
    const dir = fixture('rafs', variant);
    const bootstrap = readdirSync(dir).find((name) => name === 'bootstrap' || name.endsWith('.boot'))!;
    // Inside of a blob a bootstrap cannot name it; its file is named after it.
    const blobIds = bootstrap === 'bootstrap' ? [] : [bootstrap.slice(0, -'.boot'.length)];
    const sources = [{ directory: { path: dir } }, { layout: { path: fixture('oci/tame-mini') } }];
    return await room.mount(variant, join(dir, bootstrap), sources, blobIds);
  }

  /** Every file of `rows` once by each of several processes, each in an order of its own. */
  async function readAtRandom(target: string, rows: readonly Row[]): Promise<void> {
    const files = rows.filter(({ type, path }) => type === 'reg' && path !== undefined && !path.includes('\n'));
    const expected = join(room.dir, 'expected');
    writeFileSync(expected, files.map(({ sha256, path }) => `${sha256} ${join(target, path!)}\n`).join(''));
    const readers = Array.from({ length: READERS }, (_, seed) => run('python3', [READER, expected, 'once', `${seed}`]));
    for (const { stdout } of await Promise.all(readers)) {
      const report = JSON.parse(stdout.trimEnd().split('\n').at(-1)!);
      expect(report).toMatchObject({ errors: [], wrong: [], files: files.length });
    }
  }

  it.each(VARIANTS)('%s shows the tree of the truth', async (variant, truth) => {
    const target = await mount(variant);
    const rows = readRows(fixture(truth));
    await readAtRandom(target, rows);
    expect(diffTrees(rows, await walk(target), { time: nydusImageTime })).toEqual([]);
    await room.unmount(variant);
    const { counters } = await room.client.status();
    expect(counters).toMatchObject({ errors: 0, digestFailures: 0, failures: 0 });
  });

  // Of layers alone, so there is no merged truth of them: the files that the layer has.
  it.each(['none', 'chunk-dict'])('%s has the content of the layer', async (variant) => {
    const target = await mount(variant);
    const last = new Map(readRows(fixture('truth/tame-mini.layer2.jsonl')).map((row) => [row.path, row]));
    await readAtRandom(target, [...last.values()]);
    await room.unmount(variant);
  });

  it('dir has what was in the directory', async () => {
    const target = await mount('dir');
    const rows = readRows(fixture('rafs/dir/source-tree.jsonl'));
    await readAtRandom(target, rows);
    await room.unmount('dir');
  });

  it.each(['batch', 'encrypted', 'zran-single'])(
    '%s outlives its daemon, and needs its bootstrap no more',
    async (variant) => {
      const bootstrap = join(room.dir, variant);
      cpSync(fixture('rafs', variant, 'bootstrap'), bootstrap);
      const target = await room.mount(variant, bootstrap, [{ directory: { path: fixture('rafs', variant) } }]);
      rmSync(bootstrap);
      const { pid } = await room.client.status();
      process.kill(pid, 'SIGKILL');
      await readAtRandom(target, readRows(fixture(LAYER1)));
      const status = await room.client.status();
      expect(status.pid).not.toBe(pid);
      expect(status.images).toMatchObject([{ id: variant, problem: '' }]);
      await room.unmount(variant);
    },
  );

  it('tarfs is refused by name, since chunks without digests cannot be verified', async () => {
    await expect(mount('tarfs')).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });
});
