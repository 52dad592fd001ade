/** Mounts, loop devices and locks: what works, and what the errors say. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { findAddon } from '../../../src/native/addon.ts';
import { tryLock, tryLockExisting } from '../../../src/native/lock.ts';
import { mountsBelow, unmountBelow } from '../../kit/mounts.ts';
import { needs } from '../../kit/skip.ts';

const skip = needs('linux', 'root', 'addon');
const skipLoop = needs('linux', 'root', 'addon', 'loop');
const addon = findAddon()!;

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'lacuna-sys-'));
});
afterEach(() => {
  unmountBelow(dir);
  rmSync(dir, { recursive: true, force: true });
});

describe.skipIf(skip.reason)('mount', () => {
  test('mounts with options and attributes, unmounts', async () => {
    const target = join(dir, 'a b');
    mkdirSync(target);
    await addon.mount({
      fstype: 'tmpfs',
      source: 'here',
      target,
      options: ['size=64k', 'mode=700'],
      readonly: true,
      nosuid: true,
      nodev: true,
    });
    expect(mountsBelow(target)).toMatchObject([{ type: 'tmpfs' }]);
    expect(() => writeFileSync(join(target, 'x'), '')).toThrow('EROFS');
    await addon.umount(target, 2);
    expect(mountsBelow(target)).toEqual([]);
    writeFileSync(join(target, 'x'), '');
  });

  test('errors name the call, the subject and the reason of the kernel', async () => {
    const refused = (change: object, code: string, message: unknown) =>
      expect(
        addon.mount({
          fstype: 'tmpfs',
          source: 'x',
          target: dir,
          options: [],
          readonly: false,
          nosuid: true,
          nodev: true,
          ...change,
        }),
      ).rejects.toMatchObject({ code, message });
    await refused({ options: ['nonsense=1'] }, 'SYSTEM', expect.stringMatching(/nonsense=1: Inv.*Unknown parameter/));
    await refused({ fstype: 'nonsense' }, 'SYSTEM', expect.stringContaining('nonsense'));
    await refused({ target: join(dir, 'none') }, 'NOT_FOUND', expect.stringContaining(join(dir, 'none')));
    await refused({ options: ['a\0b'] }, 'SYSTEM', expect.stringContaining('a\\0b'));
    expect(mountsBelow(dir)).toEqual([]);
    await expect(addon.umount(dir, 0)).rejects.toMatchObject({ code: 'SYSTEM', message: expect.stringContaining(dir) });
    await expect(addon.umount(dir, 2 ** 31)).rejects.toMatchObject({ code: 'USAGE' });
  });
});

describe.skipIf(skipLoop.reason)('loopAttach', () => {
  const attached = (): string => spawnSync('losetup', ['-j', join(dir, 'image')], { encoding: 'utf8' }).stdout;

  test('is read-only, shows the file, and goes away with its handle', async () => {
    const content = Buffer.alloc(64 * 1024, 'lacuna! ');
    writeFileSync(join(dir, 'image'), content);
    const loops = await Promise.all([0, 1, 2, 3].map(() => addon.loopAttach(join(dir, 'image'))));
    expect(new Set(loops.map(({ path }) => path)).size).toBe(4);
    for (const { path } of loops) {
      expect(path).toMatch(/^\/dev\/loop\d+$/);
      expect(readFileSync(path).equals(content)).toBe(true);
      const { stderr, status } = spawnSync('dd', ['if=/dev/zero', `of=${path}`, 'bs=512', 'count=1'], {
        encoding: 'utf8',
      });
      expect([status, stderr]).toEqual([1, expect.stringMatching(/permitted|denied|Read-only/)]);
    }
    for (const loop of loops) {
      loop.close();
      loop.close();
    }
    for (const deadline = Date.now() + 5000; attached() !== '' && Date.now() < deadline; ) await sleep(20);
    expect(attached()).toBe('');
  });

  test('names a file that is not there', async () => {
    await expect(addon.loopAttach(join(dir, 'none'))).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringContaining(join(dir, 'none')),
    });
  });
});

describe.skipIf(skip.reason)('lock', () => {
  test('is exclusive until it is closed, and not kept by children', async () => {
    const path = join(dir, 'lock');
    const lock = await tryLock(path);
    expect(lock).not.toBeNull();
    expect(await tryLock(path)).toBeNull();
    expect(spawnSync('flock', ['-n', path, 'true']).status).toBe(1);
    const child = spawnSync('sh', ['-c', 'ls -l /proc/self/fd'], { encoding: 'utf8' });
    expect(child.stdout).not.toContain(path);
    lock!.close();
    lock!.close();
    const again = await tryLock(path);
    expect(again).not.toBeNull();
    again!.close();
    expect(spawnSync('flock', ['-n', path, 'true']).status).toBe(0);
    await expect(tryLock(join(dir, 'no/such'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test('of a directory is as well', async () => {
    const lock = await tryLockExisting(dir, 'directory');
    expect(await tryLockExisting(dir, 'directory')).toBeNull();
    expect(spawnSync('flock', ['-n', dir, 'true']).status).toBe(1);
    lock!.close();
    (await tryLockExisting(dir, 'directory'))!.close();
    expect(await tryLockExisting(join(dir, 'none'), 'directory')).toBeNull();
  });

  test('is of the file that is there, not of one that was deleted', async () => {
    const path = join(dir, 'deleted');
    const lock = await tryLock(path);
    rmSync(path);
    const other = await tryLock(path);
    expect(other).not.toBeNull();
    lock!.close();
    expect(await tryLock(path)).toBeNull();
    other!.close();
  });

  test('follows no link, and waits for no pipe', async () => {
    symlinkSync('elsewhere', join(dir, 'link'));
    await expect(tryLock(join(dir, 'link'))).rejects.toMatchObject({ code: 'SYSTEM' });
    expect(readdirSync(dir)).not.toContain('elsewhere');
    spawnSync('mkfifo', [join(dir, 'pipe')]);
    expect(await tryLockExisting(join(dir, 'pipe'), 'file')).toBeNull();
  });

  test('a descriptor that is not open is an error', () => {
    expect(() => addon.flock(1_000_000)).toThrow(expect.objectContaining({ code: 'SYSTEM' }));
    expect(() => addon.flock(-1)).toThrow(expect.objectContaining({ code: 'USAGE' }));
  });
});
