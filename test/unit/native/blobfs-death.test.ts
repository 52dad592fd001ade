/** The session outlives the process that serves it: killed at any moment, taken over, begun anew where nothing is left. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { BlobFsCounters } from '../../../src/native/addon.ts';
import { ensureHolder, listHolder, quitHolder } from '../../../src/native/holder.ts';
import { mountsBelow, unmountBelow } from '../../kit/mounts.ts';
import { run } from '../../kit/process.ts';
import { needs } from '../../kit/skip.ts';
import { addon, BlobFsFixture, identity, makeBlob, sha256, type TestBlob } from './blobfs-fixture.ts';

const skip = needs('linux', 'root', 'fuse', 'addon', 'holder', 'python3');
const K = 1024;
const script = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** A serving process of its own. */
class Server {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(room: BlobFsFixture, blobs: Record<string, TestBlob>, delay: number) {
    const devices = Object.entries(blobs).map(([name, { size, table, stored }]) => {
      const [tableFile, storedFile] = [join(room.dir, `${name}.table`), join(room.dir, `${name}.stored`)];
      writeFileSync(tableFile, table);
      writeFileSync(storedFile, stored);
      return { ...identity(name), size, tableFile, storedFile, ...room.stores(name) };
    });
    const { mountpoint, holderSocket } = room;
    const options = JSON.stringify({ mountpoint, holderSocket, devices, delay });
    this.#child = spawn(process.execPath, [script('blobfs-server.mjs'), options], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  /** The first line tells that it is ready, each further one answers SIGUSR2. */
  async line(): Promise<BlobFsCounters> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error('the server has ended');
    return JSON.parse(value) as BlobFsCounters;
  }

  async counters(): Promise<BlobFsCounters> {
    this.#child.kill('SIGUSR2');
    return this.line();
  }

  async end(signal: NodeJS.Signals): Promise<[number | null, string | null]> {
    const { exitCode, signalCode } = this.#child;
    if (exitCode !== null || signalCode !== null) return [exitCode, signalCode];
    const exit = once(this.#child, 'exit');
    this.#child.kill(signal);
    return (await exit) as [number | null, string | null];
  }
}

describe.skipIf(skip.reason)('a session outlives its process', () => {
  let room: BlobFsFixture;
  let servers: Server[];
  beforeEach(async () => {
    room = new BlobFsFixture();
    servers = [];
    await ensureHolder(room.holderSocket);
  });
  afterEach(async () => {
    unmountBelow(room.dir);
    await Promise.all(servers.map((server) => server.end('SIGKILL')));
    await room.remove();
  });

  async function serve(
    blobs: Record<string, TestBlob>,
    delay: number,
  ): Promise<{ server: Server; started: BlobFsCounters }> {
    const server = new Server(room, blobs, delay);
    servers.push(server);
    return { server, started: await server.line() };
  }

  const killAll = (): Promise<unknown> => Promise.all(servers.splice(0).map((server) => server.end('SIGKILL')));

  test('kill -9 under a waiting reader: the next process answers what the dead one had taken', async () => {
    const blob = await makeBlob(3, [128 * K, 128 * K]);
    const { server, started } = await serve({ dev: blob }, 3_600_000);
    expect(started.takenOver).toBe(false);
    const read = room.range('dev', 0, blob.size);
    while ((await server.counters()).waiting === 0) await sleep(10);
    await killAll();
    // Comes while nobody serves.
    const second = room.hash('dev');
    await sleep(100);
    const next = await serve({ dev: blob }, 0);
    expect(next.started.takenOver).toBe(true);
    expect(await read).toBe(`${sha256(blob.truth)} ${blob.size}`);
    expect(await second).toBe(sha256(blob.truth));
    const counters = await next.server.counters();
    expect(counters.resent).toBeGreaterThanOrEqual(1);
    expect(counters.errors).toBe(0);
  });

  test('ten kills in a row under four readers: no error, no wrong byte', async () => {
    const blob = await makeBlob(5, Array(200).fill(64 * K));
    const { server } = await serve({ dev: blob }, 2);
    let reading = true;
    const expected = sha256(blob.truth);
    const readers = [0, 1, 2, 3].map(async (n) => {
      let rounds = 0;
      for (; reading; rounds += 1) {
        const at = ((n * 31 + rounds * 17) % 180) * 64 * K;
        expect(await room.range('dev', at, 1000 * K)).toBe(
          `${sha256(blob.truth.subarray(at, at + 1000 * K))} ${1000 * K}`,
        );
      }
      return rounds;
    });
    let current = server;
    for (let kill = 0; kill < 10; kill += 1) {
      await sleep(100 + kill * 10);
      await current.end('SIGKILL');
      servers.length = 0;
      const next = await serve({ dev: blob }, 2);
      expect(next.started.takenOver).toBe(true);
      current = next.server;
    }
    reading = false;
    for (const rounds of await Promise.all(readers)) expect(rounds).toBeGreaterThan(0);
    expect(await room.hash('dev')).toBe(expected);
    expect((await current.counters()).errors).toBe(0);
  });

  test('a process that closes leaves its waiting readers to the next one, and can exit', async () => {
    const blob = await makeBlob(7, [64 * K]);
    const { server } = await serve({ dev: blob }, 3_600_000);
    const read = room.hash('dev');
    while ((await server.counters()).waiting === 0) await sleep(10);
    expect(await server.end('SIGTERM')).toEqual([0, null]);
    await serve({ dev: blob }, 0);
    expect(await read).toBe(sha256(blob.truth));
  });

  test.each(['put', 'mount', 'init'] as const)('its first process died after %s', async (stage) => {
    const orphan = spawn('python3', [script('blobfs-orphan.py'), room.holderSocket, room.mountpoint, stage], {
      stdio: 'inherit',
    });
    expect(await once(orphan, 'exit')).toEqual([null, 'SIGKILL']);
    expect(await listHolder(room.holderSocket)).toEqual(['fuse']);
    const blob = await makeBlob(9, [64 * K]);
    const { fs } = await room.serve({ dev: blob });
    expect(fs.counters().takenOver).toBe(stage !== 'put');
    expect(await room.hash('dev')).toBe(sha256(blob.truth));
    if (stage === 'init') expect(fs.counters().resent).toBe(1);
    expect(mountsBelow(room.mountpoint).length).toBe(1);
  });

  test('unmounted between two processes while something above still uses it: it is mounted there again', async () => {
    const blob = await makeBlob(17, [64 * K, 64 * K]);
    await serve({ dev: blob }, 0);
    const held = spawn('sh', [
      '-c',
      'exec 3<"$1"; dd bs=64K count=1 status=none <&3 | sha256sum; read go; sha256sum <&3',
      'sh',
      room.path('dev'),
    ]);
    const lines = createInterface({ input: held.stdout })[Symbol.asyncIterator]();
    expect((await lines.next()).value).toContain(sha256(blob.truth.subarray(0, 64 * K)));
    await killAll();
    await run('umount', ['-l', room.mountpoint]);
    expect((await serve({ dev: blob }, 0)).started.takenOver).toBe(true);
    held.stdin.end('\n');
    expect((await lines.next()).value).toContain(sha256(blob.truth.subarray(64 * K)));
    expect(await room.hash('dev')).toBe(sha256(blob.truth));
    expect(mountsBelow(room.mountpoint).length).toBe(1);
  });

  test('unmounted under the process: it notices, and the next begins anew', async () => {
    const blob = await makeBlob(11, [64 * K]);
    const { fs } = await room.serve({ dev: blob });
    expect(await room.hash('dev')).toBe(sha256(blob.truth));
    await run('umount', [room.mountpoint]);
    while (fs.counters().connected) await sleep(10);
    await room.closeAll();
    const again = await room.serve({ dev: blob });
    expect(await room.hash('dev')).toBe(sha256(blob.truth));
    expect(again.fs.counters()).toMatchObject({ takenOver: false, misses: 0, connected: true });
  });

  test('the holder died with the session: a new one is mounted in place of the dead', async () => {
    const blob = await makeBlob(13, [64 * K]);
    await room.serve({ dev: blob });
    expect(await room.hash('dev')).toBe(sha256(blob.truth));
    await quitHolder(room.holderSocket);
    await room.closeAll();
    await expect(room.hash('dev')).rejects.toThrow('Transport endpoint is not connected');
    const again = await room.serve({ dev: blob });
    expect(await room.hash('dev')).toBe(sha256(blob.truth));
    expect(again.fs.counters().takenOver).toBe(false);
    expect(mountsBelow(room.mountpoint).length).toBe(1);
  });

  test('without a holder there is no session', async () => {
    await quitHolder(room.holderSocket);
    const { mountpoint, holderSocket } = room;
    await expect(addon.blobFs({ mountpoint, holderSocket, threads: 1, workers: 1 }, () => {})).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringContaining('holder'),
    });
    expect(mountsBelow(mountpoint)).toEqual([]);
  });
});
