/**
 * A silent or dripping registry beside an honest one, in one daemon: whoever does not use it does not notice. No clock decides:
 * while a hostile registry is silent nothing of it ends, so what ends before its first read is given up has not waited for it.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MAX_READAHEAD } from '../../src/fetch/lane.ts';
import { DaemonFixture, dropPageCache, type MadeImage, makeFlatImage, noise } from '../kit/daemon-fixture.ts';
import { type Running, run, start } from '../kit/process.ts';
import { startRegistry, type TestRegistry } from '../kit/registry.ts';
import { needs } from '../kit/skip.ts';

const skip = needs('root', 'fuse', 'erofs', 'addon', 'holder', 'dist', 'python3');
const KIB = 1024;
const MIB = 1024 * KIB;
/** Files of the hostile image, each a chunk of its own: more reads than the kernel keeps under way by itself. */
const MANY = 1500;

/** Reads ahead in all files of a folder again and again: nobody has to wait for it, so that one thread is enough. */
const READ_AHEAD = `
import os, sys, time
fds = [os.open(os.path.join(sys.argv[1], name), os.O_RDONLY) for name in sorted(os.listdir(sys.argv[1]))]
print('ready', flush=True)
while True:
    for fd in fds:
        # The kernel takes no more of a file at once.
        for offset in range(0, os.fstat(fd).st_size, 1 << 17): os.posix_fadvise(fd, offset, 1 << 17, os.POSIX_FADV_WILLNEED)
    time.sleep(0.5)
`;

describe.skipIf(skip.reason)('beside a hostile registry', () => {
  let room: DaemonFixture;
  let honest: TestRegistry;
  let hostile: TestRegistry;
  const readers: Running[] = [];
  const files = { cached: noise(1, 600 * KIB), first: noise(2, 300 * KIB), second: noise(3, 300 * KIB) };

  beforeEach(async () => {
    room = await DaemonFixture.start('window = "0B"\ndeadline = "30s"');
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

  /** Attaches the image whose registry is honest, and gives what its reads have to do. */
  async function victim(host = room): Promise<{ fills(): Promise<void>; reads(): Promise<void> }> {
    const image = await makeFlatImage(files, 16 * KIB, host.folder('victim'));
    const target = await host.mount('victim', image.bootstrap, [serve(image, honest)]);
    const check = async (name: keyof typeof files) => expect(await hash(join(target, name))).toBe(truth(name));
    return {
      fills: () => check('cached'),
      reads: async () => {
        await dropPageCache();
        for (const name of ['cached', 'first'] as const) await check(name);
      },
    };
  }

  it('reads of one image that wait for more chunks than it may have are refused, and no others', {
    timeout: 120_000,
  }, async () => {
    const { fills, reads } = await victim();
    await fills();
    const large = Object.fromEntries(
      Array.from({ length: 12 }, (_, index) => [`f${index}`, noise(9 + index, 12 * MIB)]),
    );
    const image = await makeFlatImage(large, 4 * KIB, room.folder('large'));
    const target = await room.mount('hostile', image.bootstrap, [serve(image, hostile)]);
    hostile.fault = () => ({ kind: 'hang' });
    readers.push(start('python3', ['-c', READ_AHEAD, target]));
    await expect.poll(async () => (await counters()).shed, { timeout: 20_000 }).toBeGreaterThan(0);
    await reads();
    const { failures, waiting } = await counters();
    expect([failures, waiting > 0]).toEqual([0, true]);
  });

  it('a request that gets nothing is made anew, and only its own image has waited', { timeout: 120_000 }, async () => {
    const { fills, reads } = await victim();
    await fills();
    const own = { slow: noise(4, 300 * KIB) };
    const image = await makeFlatImage(own, 16 * KIB, room.folder('slow'));
    const target = await room.mount('slow', image.bootstrap, [serve(image, hostile)]);
    const silent = new Set<string>();
    // Whatever is asked first stays without an answer, what is asked again does not.
    hostile.fault = ({ headers: { range } }) => {
      const isKnown = silent.has(String(range));
      silent.add(String(range));
      return isKnown ? null : { kind: 'hang' };
    };
    let hasCome = false;
    const slow = hash(join(target, 'slow')).finally(() => {
      hasCome = true;
    });
    await expect.poll(() => silent.size, { timeout: 10_000 }).toBeGreaterThan(0);
    await reads();
    expect(hasCome).toBe(false);
    expect(await slow).toBe(createHash('sha256').update(own.slow).digest('hex'));
    const { failures, retries } = await counters();
    expect([failures, retries > 0]).toEqual([0, true]);
  });

  it('read-ahead that is forgotten is fetched when somebody reads it', { timeout: 120_000 }, async () => {
    await using wide = await DaemonFixture.start('window = "64MiB"\ndeadline = "30s"');
    const { fills, reads } = await victim(wide);
    await fills();
    const own = { large: noise(4, 40 * MIB) };
    const image = await makeFlatImage(own, 4 * KIB, wide.folder('large'));
    const target = await wide.mount('hostile', image.bootstrap, [serve(image, hostile)]);
    hostile.fault = () => ({ kind: 'hang' });
    const begin = run('head', ['-c', '4096', join(target, 'large')]);
    await expect.poll(() => hostile.requests.length, { timeout: 10_000 }).toBeGreaterThan(0);
    await reads();
    hostile.fault = () => null;
    await begin;
    const present = async (): Promise<number> => {
      const [device] = (await wide.client.status()).devices.filter(({ images }) => images.includes('hostile'));
      return device!.chunks - device!.missing;
    };
    // Ten thousand lie in the window; what was remembered comes.
    let before = 0;
    const grows = async (): Promise<boolean> => {
      const last = before;
      before = await present();
      return before > last;
    };
    await expect.poll(grows, { timeout: 20_000, interval: 1_000 }).toBe(true);
    await expect.poll(grows, { timeout: 20_000, interval: 1_000 }).toBe(false);
    expect(before).toBeLessThan(1.5 * MAX_READAHEAD);
    expect(await hash(join(target, 'large'))).toBe(createHash('sha256').update(own.large).digest('hex'));
    expect((await wide.client.status()).counters.failures).toBe(0);
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
