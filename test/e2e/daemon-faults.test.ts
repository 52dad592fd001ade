/** A registry that goes wrong under mounted images: the right bytes, or an I/O error in time; never wrong ones. */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DaemonFixture, dropPageCache } from '../kit/daemon-fixture.ts';
import { fixture } from '../kit/layers.ts';
import { run } from '../kit/process.ts';
import { type FaultHook, startRegistry, type TestRegistry } from '../kit/registry.ts';
import { PASSWORD, USER } from '../kit/registry-auth.ts';
import type { Fault } from '../kit/registry-faults.ts';
import { needs } from '../kit/skip.ts';
import { diffTrees, nydusImageTime, type Row, readRows, walk } from '../kit/tree.ts';

const skip = needs('root', 'fuse', 'erofs', 'addon', 'holder', 'dist', 'python3');
const IMAGE = fixture('rafs/chunk-64k');
const truth = readRows(fixture('truth/tame-mini.only-layer1.merged.jsonl'));

describe.skipIf(skip.reason)('faults of a registry', () => {
  let room: DaemonFixture;
  let registry: TestRegistry;
  let count = 0;

  beforeAll(async () => {
    // Small requests, so that there are many of them.
    room = await DaemonFixture.start('window = "0B"\ndeadline = "20s"');
    registry = await startRegistry({ auth: 'token' });
    for (const name of readdirSync(IMAGE)) {
      if (/^[0-9a-f]{64}$/.test(name)) registry.storage.putBlob('some/image', readFileSync(join(IMAGE, name)));
    }
    const known = { host: registry.host, username: USER, password: PASSWORD };
    await room.client.setCredentials(known);
  });
  afterAll(async () => {
    await room?.[Symbol.asyncDispose]();
    await registry?.close();
  });

  /** Mounts the image with nothing of it in the cache, does the work under the fault, and takes all of it away. */
  async function under(fault: FaultHook, work: (target: string) => Promise<void>): Promise<void> {
    const id = `image-${count++}`;
    const source = { registry: { host: registry.host, repository: 'some/image' } };
    const target = await room.mount(id, join(IMAGE, 'bootstrap'), [source]);
    registry.fault = fault;
    try {
      await work(target);
    } finally {
      registry.fault = () => null;
      await room.unmount(id);
    }
  }

  async function expectTruth(target: string): Promise<void> {
    const before = (await room.client.status()).counters;
    expect(diffTrees(truth, await walk(target), { time: nydusImageTime })).toEqual([]);
    const { counters } = await room.client.status();
    expect(counters.requests).toBeGreaterThan(before.requests);
    expect([counters.errors, counters.failures]).toEqual([before.errors, before.failures]);
  }

  /** Every fourth request for the blob goes wrong, the first one included. */
  const everyFourth =
    (fault: Fault): FaultHook =>
    ({ path, nth }) =>
      path.includes('/blobs/') && nth % 4 === 1 ? fault : null;

  const rows: [string, Fault][] = [
    ['429 with Retry-After', { kind: 'status', status: 429, headers: { 'retry-after': '0' } }],
    ['500', { kind: 'status', status: 500 }],
    ['503', { kind: 'status', status: 503, body: 'come back later' }],
    ['404 for a moment', { kind: 'status', status: 404 }],
    ['403 for a moment', { kind: 'status', status: 403 }],
    ['a body that is cut', { kind: 'cut', after: 777 }],
    ['a connection that is dropped', { kind: 'drop' }],
    ['one wrong byte', { kind: 'wrong-bytes' }],
    ['200 and all of the blob to a range request', { kind: 'ignore-range' }],
  ];
  it.each(rows)('%s: the tree is right', async (_name, fault) => {
    await under(everyFourth(fault), expectTruth);
  });

  it('redirects to where the bytes are: the tree is right', async () => {
    await using other = await startRegistry({ storage: registry.storage });
    await under(everyFourth({ kind: 'redirect', to: other.origin }), expectTruth);
    expect(other.requests.length).toBeGreaterThan(0);
  });

  it('tokens that expire in the middle are got anew', async () => {
    const issued = registry.auth.issued;
    const expire: FaultHook = ({ path, nth }) => {
      if (path.includes('/blobs/') && nth % 3 === 0) registry.auth.expireTokens();
      return null;
    };
    await under(expire, expectTruth);
    expect(registry.auth.issued).toBeGreaterThan(issued + 1);
  });

  it('credentials that come while a reader waits are used', async () => {
    await room.client.setCredentials({ host: registry.host, username: USER, password: 'wrong' });
    registry.auth.expireTokens();
    await under(
      () => null,
      async (target) => {
        const walking = walk(target);
        await expect.poll(async () => (await room.client.status()).counters.waiting, { timeout: 10_000 }).not.toBe(0);
        await room.client.setCredentials({ host: registry.host, username: USER, password: PASSWORD });
        expect(diffTrees(truth, await walking, { time: nydusImageTime })).toEqual([]);
      },
    );
  });
});

/** The file with the most content, whose bytes are known. */
const largest = truth.reduce((best, row) => ((row.size ?? 0) > (best.size ?? 0) ? row : best)) as Row & {
  path: string;
};

describe.skipIf(skip.reason)('a registry that stays wrong', () => {
  const ALWAYS: [string, Fault][] = [
    ['wrong bytes', { kind: 'wrong-bytes' }],
    ['404', { kind: 'status', status: 404 }],
    ['503', { kind: 'status', status: 503 }],
    ['429 with a long Retry-After', { kind: 'status', status: 429, headers: { 'retry-after': '600' } }],
    ['silence in the middle', { kind: 'stall', after: 100 }],
    ['no answer at all', { kind: 'hang' }],
  ];
  it.each(ALWAYS)(
    '%s: an I/O error in time, and the right bytes once it is well',
    { timeout: 90_000 },
    async (_n, fault) => {
      await using room = await DaemonFixture.start('window = "0B"\ndeadline = "1500ms"');
      await using registry = await startRegistry();
      for (const name of readdirSync(IMAGE)) {
        if (/^[0-9a-f]{64}$/.test(name)) registry.storage.putBlob('some/image', readFileSync(join(IMAGE, name)));
      }
      const source = { registry: { host: registry.host, repository: 'some/image' } };
      const target = await room.mount('image', join(IMAGE, 'bootstrap'), [source]);
      const path = join(target, largest.path);

      registry.fault = ({ path: asked }) => (asked.includes('/blobs/') ? fault : null);
      const started = Date.now();
      await expect(run('sha256sum', [path])).rejects.toThrow('Input/output error');
      expect(Date.now() - started).toBeLessThan(30_000);
      const { counters } = await room.client.status();
      expect(counters.failures).toBeGreaterThan(0);
      expect(counters.delivered).toBe(0);
      expect(counters.waiting).toBe(0);
      const left = readdirSync(join(room.root, 'cache'), { recursive: true }) as string[];
      expect(
        left.map((path) => basename(path)).filter((name) => !/^([0-9a-f]{32,64}|data|map|table)$/.test(name)),
      ).toEqual([]);

      registry.fault = () => null;
      await dropPageCache();
      expect((await run('sha256sum', [path])).stdout.slice(0, 64)).toBe(largest.sha256);
      expect(diffTrees(truth, await walk(target), { time: nydusImageTime })).toEqual([]);
    },
  );
});
