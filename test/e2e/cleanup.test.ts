/** Whatever is left of a root is taken down: daemon, holder, mounts and readers, each dead, stopped or alive. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connectDaemon, ensureDaemon } from '../../src/daemon/client.ts';
import { cleanup } from '../../src/mount/cleanup.ts';
import { mountErofs, unmount } from '../../src/mount/erofs.ts';
import { addon } from '../../src/native/addon.ts';
import { ensureHolder, listHolder } from '../../src/native/holder.ts';
import { fixture } from '../kit/layers.ts';
import { mountsBelow, unmountBelow } from '../kit/mounts.ts';
import { run, start, waitUntil } from '../kit/process.ts';
import { needs } from '../kit/skip.ts';
import { walk } from '../kit/tree.ts';

const skip = needs('root', 'erofs', 'fuse', 'overlay', 'addon', 'holder', 'dist', 'python3', 'better-sqlite3');

const IMAGE = fixture('rafs/default');
const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

/** Waits until they are gone: who has ended is still listed until its parent, or init, has taken notice. */
async function expectEnded(...pids: number[]): Promise<void> {
  const deadline = Date.now() + 5_000;
  while (pids.some(alive) && Date.now() < deadline) await sleep(10);
  expect(pids.filter(alive)).toEqual([]);
}

describe.skipIf(skip.reason)('cleanup', () => {
  let dir: string;
  let root: string;
  const children: ChildProcess[] = [];

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'lcu-'));
    root = join(dir, 'root');
  });
  afterEach(async () => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
    await cleanup(root, { force: true }).catch(() => null);
    unmountBelow(dir);
    rmSync(dir, { recursive: true });
  });

  /** A daemon with one image, mounted on `target`. */
  async function mountImage(target: string): Promise<{ daemon: number; holder: number }> {
    using client = await ensureDaemon(root);
    const sources = [{ directory: { path: IMAGE } }];
    const { devices } = await client.attach({ id: 'image', bootstrap: join(IMAGE, 'bootstrap'), sources });
    mkdirSync(target, { recursive: true });
    await mountErofs({ bootstrap: join(IMAGE, 'bootstrap'), devices, target });
    return { daemon: (await client.status()).pid, holder: await ensureHolder(join(root, 'holder.sock')) };
  }

  /** Reads every file below `folder`; resolves with its exit status. */
  function reader(folder: string): Promise<number> {
    const child = spawn('sh', ['-c', 'find "$0" -type f -exec cat {} + > /dev/null', folder], { stdio: 'ignore' });
    children.push(child);
    return once(child, 'exit').then(([status]) => status as number);
  }

  async function kill(pid: number): Promise<void> {
    process.kill(pid, 'SIGKILL');
    await expectEnded(pid);
  }

  const expectNothing = async (): Promise<void> => {
    expect(mountsBelow(dir)).toEqual([]);
    expect(await listHolder(join(root, 'holder.sock'))).toBeNull();
    expect(readdirSync(root).filter((name) => name.endsWith('.sock'))).toEqual([]);
  };

  it('ends all of a healthy root; records and cache serve the next daemon', async () => {
    const target = join(dir, 'mnt');
    const { daemon, holder } = await mountImage(target);
    const rows = await walk(target);
    const { stdout } = await run(process.execPath, [CLI, 'cleanup', '--root', root, '--json']);
    expect(JSON.parse(stdout)).toEqual({
      schema: 'lacuna.cleanup.v1',
      root,
      snapshotter: null,
      daemon,
      holder: true,
      unmounted: [target, join(root, 'fuse')],
      detached: [],
      orphaned: [],
      purged: false,
    });
    await expectEnded(daemon, holder);
    await expectNothing();
    expect((await run(process.execPath, [CLI, 'cleanup', '--root', root])).stdout).toContain('nothing was running');

    const again = await mountImage(target);
    expect(await walk(target)).toEqual(rows);
    using client = connectDaemon(root);
    const { devices, counters } = await client.status();
    expect(devices.map(({ missing }) => missing)).toEqual([0]);
    expect(counters.requests).toBe(0);
    expect(await cleanup(root, { purge: true })).toMatchObject({ daemon: again.daemon, holder: true, purged: true });
    expect(existsSync(root)).toBe(false);
  });

  it('frees a reader that waits for a daemon which was killed', async () => {
    const target = join(dir, 'mnt');
    const { daemon } = await mountImage(target);
    await kill(daemon);
    const reading = reader(target);
    await sleep(300);
    const result = await cleanup(root);
    expect(result).toMatchObject({ daemon: null, holder: true, unmounted: [target, join(root, 'fuse')] });
    expect(result.detached).toContain(target);
    expect(await reading).toBe(1);
    await expectNothing();
  });

  it('ends what is left when daemon and holder were killed', async () => {
    const target = join(dir, 'mnt');
    const { daemon, holder } = await mountImage(target);
    await kill(daemon);
    await kill(holder);
    const result = await cleanup(root);
    expect(result).toMatchObject({
      daemon: null,
      holder: false,
      unmounted: [target, join(root, 'fuse')],
      detached: [],
    });
    await expectNothing();
  });

  it('kills a daemon that neither answers nor ends', async () => {
    const { daemon } = await mountImage(join(dir, 'mnt'));
    process.kill(daemon, 'SIGSTOP');
    expect(await cleanup(root)).toMatchObject({ daemon, holder: true });
    await expectEnded(daemon);
    await expectNothing();
  });

  it('does not touch other roots, and skips a damaged record', async () => {
    const target = join(dir, 'mnt');
    await mountImage(target);
    writeFileSync(join(root, 'images', 'damaged.json'), '{');
    const other = join(dir, 'other');
    mkdirSync(other);
    const [device] = readdirSync(join(root, 'fuse'));
    await mountErofs({
      bootstrap: fixture('rafs/lz4/bootstrap'),
      devices: [join(root, 'fuse', device!)],
      target: other,
    });
    const { unmounted } = await cleanup(root);
    expect(unmounted).toEqual([target, join(root, 'fuse')]);
    expect(mountsBelow(dir).map((mount) => mount.target)).toEqual([other]);
    await unmount(other);
  });

  it('tells which overlays stood on it; their readers get errors and do not hang', async () => {
    const target = join(root, 'snapshotter', 'images', '1', 'mnt');
    await mountImage(target);
    for (const name of ['upper', 'work', 'merged']) mkdirSync(join(dir, name));
    const merged = join(dir, 'merged');
    const options = [`lowerdir=${target}`, `upperdir=${join(dir, 'upper')}`, `workdir=${join(dir, 'work')}`];
    await addon().mount({
      fstype: 'overlay',
      source: 'overlay',
      target: merged,
      options,
      readonly: false,
      nosuid: true,
      nodev: true,
    });
    const held = openSync(merged, 'r');
    const result = await cleanup(root);
    expect(result).toMatchObject({ orphaned: [merged], unmounted: [target, join(root, 'fuse')] });
    expect(result.detached).toEqual([join(root, 'fuse')]);
    expect(await reader(merged)).toBe(1);
    closeSync(held);
    await unmount(merged);
    await expectNothing();
  });

  it('purges no snapshots that are mounted, in whatever mount namespace, unless it is forced', async () => {
    const snapshots = join(root, 'snapshotter', 'snapshots');
    for (const id of [1, 2])
      for (const name of ['fs', 'work']) mkdirSync(join(snapshots, `${id}`, name), { recursive: true });
    await mountImage(join(dir, 'mnt'));
    const merged = join(dir, 'merged');
    mkdirSync(merged);
    const [lower, upper, work] = [join(snapshots, '1', 'fs'), join(snapshots, '2', 'fs'), join(snapshots, '2', 'work')];
    const overlay = `mount -t overlay -o lowerdir=${lower},upperdir=${upper},workdir=${work} overlay "$0"`;
    const bind = `mount --bind ${lower} "$0"`;
    const refused = async (users: string): Promise<void> => {
      const before = mountsBelow(dir).length;
      await expect(cleanup(root, { purge: true })).rejects.toMatchObject({
        code: 'PRECONDITION',
        message: expect.stringMatching(users),
        hint: expect.stringContaining('--force'),
      });
      expect(mountsBelow(dir)).toHaveLength(before);
      using client = connectDaemon(root);
      expect((await client.status()).images).toHaveLength(1);
    };
    for (const script of [overlay, bind]) {
      await run('sh', ['-ec', script, merged]);
      await refused(`mounted on ${merged}$`);
      await unmount(merged);
      const container = start('unshare', ['--mount', 'sh', '-ec', `${script}; echo mounted; exec sleep 600`, merged]);
      children.push(container.child);
      await waitUntil(container, 'container', () => container.output().includes('mounted'));
      await refused(`mounted on ${merged} of process ${container.child.pid}$`);
      if (script === overlay) await container.stop();
    }
    const result = await cleanup(root, { purge: true, force: true });
    expect(result).toMatchObject({ purged: true, orphaned: [expect.stringContaining(merged)] });
    expect(existsSync(root)).toBe(false);
  });

  it('refuses while a snapshotter serves the root, unless it is to end it', async () => {
    const address = join(dir, 's.sock');
    const snapshotter = start(process.execPath, [CLI, 'snapshotter', '--root', root, '--address', address]);
    children.push(snapshotter.child);
    await waitUntil(snapshotter, 'snapshotter', () => existsSync(address));
    const { daemon } = await mountImage(join(dir, 'mnt'));
    const pid = snapshotter.child.pid!;
    await expect(cleanup(root)).rejects.toMatchObject({
      code: 'LOCKED',
      message: expect.stringContaining(`pid ${pid}`),
      hint: expect.stringContaining('--force'),
    });
    expect([alive(pid), alive(daemon), mountsBelow(dir).length]).toEqual([true, true, 2]);
    expect(await cleanup(root, { force: true })).toMatchObject({ snapshotter: pid, daemon, holder: true });
    await expectEnded(pid, daemon);
    await expectNothing();
  });

  it('changes nothing in a folder that is not a root', async () => {
    mkdirSync(root);
    writeFileSync(join(root, 'precious'), '');
    await expect(cleanup(root, { purge: true })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(cleanup(join(dir, 'none'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(readdirSync(root)).toEqual(['precious']);
  });

  it('purges a root that is a file system of its own', async () => {
    mkdirSync(root);
    await addon().mount({
      fstype: 'tmpfs',
      source: 'root',
      target: root,
      options: ['mode=700'],
      readonly: false,
      nosuid: false,
      nodev: false,
    });
    await mountImage(join(dir, 'mnt'));
    expect(await cleanup(root, { purge: true })).toMatchObject({ purged: true });
    expect(readdirSync(root)).toEqual([]);
    expect(mountsBelow(dir).map(({ target }) => target)).toEqual([root]);
  });

  it('purges only what Lacuna made', async () => {
    await mountImage(join(dir, 'mnt'));
    writeFileSync(join(root, 'precious'), '');
    await cleanup(root, { purge: true });
    expect(readdirSync(root)).toEqual(['precious']);
  });
});
