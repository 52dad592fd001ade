/**
 * Layers on top of each other as the kernel's overlayfs sees them: random sets, each layer put into a directory of its
 * own by an independent program. Both an ordinary image of the layers and what is unpacked of its lazy form must be the
 * mounted tree. Where overlayfs itself differs, the model of the generator stands in for it: it counts names that are
 * hidden as links, shows 1 for every merged directory, and cannot link to a file of another layer.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convert } from '../../src/convert/convert.ts';
import { ls } from '../../src/inspect/ls.ts';
import { unpack } from '../../src/unpack/unpack.ts';
import { unmountBelow } from '../kit/mounts.ts';
import { type RandomLayers, randomLayers } from '../kit/random-layers.ts';
import { needs } from '../kit/skip.ts';
import { sourceLayout } from '../kit/source-image.ts';
import { diffTrees, type Row, walk } from '../kit/tree.ts';

const RUNS = Number(process.env.LACUNA_RANDOM_LAYERS ?? 12);
const APPLY = fileURLToPath(new URL('../kit/apply-layer.py', import.meta.url));
const LINKS = ['nlink', 'link_group'] as const;

const skip = needs('root', 'overlay', 'python3', 'addon');

async function listed(reference: string): Promise<Row[]> {
  const rows: Row[] = [];
  for await (const row of ls(reference, { platform: 'linux/amd64', recursive: true, digests: true })) rows.push(row);
  return rows;
}

/** The names of each inode that has several, by the rows and by the model. */
function groupsOf(pairs: Iterable<readonly [string, number | undefined]>): string[] {
  const groups = new Map<number, string[]>();
  for (const [path, inode] of pairs) {
    if (inode !== undefined) groups.set(inode, [...(groups.get(inode) ?? []), path]);
  }
  return [...groups.values()]
    .filter((names) => names.length > 1)
    .map((names) => names.sort().join(' = '))
    .sort();
}

describe.skipIf(skip.reason)('random layers', () => {
  const dir = mkdtempSync(join(tmpdir(), 'overlay-'));
  let runs = 0;

  beforeAll(() => {
    // What lies below may be on a file system that overlayfs does not take, or that keeps no attributes.
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', dir]);
  });
  afterAll(() => {
    unmountBelow(dir);
    rmSync(dir, { recursive: true });
  });

  async function mounted({ steps }: RandomLayers, room: string): Promise<Row[]> {
    const lower = [...steps.keys()].map((i) => join(room, `layer-${i}`));
    for (const [i, path] of lower.entries()) {
      mkdirSync(path);
      execFileSync('python3', [APPLY, path], { input: JSON.stringify(steps[i]) });
    }
    // Without an upper directory overlayfs wants two lower ones.
    for (const name of ['empty', 'merged']) mkdirSync(join(room, name));
    const options = `lowerdir=${[...lower.reverse(), join(room, 'empty')].join(':')}`;
    execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', options, join(room, 'merged')]);
    try {
      return await walk(join(room, 'merged'));
    } finally {
      execFileSync('umount', [join(room, 'merged')]);
    }
  }

  it('are what overlayfs makes of them: as an image, and converted and unpacked', { timeout: 600_000 }, async () => {
    const property = fc.asyncProperty(randomLayers(), async (layers) => {
      const room = join(dir, `${runs++}`);
      mkdirSync(room);
      const source = sourceLayout(join(room, 'source'), { layers: layers.tars.map((tar) => ({ tar, how: 'none' })) });
      const expected = await mounted(layers, room);
      const image = await listed(source);
      expect(diffTrees(expected, image, { ignore: LINKS })).toEqual([]);
      expect(groupsOf(image.map(({ path, link_group }) => [path!, link_group]))).toEqual(groupsOf(layers.inodes));
      await convert(source, `oci:${join(room, 'lazy')}:v1`);
      await unpack(`oci:${join(room, 'lazy')}:v1`, join(room, 'rootfs'), { platform: 'linux/amd64' });
      expect(diffTrees(image, await walk(join(room, 'rootfs')))).toEqual([]);
      rmSync(room, { recursive: true });
    });
    await fc.assert(property, { numRuns: RUNS, endOnFailure: true });
    expect(runs).toBeGreaterThanOrEqual(RUNS);
  });
});
