/** Random trees of every kind of node, written as a bootstrap and blobs, are unpacked to what they were. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { overlay } from '../../../src/tree/overlay.ts';
import { unpack } from '../../../src/unpack/unpack.ts';
import { parseLayer, rowsOf } from '../../kit/layers.ts';
import { unmountBelow } from '../../kit/mounts.ts';
import { keptByTar, writeRafs } from '../../kit/rafs-fixture.ts';
import { expectedRows, randomTree } from '../../kit/random-tree.ts';
import { needs } from '../../kit/skip.ts';
import { diffTrees, walk } from '../../kit/tree.ts';

const skip = needs('root', 'addon', 'python3');

describe.skipIf(skip.reason)('random trees', () => {
  const dir = mkdtempSync(join(tmpdir(), 'unpack-random-'));
  let runs = 0;
  // Attributes of any size, and times of any age: more than a disk's file system keeps.
  beforeAll(() => void execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', dir]));
  afterAll(() => {
    unmountBelow(dir);
    rmSync(dir, { recursive: true });
  });

  it('have no difference, as a directory and as a tar (property)', { timeout: 180_000 }, async () => {
    const property = fc.asyncProperty(randomTree(), async (tree) => {
      const room = join(dir, `${runs++}`);
      mkdirSync(room);
      const reference = writeRafs(tree, room);
      const rows = expectedRows(tree.root, tree.devices);
      await unpack(reference, join(room, 'rootfs'));
      expect(diffTrees(rows, await walk(join(room, 'rootfs')))).toEqual([]);

      await unpack(reference, join(room, 'x.tar'), { format: 'tar' });
      const { tree: layer, contents } = parseLayer(readFileSync(join(room, 'x.tar')));
      expect(diffTrees(keptByTar(rows), rowsOf(overlay([layer]), contents))).toEqual([]);
      rmSync(room, { recursive: true });
    });
    await fc.assert(property, { numRuns: 12, endOnFailure: true });
  });
});
