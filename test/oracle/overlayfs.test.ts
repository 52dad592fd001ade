/** Layers on top of each other are what the kernel's overlayfs makes of them. */
import { execFileSync } from 'node:child_process';
import { linkSync, lstatSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { overlay } from '../../src/tree/overlay.ts';
import { layerTars, parseLayer, rowsOf } from '../kit/layers.ts';
import { unmountBelow } from '../kit/mounts.ts';
import { overlayMount } from '../kit/overlay-mount.ts';
import { needs } from '../kit/skip.ts';
import { diffTrees, exactTime, walk } from '../kit/tree.ts';

const skip = needs('root', 'overlay', 'python3', 'tar', 'zstd-napi');

/** What one layer does at a path. */
interface Step {
  readonly what: 'file' | 'dir' | 'symlink' | 'link' | 'whiteout' | 'opaque';
  readonly path: readonly string[];
}

/** Few names and little depth: layers shall meet often. */
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.record({
    what: fc.constantFrom('file', 'file', 'dir', 'symlink', 'link', 'whiteout', 'whiteout', 'opaque'),
    path: fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 3 }),
  }),
  { minLength: 1, maxLength: 12 },
);

const isDirectory = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true;

/** Makes a directory of the steps, as far as they fit each other, and a tar of it. */
function tarOf(layer: readonly Step[], folder: string, salt: number): Buffer {
  mkdirSync(folder);
  let file: string | null = null;
  const folders = new Set([folder]);
  for (const [index, { what, path }] of layer.entries()) {
    const target = join(folder, ...path);
    try {
      mkdirSync(dirname(target), { recursive: true });
    } catch {
      // Something of this layer that is no directory is in the way.
      continue;
    }
    for (let parent = dirname(target); parent !== folder; parent = dirname(parent)) folders.add(parent);
    if (what === 'whiteout') writeFileSync(join(dirname(target), `.wh.${path.at(-1)}`), '');
    if (what === 'opaque' && isDirectory(target)) writeFileSync(join(target, '.wh..wh..opq'), '');
    if (lstatSync(target, { throwIfNoEntry: false }) !== undefined) continue;
    if (what === 'dir') mkdirSync(target);
    if (what === 'symlink') symlinkSync(`to-${salt}-${index}`, target);
    if (what === 'link' && file !== null) linkSync(file, target);
    if (what === 'file') {
      writeFileSync(target, `${salt} ${index}`);
      file = target;
    }
    if (isDirectory(target)) folders.add(target);
  }
  for (const each of folders) utimesSync(each, 1_600_000_000 + salt, 1_600_000_000 + salt);
  return execFileSync('tar', ['--sort=name', '--format=pax', '--numeric-owner', '-C', folder, '-c', '.']);
}

describe.skipIf(skip.reason)('layers under overlayfs', () => {
  const dir = mkdtempSync(join(tmpdir(), 'overlayfs-'));
  afterAll(() => {
    unmountBelow(dir);
    rmSync(dir, { recursive: true });
  });

  /** Overlayfs counts the names of a lower inode that it hides, and 1 for every merged directory. */
  async function compare(tars: readonly Buffer[], room: string, time = exactTime): Promise<void> {
    const layers = tars.map((tar) => parseLayer(tar));
    const root = overlay(layers.map(({ tree }) => tree));
    const ours = rowsOf(root, new Map(layers.flatMap(({ contents }) => [...contents])));
    using mounted = overlayMount(tars, room);
    const truth = await walk(mounted.target, { skipMissing: true });
    expect(diffTrees(truth, ours, { ignore: ['nlink'], time })).toEqual([]);
  }

  // Its upper layers do not list the root: tar leaves the folder's own time.
  it('the layers of a fixture', async () => {
    await compare(
      layerTars('oci/tame-mini', 'tame-mini-gzip'),
      mkdtempSync(join(dir, 'f-')),
      (expected, actual) => expected.path === '/' || exactTime(expected, actual),
    );
  });

  it('random layers (property)', { timeout: 120_000 }, async () => {
    const property = fc.asyncProperty(fc.array(steps, { minLength: 1, maxLength: 4 }), async (layers) => {
      const room = mkdtempSync(join(dir, 'r-'));
      try {
        await compare(
          layers.map((layer, salt) => tarOf(layer, join(room, `source-${salt}`), salt)),
          room,
        );
      } finally {
        rmSync(room, { recursive: true });
      }
    });
    await fc.assert(property, { numRuns: 25, interruptAfterTimeLimit: 90_000 });
  });
});
