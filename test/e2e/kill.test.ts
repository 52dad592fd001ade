/** The daemon dies by SIGKILL under a container that reads: the container sees a pause, no error and no wrong byte. */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { connectDaemon, type DaemonClient } from '../../src/daemon/client.ts';
import { unmountBelow } from '../kit/mounts.ts';
import { run } from '../kit/process.ts';
import { needs } from '../kit/skip.ts';
import { convertDemo, demoImage, demoRegistry, dropCaches, LAZY, LazyHost, linkTo } from '../kit/testbed.ts';
import { walk } from '../kit/tree.ts';

const path = needs('root', 'fuse', 'erofs', 'overlay', 'addon', 'holder', 'dist', 'better-sqlite3');
const tools = needs('containerd', 'runc', 'docker-registry', 'skopeo', 'umoci', 'debootstrap', 'python3');

interface Report {
  readonly reads: number;
  readonly files: number;
  readonly errors: readonly string[];
  readonly wrong: readonly string[];
  /** Seconds. */
  readonly longest: number;
}

const KILLS = 3;
/** Milliseconds of reading before, between and after the kills. */
const PHASE = 4000;

/**
 * Kills the daemon and waits for its successor to have answered a reader. Returns how many reads it was resent and got
 * anew.
 */
async function killDaemon(daemon: DaemonClient): Promise<{ readonly resent: number; readonly reads: number }> {
  const { pid } = await daemon.status();
  process.kill(pid, 'SIGKILL');
  const deadline = Date.now() + 20_000;
  for (;;) {
    const status = await daemon.status().catch(() => null);
    if (status !== null && status.pid !== pid && status.counters.reads > 0) return status.counters;
    if (Date.now() > deadline) throw new Error(`no successor of daemon ${pid} has served a read`);
    await sleep(50);
  }
}

describe.skipIf(path.reason ?? tools.reason)('kill -9 of the daemon under a reading container', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lk-'));
  afterAll(() => {
    unmountBelow(dir);
    rmSync(dir, { recursive: true });
  });

  it(`is a pause and nothing else, ${KILLS} times`, { timeout: 600_000 }, async () => {
    const image = await demoImage();
    await using registry = await demoRegistry(join(dir, 'r'), image);
    await convertDemo(registry);
    await run('umoci', ['unpack', '--image', `${image.layout}:demo`, join(dir, 'u')]);
    const shared = join(dir, 'shared');
    mkdirSync(shared);
    const rows = await walk(join(dir, 'u', 'rootfs'));
    const files = rows.filter((row) => row.sha256 !== undefined && row.path !== undefined && !row.path.includes('\n'));
    writeFileSync(join(shared, 'expected'), files.map((row) => `${row.sha256} ${row.path}\n`).join(''));
    copyFileSync(fileURLToPath(new URL('../kit/read-random.py', import.meta.url)), join(shared, 'read.py'));

    // So slow that the image does not arrive whole while this lasts.
    await using link = await linkTo(registry, { rtt: 10, bandwidth: 40e6 });
    await using host = await LazyHost.start(join(dir, 'h'));
    const name = `${link.address}/${LAZY}`;
    await host.pull(name);
    const flags = ['--mount', `type=bind,src=${shared},dst=/mnt,options=rbind:rw`];
    let reading = false;
    const command = ['python3', '/mnt/read.py', '/mnt/expected', '/mnt/stop', '7'];
    const container = run('ctr', host.runArgs(name, 'reader', command, ...flags), { onOutput: () => (reading = true) });
    // A container that fails at once is reported here and not as an unhandled rejection later.
    const ended = container.catch((error: unknown) => error);
    while (!reading) await Promise.race([sleep(50), ended.then((error) => Promise.reject(error))]);

    using daemon = connectDaemon(host.snapshotter.root);
    const dropping = new AbortController();
    const dropper = (async () => {
      while (!dropping.signal.aborted) {
        await dropCaches();
        await sleep(1000);
      }
    })();
    const successors = [];
    await sleep(PHASE);
    for (let kill = 0; kill < KILLS; kill += 1) {
      successors.push(await killDaemon(daemon));
      await sleep(PHASE);
    }
    const { devices } = await daemon.status();
    writeFileSync(join(shared, 'stop'), '');
    const { stdout } = await container;
    dropping.abort();
    await dropper;

    const report = JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as Report;
    expect(report.errors).toEqual([]);
    expect(report.wrong).toEqual([]);
    expect(report.files).toBeGreaterThan(100);
    for (const counters of successors) expect(counters.resent + counters.reads).toBeGreaterThan(0);
    // The image was only partly there, so readers depended on the network all the time.
    expect(devices.some((device) => device.missing > 0)).toBe(true);
  });
});
