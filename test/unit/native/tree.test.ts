/** Walks over trees and files below a directory: what they do at mounts, at links, and when they are aborted. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { checkout } from '#cache';
import { findAddon } from '../../../src/native/addon.ts';
import { removeTree, usageOf } from '../../../src/native/tree.ts';
import { memoryFolder } from '../../kit/memory.ts';
import { unmountBelow } from '../../kit/mounts.ts';
import { needs } from '../../kit/skip.ts';

const skip = needs('linux', 'addon');
const skipMounts = needs('linux', 'root', 'addon');
const addon = findAddon()!;

let dir: string;
let top: string;
beforeEach(() => {
  dir = memoryFolder('lacuna-walk-');
  top = join(dir, 'top');
  mkdirSync(join(top, 'a', 'b'), { recursive: true });
  writeFileSync(join(top, 'a', 'file'), Buffer.alloc(10_000, 1));
});
afterEach(() => {
  unmountBelow(dir);
  rmSync(dir, { recursive: true, force: true });
});

describe.skipIf(skip.reason)('a walk', () => {
  test('of a tree that is not there counts nothing and deletes nothing', async () => {
    expect(await usageOf(join(dir, 'none'))).toEqual({ size: 0, inodes: 0 });
    await removeTree(join(dir, 'none', 'below'));
    await removeTree(top);
    expect(readdirSync(dir)).toEqual([]);
  });

  test('deletes a file, and a link itself', async () => {
    symlinkSync(top, join(dir, 'link'));
    await removeTree(join(dir, 'link'));
    await removeTree(join(top, 'a', 'file'));
    expect(readdirSync(dir)).toEqual(['top']);
    expect(readdirSync(join(top, 'a'))).toEqual(['b']);
  });

  test('ends with ABORTED and may be repeated', async () => {
    const subject = top;
    const aborted = { signal: AbortSignal.abort() };
    await expect(usageOf(top, aborted)).rejects.toMatchObject({ code: 'ABORTED', op: 'count', subject });
    await expect(removeTree(top, aborted)).rejects.toMatchObject({ code: 'ABORTED', op: 'remove', subject });
    expect(existsSync(top)).toBe(true);
    await removeTree(top);
    expect(existsSync(top)).toBe(false);
  });

  test('ends with the thread of Node that began it', async () => {
    for (let i = 0; i < 20_000; i++) writeFileSync(join(top, `${i}`), '');
    const script = `
      const { workerData } = require('node:worker_threads');
      require(workerData.addon).treeWalk(Buffer.from(workerData.top)).remove();
      process.exit();`;
    const workerData = { addon: join(checkout, 'dist/native/lacuna.node'), top };
    await once(new Worker(script, { eval: true, workerData }), 'exit');
    expect(existsSync(top)).toBe(true);
    await removeTree(top);
    expect(existsSync(top)).toBe(false);
  });
});

describe.skipIf(skipMounts.reason)('a walk at a mount', () => {
  const tmpfs = (target: string): Promise<void> =>
    addon.mount({ fstype: 'tmpfs', source: 'test', target, options: [], readonly: false, nosuid: false, nodev: false });

  test('does not count what is mounted, and refuses to delete it', async () => {
    const before = await usageOf(top);
    mkdirSync(join(top, 'mnt'));
    await tmpfs(join(top, 'mnt'));
    writeFileSync(join(top, 'mnt', 'precious'), Buffer.alloc(1_000_000, 1));
    expect(await usageOf(top)).toEqual({ size: before.size, inodes: before.inodes });
    await expect(removeTree(top)).rejects.toMatchObject({
      code: 'PRECONDITION',
      subject: top,
      message: expect.stringContaining('still mounted'),
    });
    expect(readdirSync(join(top, 'mnt'))).toEqual(['precious']);
    await addon.umount(join(top, 'mnt'), 0);
    await removeTree(top);
    expect(existsSync(top)).toBe(false);
  });

  test('takes a bind mount of the same file system for a mount as well', async () => {
    mkdirSync(join(dir, 'outside'));
    writeFileSync(join(dir, 'outside', 'precious'), '');
    expect(spawnSync('mount', ['--bind', join(dir, 'outside'), join(top, 'a', 'b')]).status).toBe(0);
    await expect(removeTree(top)).rejects.toMatchObject({ code: 'PRECONDITION' });
    expect(readdirSync(join(dir, 'outside'))).toEqual(['precious']);
  });
});

describe.skipIf(skip.reason)('openFile', () => {
  test('opens regular files of the tree and nothing else', () => {
    symlinkSync('file', join(top, 'a', 'link'));
    symlinkSync('a', join(top, 'folder'));
    spawnSync('mkfifo', [join(top, 'pipe')]);
    const directory = addon.treeDir(Buffer.from(top));
    const open = (path: string): number | null => directory.openFile(Buffer.from(path));
    for (const path of ['none', 'a', 'a/link', 'folder/file', 'pipe', '../top/a/file', join(top, 'a/file')]) {
      expect(open(path), path).toBeNull();
    }
    const fd = open('a/file')!;
    const bytes = Buffer.alloc(2);
    expect([readSync(fd, bytes), bytes.toString()]).toEqual([2, '\x01\x01']);
    directory.close();
    expect(() => open('a/file')).toThrow(expect.objectContaining({ code: 'USAGE' }));
  });
});
