/**
 * A silent or dripping registry beside an honest one, in one daemon: whoever does not use it does not notice. No clock decides:
 * while a hostile registry is silent nothing of it ends, so what ends before its first read is given up has not waited for it.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DaemonRoom, dropPageCache, type MadeImage, makeFlatImage, noise } from '../kit/daemon-room.ts';
import { type Running, run, start } from '../kit/process.ts';
import { startRegistry, type TestRegistry } from '../kit/registry.ts';
import { needs } from '../kit/skip.ts';

const skip = needs('root', 'fuse', 'erofs', 'addon', 'holder', 'dist', 'python3');
const KIB = 1024;
/** Files of the hostile image, each a chunk of its own: more reads than the kernel keeps under way by itself. */
const MANY = 1500;

/** Reads ahead in all files of a folder again and again: nobody has to wait for it, so that one thread is enough. */
const READ_AHEAD = `
import os, sys, time
fds = [os.open(os.path.join(sys.argv[1], name), os.O_RDONLY) for name in sorted(os.listdir(sys.argv[1]))]
print('ready', flush=True)
while True:
    for fd in fds: os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
    time.sleep(0.5)
`;

describe.skipIf(skip.reason)('beside a hostile registry', () => {
  let room: DaemonRoom;
  let honest: TestRegistry;
  let hostile: TestRegistry;
  const readers: Running[] = [];
  const files = { cached: noise(1, 600 * KIB), first: noise(2, 300 * KIB), second: noise(3, 300 * KIB) };

  beforeEach(async () => {
    room = await DaemonRoom.start('window = "0B"\ndeadline = "30s"');
    [honest, hostile] = [await startRegistry(), await startRegistry()];
  });
  afterEach(async () => {
    for (const reader of readers.splice(0)) await reader.stop();
    hostile.fault = () => ({ kind: 'status', status: 404 });
    await room[Symbol.asyncDispose]();
    for (const registry of [honest, hostile]) await registry.close();
  });

  /** Puts an image's blob into a registry; gives the source. */
  function serve({ dir }: MadeImage, registry: TestRegistry) {
    for (const name of readdirSync(dir)) {
      if (/^[0-9a-f]{64}$/.test(name)) registry.storage.putBlob('some/image', readFileSync(join(dir, name)));
    }
    return { registry: { host: registry.host, repository: 'some/image' } };
  }

  const hash = async (path: string): Promise<string> => (await run('sha256sum', [path])).stdout.slice(0, 64);
  const truth = (name: keyof typeof files): string => createHash('sha256').update(files[name]).digest('hex');
  const counters = async () => (await room.client.status()).counters;

  /** An image of many files whose registry falls silent, and somebody who reads ahead in it. */
  async function besiege(): Promise<void> {
    const many = Object.fromEntries(
      Array.from({ length: MANY }, (_, index) => [`f${index}`, noise(9 + index, 4 * KIB)]),
    );
    const image = await makeFlatImage(many, 4 * KIB, room.folder('many'));
    const target = await room.mount('hostile', image.bootstrap, [serve(image, hostile)]);
    hostile.fault = () => ({ kind: 'hang' });
    readers.push(start('python3', ['-c', READ_AHEAD, target]));
    await expect.poll(async () => (await counters()).waiting, { timeout: 20_000 }).toBeGreaterThan(1024);
  }

  it('cached files are read, and others are fetched, before one of its reads is given up', {
    timeout: 120_000,
  }, async () => {
    const image = await makeFlatImage(files, 16 * KIB, room.folder('victim'));
    const target = await room.mount('victim', image.bootstrap, [serve(image, honest)]);
    expect(await hash(join(target, 'cached'))).toBe(truth('cached'));
    await besiege();
    await dropPageCache();
    expect(await hash(join(target, 'cached'))).toBe(truth('cached'));
    expect(await hash(join(target, 'first'))).toBe(truth('first'));
    const { failures, waiting } = await counters();
    expect([failures, waiting > 1024]).toEqual([0, true]);
  });

  it('an image with the same blob from an honest one is read at once, whichever was attached first', async () => {
    const image = await makeFlatImage(files, 16 * KIB, room.folder('victim'));
    const copy = await room.mount('copy', image.bootstrap, [serve(image, hostile)]);
    hostile.fault = () => ({ kind: 'hang' });
    const target = await room.mount('victim', image.bootstrap, [serve(image, honest)]);
    const waiting = hash(join(copy, 'first'));
    await expect.poll(() => hostile.requests.length, { timeout: 10_000 }).toBeGreaterThan(0);
    expect(await hash(join(target, 'first'))).toBe(truth('first'));
    // What the one has got is the other's as well; its registry does not learn what the one reads.
    expect(await waiting).toBe(truth('first'));
    const asked = hostile.requests.length;
    expect(await hash(join(target, 'second'))).toBe(truth('second'));
    expect(hostile.requests.length).toBe(asked);
    expect((await counters()).failures).toBe(0);
  });

  it.each([
    ['silent', { kind: 'hang' }],
    ['dripping', { kind: 'drip', ms: 100 }],
  ] as const)(
    'that is %s and an image’s first source, the next one is asked, and first from then on',
    async (_n, fault) => {
      const image = await makeFlatImage(files, 16 * KIB, room.folder('victim'));
      const sources = [serve(image, hostile), serve(image, honest)];
      const target = await room.mount('victim', image.bootstrap, sources);
      hostile.fault = () => fault;
      expect(await hash(join(target, 'first'))).toBe(truth('first'));
      const asked = hostile.requests.length;
      expect(asked).toBeGreaterThan(0);
      expect(await hash(join(target, 'second'))).toBe(truth('second'));
      expect(hostile.requests.length).toBe(asked);
      expect((await counters()).failures).toBe(0);
    },
  );
});
