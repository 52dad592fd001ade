/** Random trees of every kind of node, written as a bootstrap and blobs, are unpacked to what they were. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openBootstrap } from '../../../src/formats/rafs/open.ts';
import { writeBootstrap } from '../../../src/formats/rafs/write.ts';
import { overlay } from '../../../src/tree/overlay.ts';
import { unpack } from '../../../src/unpack/unpack.ts';
import { parseLayer, rowsOf } from '../../kit/layers.ts';
import { unmountBelow } from '../../kit/mounts.ts';
import { CHUNK_SIZE, expectedRows, type RandomTree, randomTree } from '../../kit/random-tree.ts';
import { needs } from '../../kit/skip.ts';
import { diffTrees, type Row, walk } from '../../kit/tree.ts';

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

  /** The blobs as they are stored: the chunks of a device back to back. */
  function write({ root, blobs, devices }: RandomTree, room: string): string {
    const bytes = writeBootstrap(root, blobs, { chunkSize: CHUNK_SIZE, compressor: 3, digester: 1 });
    writeFileSync(join(room, 'bootstrap'), bytes);
    const image = openBootstrap(bytes, { subject: 'test' });
    for (const [i, { id }] of image.blobs.entries()) {
      const chunks = image.chunksOf(i).map(({ uncompressedOffset: at, uncompressedSize, compressedOffset }) => ({
        data: devices.get(id)!.subarray(at, at + uncompressedSize),
        place: compressedOffset,
      }));
      const blob = Buffer.alloc(Math.max(0, ...chunks.map(({ data, place }) => place + data.length)));
      for (const { data, place } of chunks) data.copy(blob, place);
      writeFileSync(join(room, id), blob);
    }
    return `rafs:${join(room, 'bootstrap')}`;
  }

  it('have no difference, as a directory and as a tar (property)', { timeout: 180_000 }, async () => {
    const property = fc.asyncProperty(randomTree(), async (tree) => {
      const room = join(dir, `${runs++}`);
      mkdirSync(room);
      const reference = write(tree, room);
      const rows = expectedRows(tree.root, tree.devices);
      await unpack(reference, join(room, 'rootfs'));
      expect(diffTrees(rows, await walk(join(room, 'rootfs')))).toEqual([]);

      await unpack(reference, join(room, 'x.tar'), { format: 'tar' });
      const { tree: layer, contents } = parseLayer(readFileSync(join(room, 'x.tar')));
      const sockets = new Set(
        rows.filter(({ type }) => type === 'socket').map(({ path, path_b64 }) => path ?? path_b64),
      );
      const attributes = (row: Row): Row => ({
        ...row,
        xattrs: Object.fromEntries(Object.entries(row.xattrs ?? {}).filter(([key]) => !key.includes('='))),
      });
      const kept = rows.filter(({ path, path_b64 }) => !sockets.has(path ?? path_b64)).map(attributes);
      expect(diffTrees(kept, rowsOf(overlay([layer]), contents))).toEqual([]);
      rmSync(room, { recursive: true });
    });
    await fc.assert(property, { numRuns: 12, endOnFailure: true });
  });
});
