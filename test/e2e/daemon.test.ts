/** The real daemon from attaching to the last byte: trees equal the truth, deaths are pauses, nothing is left behind. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { ensureDaemon } from '../../src/daemon/client.ts';
import { EXIT } from '../../src/errors.ts';
import { DaemonFixture, dropPageCache, makeFlatImage, noise } from '../kit/daemon-fixture.ts';
import { fixture } from '../kit/layers.ts';
import { run } from '../kit/process.ts';
import { startRegistry } from '../kit/registry.ts';
import { needs } from '../kit/skip.ts';
import { diffTrees, walk } from '../kit/tree.ts';

const skip = needs('root', 'fuse', 'erofs', 'addon', 'holder', 'dist', 'python3');
const MAIN = fileURLToPath(new URL('../../dist/daemon/main.js', import.meta.url));
const READER = fileURLToPath(new URL('../kit/read-random.py', import.meta.url));

/** Loaded into the daemon: nothing of JavaScript runs there for ten seconds after SIGUSR2. */
const BLOCKING = new URL('../kit/block-on-signal.mjs', import.meta.url);

const KIB = 1024;
const MIB = 1024 * KIB;

const directory = (path: string) => [{ directory: { path } }];
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

describe.skipIf(skip.reason)('the daemon', () => {
  let room: DaemonFixture;
  beforeEach(async () => {
    vi.stubEnv('NODE_OPTIONS', `--import=${BLOCKING}`);
    room = await DaemonFixture.start();
    vi.unstubAllEnvs();
  });
  afterEach(() => room[Symbol.asyncDispose]());

  it('one cache for all: an image that was read once costs the next one nothing; the last one frees it', async () => {
    const dir = fixture('rafs/default');
    const bootstrap = join(dir, 'bootstrap');
    const first = await room.mount('first', bootstrap, directory(dir));
    await walk(first);
    const before = await room.client.status();
    expect(before.devices.map(({ images }) => images)).toEqual([['first']]);
    // Nothing lies there: whatever is read comes from the cache.
    const second = await room.mount('second', bootstrap, directory(room.folder('empty')));
    await dropPageCache();
    expect(diffTrees(await walk(first), await walk(second))).toEqual([]);
    const after = await room.client.status();
    expect(after.counters.requests).toBe(before.counters.requests);
    const { missing } = before.devices[0]!;
    expect(after.devices).toMatchObject([
      { images: ['first'], missing },
      { images: ['second'], missing },
    ]);

    const cached = () => readdirSync(join(room.root, 'cache')).filter((name) => !name.startsWith('.'));
    await room.unmount('first');
    expect(cached().length).toBe(1);
    await room.unmount('second');
    expect(cached()).toEqual([]);
    expect(readdirSync(join(room.root, 'images'))).toEqual([]);
    expect(await room.client.status()).toMatchObject({ images: [], devices: [] });
    await expect(room.client.detach('second')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('attaching again is the same; what cannot be attached leaves nothing', async () => {
    const dir = fixture('rafs/default');
    const request = { id: 'x', bootstrap: join(dir, 'bootstrap'), sources: directory(dir) };
    const { devices } = await room.client.attach(request);
    expect(await room.client.attach(request)).toEqual({ devices });
    for (const bad of [
      { ...request, id: '../x', code: 'USAGE' },
      { ...request, id: 'y', bootstrap: 'relative', code: 'USAGE' },
      { ...request, id: 'y', sources: [], code: 'USAGE' },
      { ...request, id: 'y', bootstrap: '/nowhere', code: 'NOT_FOUND' },
      { ...request, id: 'y', bootstrap: MAIN, code: 'FORMAT' },
    ]) {
      const { code, ...wrong } = bad;
      await expect(room.client.attach(wrong)).rejects.toMatchObject({ code });
    }
    expect((await room.client.status()).images.map(({ id }) => id)).toEqual(['x']);
    const records = readdirSync(join(room.root, 'images')).filter((name) => name.endsWith('.json'));
    expect(records).toEqual(['x.json']);
  });

  it('a second one is refused and told who is there', async () => {
    const { pid } = await room.client.status();
    const { status, stderr } = spawnSync(process.execPath, [MAIN, '--root', room.root], { encoding: 'utf8' });
    expect(status).toBe(EXIT.conflict);
    expect(stderr).toContain(`another daemon has this root (pid ${pid})`);
    expect((await room.client.status()).pid).toBe(pid);
  });

  it('hits do not enter JavaScript: they go on while its thread is blocked', { timeout: 120_000 }, async () => {
    const content = noise(1, 64 * MIB);
    const image = await makeFlatImage({ file: content }, 128 * KIB, room.folder('image'));
    const path = join(await room.mount('big', image.bootstrap, directory(image.dir)), 'file');
    const digest = sha256(content);
    const read = async () => (await run('sha256sum', [path])).stdout.slice(0, 64);
    expect(await read()).toBe(digest);
    const before = await room.client.status();

    process.kill(before.pid, 'SIGUSR2'); // see BLOCKING
    await sleep(200);
    const blocked = Date.now() + 9_500;
    await expect(room.client.status({ timeout: 100 })).rejects.toMatchObject({ code: 'TIMEOUT' });
    let meanwhile = 0;
    // 1 GiB in all, each time from the device.
    for (let round = 0; round < 16; round++) {
      await dropPageCache();
      expect(await read()).toBe(digest);
      if (Date.now() < blocked) meanwhile++;
    }
    // All of them on a machine that has nothing else to do; one proves that JavaScript was not needed.
    expect(meanwhile).toBeGreaterThan(0);
    const { counters } = await room.client.status();
    expect(counters.readBytes - before.counters.readBytes).toBeGreaterThanOrEqual(1024 * MIB);
    expect(counters.misses).toBe(before.counters.misses);
  });

  it('killed three times under readers: a pause, no error, no wrong byte', { timeout: 120_000 }, async () => {
    await using registry = await startRegistry({ fault: () => ({ kind: 'delay', ms: 30 }) });
    const files = Object.fromEntries(
      Array.from({ length: 400 }, (_, index) => [`file-${index}`, noise(1000 + index, 150_000 + index * 17)]),
    );
    const image = await makeFlatImage(files, 64 * KIB, room.folder('image'));
    for (const name of readdirSync(image.dir)) {
      if (name !== 'bootstrap') registry.storage.putBlob('some/image', await readFile(join(image.dir, name)));
    }
    const source = { registry: { host: registry.host, repository: 'some/image' } };
    const target = await room.mount('killed', image.bootstrap, [source]);
    const lines = Object.entries(files).map(([name, content]) => `${sha256(content)} ${join(target, name)}\n`);
    const [expected, stop] = [join(room.dir, 'expected'), join(room.dir, 'stop')];
    writeFileSync(expected, lines.join(''));
    // A test that fails must leave no reader behind, which would go on for ever.
    const over = new AbortController();
    onTestFinished(() => over.abort());
    const readers = [1, 2, 3].map((seed) =>
      run('python3', [READER, expected, stop, `${seed}`], { signal: over.signal }),
    );
    const reports = Promise.all(readers);
    reports.catch(() => {});
    const dropper = (async () => {
      while (!over.signal.aborted) {
        await dropPageCache();
        await sleep(300);
      }
    })();
    const successors = [];
    for (let kill = 0; kill < 3; kill++) {
      const misses = async () => (await room.client.status()).counters.misses;
      await expect.poll(misses, { timeout: 10_000 }).toBeGreaterThan(0);
      await sleep(300);
      const { pid } = await room.client.status();
      process.kill(pid, 'SIGKILL');
      const next = async () => {
        const status = await room.client.status();
        return status.pid === pid || status.counters.reads === 0 ? null : status;
      };
      await expect.poll(next, { timeout: 10_000, interval: 20 }).not.toBeNull();
      successors.push((await next())!);
    }
    const { devices } = successors.at(-1)!;
    writeFileSync(stop, '');
    const ended = await reports;
    over.abort();
    await dropper;
    for (const { stdout } of ended) {
      const report = JSON.parse(stdout.trimEnd().split('\n').at(-1)!);
      expect(report).toMatchObject({ errors: [], wrong: [] });
      expect(report.reads).toBeGreaterThan(0);
      expect(report.longest).toBeLessThan(20);
    }
    // Readers depended on the network all the time, and somebody waited whenever a daemon died.
    expect(devices[0]!.missing).toBeGreaterThan(0);
    for (const { counters } of successors) expect(counters.takenOver).toBe(true);
    expect(successors.reduce((sum, { counters }) => sum + counters.resent, 0)).toBeGreaterThan(0);
  });

  it('killed again and again while it comes up, it comes up', async () => {
    const image = await makeFlatImage({ file: noise(9, MIB) }, 128 * KIB, room.folder('image'));
    const path = join(await room.mount('image', image.bootstrap, directory(image.dir)), 'file');
    const owner = async () => Number(await readFile(join(room.root, 'lock'), 'utf8'));
    let { pid } = await room.client.status();
    process.kill(pid, 'SIGKILL');
    const read = run('sha256sum', [path]);
    for (let kill = 0; kill < 4; kill++) {
      const before = pid;
      const next = async () => {
        pid = await owner();
        return pid > 0 && pid !== before;
      };
      await expect.poll(next, { timeout: 10_000, interval: 5 }).toBe(true);
      // At another moment of its start each time.
      await sleep(kill * 40);
      process.kill(pid, 'SIGKILL');
    }
    expect((await read).stdout.slice(0, 64)).toBe(sha256(noise(9, MIB)));
    const started = Date.now();
    expect((await room.client.status()).pid).not.toBe(pid);
    expect(Date.now() - started).toBeLessThan(10_000);
  });

  it('stopped by its API it leaves mounts and waiting readers to the next one', async () => {
    const image = await makeFlatImage({ file: noise(5, MIB) }, 128 * KIB, room.folder('image'));
    const path = join(await room.mount('stopped', image.bootstrap, directory(image.dir)), 'file');
    const { pid } = await room.client.status();
    await room.client.stop();
    const read = run('sha256sum', [path]);
    using next = await ensureDaemon(room.root);
    expect((await next.status()).pid).not.toBe(pid);
    expect((await read).stdout.slice(0, 64)).toBe(sha256(noise(5, MIB)));
    expect(existsSync(join(room.root, 'daemon.sock'))).toBe(true);
  });

  it('after a restart images come from their records; one that cannot tells its problem', async () => {
    const content = (name: string) => noise(name.length, 64 * KIB);
    const make = (name: string) => makeFlatImage({ file: content(name) }, 16 * KIB, room.folder(name));
    const restart = async () => {
      const { pid } = await room.client.status();
      process.kill(pid, 'SIGKILL');
      await expect.poll(async () => (await room.client.status()).pid).not.toBe(pid);
      return (await room.client.status()).images.map(({ id, problem }) => [id, problem === '']);
    };
    const read = async (path: string) => (await run('sha256sum', [path])).stdout.slice(0, 64);
    const tables = () => {
      const cache = join(room.root, 'cache');
      const names = readdirSync(cache, { recursive: true }) as string[];
      return names.filter((name) => name.endsWith('/table')).map((name) => join(cache, name));
    };

    const [whole, bare] = [await make('whole'), await make('no-bootstrap')];
    const file = join(await room.mount('whole', whole.bootstrap, directory(whole.dir)), 'file');
    const attached = { id: 'no-bootstrap', bootstrap: bare.bootstrap, sources: directory(bare.dir) };
    // Its one file is all that is on the device.
    const [device] = (await room.client.attach(attached)).devices;
    // It is not needed any more: the tables lie beside the caches.
    writeFileSync(bare.bootstrap, 'no longer');
    expect(await restart()).toEqual([
      ['no-bootstrap', true],
      ['whole', true],
    ]);
    expect(await read(file)).toBe(sha256(content('whole')));
    expect(await read(device!)).toBe(sha256(content('no-bootstrap')));

    expect(tables().length).toBe(2);
    for (const path of tables()) writeFileSync(path, readFileSync(path).fill(1, 40, 44));
    expect(await restart()).toEqual([
      ['no-bootstrap', false],
      ['whole', true],
    ]);
    await dropPageCache();
    expect(await read(file)).toBe(sha256(content('whole')));
    await expect(read(device!)).rejects.toThrow('No such file');
    await room.client.detach('no-bootstrap');
    expect((await room.client.status()).images.map(({ id }) => id)).toEqual(['whole']);
  });
});
