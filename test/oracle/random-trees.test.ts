/**
 * Random trees, many to an image: written, read back, mounted by the kernel, extracted by fsck.erofs, put together from
 * layers, and made an ordinary image that is converted and unpacked. 300 of them here; `npm run trees -- --count 20000`
 * takes more.
 */
import { deepStrictEqual } from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convert } from '../../src/convert/convert.ts';
import { openBootstrap } from '../../src/formats/rafs/open.ts';
import { overlay } from '../../src/tree/overlay.ts';
import { unpack } from '../../src/unpack/unpack.ts';
import { erofsMount } from '../kit/erofs.ts';
import { rowsOf } from '../kit/layers.ts';
import { unmountBelow } from '../kit/mounts.ts';
import { keptByTar, writeRafs, writeTree } from '../kit/rafs-fixture.ts';
import { random } from '../kit/random.ts';
import { expectedRows, randomTree } from '../kit/random-tree.ts';
import { needs } from '../kit/skip.ts';
import { diffTrees, type Row, walk } from '../kit/tree.ts';
import { asLayers, combine } from '../kit/tree-batch.ts';

const COUNT = Number(process.env.LACUNA_TREES ?? 300);
const SEED = Number(process.env.LACUNA_SEED ?? 5);
/** Trees of an image. */
const PER_IMAGE = 75;

const skip = needs('root', 'addon', 'erofs', 'python3', 'fsck.erofs');

describe.skipIf(skip.reason)('random trees', () => {
  const dir = mkdtempSync(join(tmpdir(), 'trees-'));
  const mountpoint = join(dir, 'mnt');
  // Attributes of any size, and times of any age: more than a disk's file system keeps.
  const memory = join(dir, 'tmpfs');
  beforeAll(() => {
    for (const path of [mountpoint, memory]) mkdirSync(path);
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', memory]);
  });
  afterAll(() => {
    unmountBelow(dir);
    rmSync(dir, { recursive: true });
  });

  const sessions = Array.from({ length: Math.ceil(COUNT / PER_IMAGE) }, (_, i) => i);

  // Ten seconds on a quiet machine; the long form is polite to others.
  it.each(sessions)(`session %i of ${sessions.length}`, { timeout: 600_000 }, async (session) => {
    const numRuns = Math.min(PER_IMAGE, COUNT - session * PER_IMAGE);
    const trees = fc.sample(randomTree(), { seed: SEED * 1_000_003 + session, numRuns });
    const tree = combine(trees);
    const bytes = writeTree(tree);

    const image = openBootstrap(bytes, { subject: 'test' });
    const expected = expectedRows(tree.root, tree.devices);
    deepStrictEqual(rowsOf(image.root()), rowsOf(tree.root));

    // The same tree out of layers that hide, replace and add: the same bytes.
    const layers = asLayers(tree.root, random(session));
    expect(writeTree({ ...tree, root: overlay(layers) }).equals(bytes)).toBe(true);

    const file = join(dir, 'bootstrap');
    writeFileSync(file, bytes);
    const devices = image.blobs.map(({ id }) => {
      const device = join(dir, id);
      writeFileSync(device, tree.devices.get(id)!);
      return device;
    });
    {
      using _ = erofsMount(file, devices, mountpoint);
      expect(diffTrees(expected, await walk(mountpoint))).toEqual([]);
    }
    const out = join(dir, 'out');
    const flags = devices.map((device) => `--device=${device}`);
    execFileSync('fsck.erofs', [`--extract=${out}`, '--preserve', ...flags, file], { stdio: 'pipe' });
    expect(diffTrees(extractable(expected), extractable(await walk(out)), { ignore: NOT_EXTRACTED })).toEqual([]);
    for (const path of [out, ...devices]) rmSync(path, { recursive: true });

    const room = join(memory, String(session));
    mkdirSync(room);
    await unpack(writeRafs(tree, room), `oci:${room}/ordinary:x`);
    await convert(`oci:${room}/ordinary:x`, `oci:${room}/lazy:x`);
    await unpack(`oci:${room}/lazy:x`, join(room, 'rootfs'));
    expect(diffTrees(keptByTar(expected), await walk(join(room, 'rootfs')))).toEqual([]);
    rmSync(room, { recursive: true });
  });
});

/**
 * fsck.erofs 1.5 makes files of hard links, leaves special files and attributes out, and loses setuid and setgid when it
 * changes owners; how far back times go is up to the file system below.
 */
const NOT_EXTRACTED = ['nlink', 'link_group', 'xattrs'] as const;
const extractable = (rows: readonly Row[]): Row[] =>
  rows
    .filter(({ type }) => ['reg', 'dir', 'symlink'].includes(type))
    .map((row) => ({ ...row, mtime: null, mode: (Number.parseInt(row.mode, 8) & 0o1777).toString(8) }));
