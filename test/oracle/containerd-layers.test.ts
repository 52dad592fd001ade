/** Unusual layers are what containerd's own unpacking on overlayfs makes of them: unconverted and converted. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convert } from '../../src/convert/convert.ts';
import { ls } from '../../src/inspect/ls.ts';
import { type Containerd, startContainerd } from '../kit/containerd.ts';
import { unmountBelow } from '../kit/mounts.ts';
import { run } from '../kit/process.ts';
import { needs } from '../kit/skip.ts';
import { type SourceLayer, sourceLayout } from '../kit/source-image.ts';
import { diffTrees, exactTime, type Row, walk } from '../kit/tree.ts';
import { REFUSED_BY_CONTAINERD, TRICKY } from '../kit/tricky-layers.ts';

const skip = needs('root', 'addon', 'overlay', 'containerd', 'python3', 'zstd-napi', 'tar');

async function listed(reference: string): Promise<Row[]> {
  const rows: Row[] = [];
  for await (const row of ls(reference, { platform: 'linux/amd64', recursive: true, digests: true })) rows.push(row);
  return rows;
}

describe.skipIf(skip.reason)('containerd 1.6 with overlayfs', () => {
  /** Short: sockets lie below it. */
  const dir = mkdtempSync(join(tmpdir(), 'cl-'));
  let containerd: Containerd;
  let images = 0;

  beforeAll(async () => {
    // What lies below may be on a file system that overlayfs does not take, or that keeps no attributes.
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', dir]);
    containerd = await startContainerd(join(dir, 'c'));
  });
  afterAll(async () => {
    await containerd?.[Symbol.asyncDispose]();
    unmountBelow(dir);
    rmSync(dir, { recursive: true });
  });

  function put(layers: readonly SourceLayer[]): { name: string; room: string; source: string } {
    const name = `image-${images++}`;
    const room = join(dir, name);
    return { name, room, source: sourceLayout(join(room, 'source'), { layers }) };
  }

  async function imported({ name, room }: { name: string; room: string }): Promise<void> {
    const archive = join(room, 'image.tar');
    execFileSync('tar', ['-cf', archive, '-C', join(room, 'source'), '.']);
    const names = ['--base-name', `test.local/${name}`];
    await containerd.ctr('images', 'import', ...names, '--snapshotter', 'overlayfs', archive);
  }

  /** The tree as a container sees it. */
  async function unpacked(image: { name: string; room: string }): Promise<Row[]> {
    await imported(image);
    const name = `test.local/${image.name}:image`;
    const target = join(image.room, 'rootfs');
    mkdirSync(target);
    await containerd.ctr('images', 'mount', '--snapshotter', 'overlayfs', '--rw', name, target);
    try {
      return await walk(target, { skipMissing: true });
    } finally {
      await run('umount', [target]);
    }
  }

  it.each(Object.entries(TRICKY))('%s', { timeout: 120_000 }, async (_, layers) => {
    const image = put(layers);
    const expected = containerdRows(await unpacked(image));
    // containerd keeps the time of no directory that a layer only passes through, and no attribute of the root.
    const time = (a: Row, b: Row) => a.path === '/' || isNow(a) || exactTime(a, b);
    const options = { time, ignore: ['nlink'] as const };
    expect(diffTrees(expected, comparable(await listed(image.source)), options)).toEqual([]);
    const lazy = `oci:${join(image.room, 'lazy')}:v1`;
    await convert(image.source, lazy);
    expect(diffTrees(expected, comparable(await listed(lazy)), options)).toEqual([]);
  });

  it.each(Object.entries(REFUSED_BY_CONTAINERD))(
    'refuses %s, which are read',
    { timeout: 60_000 },
    async (_, layers) => {
      const image = put(layers);
      await expect(unpacked(image)).rejects.toThrow();
      const source = await listed(image.source);
      const lazy = `oci:${join(image.room, 'lazy')}:v1`;
      await convert(image.source, lazy);
      expect(diffTrees(source, await listed(lazy))).toEqual([]);
    },
  );
});

const isNow = ({ mtime }: Row): boolean => (mtime?.sec ?? 0) > 1_750_000_000;

/** The root is the snapshotter's own; the folder in which AUFS kept links is a folder like others to containerd. */
const comparable = (rows: readonly Row[]): Row[] =>
  rows.map((row) => (row.path === '/' ? { ...row, mode: '0755', xattrs: {} } : row));

const containerdRows = (rows: readonly Row[]): Row[] =>
  comparable(rows.filter(({ path }) => !/^\/\.wh\.(?:\.wh\.)?plnk/.test(path!)));
