/** What `doctor` tells of the images of a root. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { daemonService } from '../../../src/daemon/api.ts';
import { rootPaths } from '../../../src/daemon/root.ts';
import { probeImages } from '../../../src/doctor/probe-images.ts';
import { unary, unixServer } from '../../../src/grpc/unix.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lci-'));
});
afterEach(() => rmSync(root, { recursive: true }));

const attached = { id: 'a', bootstrap: '/a', devices: ['/d'], problem: '', hint: '' };
const failed = { id: 'b', bootstrap: '', devices: [], problem: 'record: is not JSON', hint: 'attach it again' };

it('is nothing where no daemon answers', async () => {
  expect(await probeImages(root)).toEqual([]);
});

it.each([
  ['their number', [attached], [{ name: 'images', status: 'ok', why: '1 attached', hint: null }]],
  [
    'those that are not attached, why, and what helps',
    [attached, failed],
    [
      {
        ...{ name: 'image b', status: 'refused', hint: 'attach it again' },
        why: 'not attached, reads of it fail: record: is not JSON',
      },
    ],
  ],
])('is %s', async (_name, images, rows) => {
  const handlers = { Status: unary(() => ({ images, counters: {} })) };
  await using _server = await unixServer(rootPaths(root).socket, [{ definition: daemonService(), handlers }]);
  expect(await probeImages(root)).toEqual(rows);
});
