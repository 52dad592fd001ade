/** EROFS mounts of an image made by nydus-image, on plain files: the kernel reads what the truth says, either way. */
import { spawn } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { doctor } from '../../src/doctor/doctor.ts';
import { openBootstrap } from '../../src/formats/rafs/open.ts';
import { type MountDriver, mountErofs, unmount, untilUnmounted } from '../../src/mount/erofs.ts';
import { umount } from '../../src/mount/umount.ts';
import { addon } from '../../src/native/addon.ts';
import { fixture } from '../kit/layers.ts';
import { mountsBelow, unmountBelow } from '../kit/mounts.ts';
import { decodeChunk } from '../kit/rafs.ts';
import { needs } from '../kit/skip.ts';
import { diffTrees, nydusImageTime, readRows, walk } from '../kit/tree.ts';

const skip = needs('root', 'erofs', 'loop', 'overlay', 'addon', 'python3', 'zstd-napi', '@napi-rs/blake-hash');

/** Writes the plain bytes of every blob of a fixture as a device file; in blob table order. */
function writeDevices(variant: string, dir: string): string[] {
  const image = openBootstrap(readFileSync(fixture('rafs', variant, 'bootstrap')), { subject: variant });
  return image.blobs.map(({ id }, index) => {
    const path = join(dir, `${index}`);
    const file = openSync(path, 'w');
    ftruncateSync(file, image.deviceSize(index));
    const blob = readFileSync(fixture('rafs', variant, id));
    for (const chunk of image.chunksOf(index)) {
      const plain = decodeChunk(chunk, blob);
      writeSync(file, plain, 0, plain.length, chunk.uncompressedOffset);
    }
    closeSync(file);
    return path;
  });
}

/** Files that loop devices are attached to. */
const loopFiles = (): string[] =>
  readdirSync('/sys/block').flatMap((name) => {
    try {
      return [readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8').trimEnd()];
    } catch {
      return [];
    }
  });

describe.skipIf(skip.reason)('mountErofs', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-mount-'));
  const target = join(dir, 'mnt');
  const bootstrap = join(dir, 'bootstrap');
  let devices: string[] = [];

  beforeAll(() => {
    mkdirSync(target);
    mkdirSync(join(dir, 'devices'));
    copyFileSync(fixture('rafs/default/bootstrap'), bootstrap);
    devices = writeDevices('default', join(dir, 'devices'));
  });
  afterEach(async () => {
    while (mountsBelow(target).length > 0) await unmount(target, { detach: true });
    expect(loopFiles().filter((path) => path.startsWith(dir))).toEqual([]);
  });
  afterAll(() => {
    unmountBelow(dir);
    rmSync(dir, { recursive: true });
  });

  const expectTruth = async (truth = 'tame-mini.only-layer1'): Promise<void> => {
    const rows = await walk(target);
    expect(diffTrees(readRows(fixture(`truth/${truth}.merged.jsonl`)), rows, { time: nydusImageTime })).toEqual([]);
  };
  const mounted = () => mountsBelow(target).map(({ type, device }) => ({ type, loop: device.startsWith('7:') }));

  it.each<[MountDriver, boolean]>([
    ['erofs-file', false],
    ['erofs-loop', true],
  ])('%s shows the tree of the truth, read-only', async (driver, loop) => {
    expect(await mountErofs({ bootstrap, devices, target }, { driver })).toEqual({ driver });
    expect(mounted()).toEqual([{ type: 'erofs', loop }]);
    await expectTruth();
    expect(() => writeFileSync(join(target, 'new'), '')).toThrow('EROFS');
    expect(await unmount(target)).toBe(true);
    expect(mounted()).toEqual([]);
  });

  it.each<[rights: { suid?: boolean; dev?: boolean }, flags: string[]]>([
    [{}, ['nosuid', 'nodev']],
    [{ suid: true }, ['nodev']],
    [{ dev: true }, ['nosuid']],
    [{ suid: true, dev: true }, []],
  ])('%j: setuid programs and device nodes work only when that was asked for', async (rights, flags) => {
    await mountErofs({ bootstrap, devices, target }, rights);
    const row = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .find((line) => line.split(' ')[4] === target)!;
    const set = row.split(' ')[5]!.split(',');
    expect(set.filter((flag) => flag.startsWith('no') && flag !== 'noatime')).toEqual(flags);
    expect(set).toContain('ro');
  });

  it.each<MountDriver>(['erofs-file', 'erofs-loop'])('%s takes several devices in their order', async (driver) => {
    const several = join(dir, `several-${driver}`);
    mkdirSync(several);
    const files = writeDevices('merged', several);
    expect(files.length).toBeGreaterThan(1);
    await mountErofs({ bootstrap: fixture('rafs/merged/bootstrap'), devices: files, target }, { driver });
    await expectTruth('tame-mini');
  });

  describe('on an overlay', () => {
    const merged = join(dir, 'merged');
    beforeAll(async () => {
      for (const name of ['merged', 'lower', 'upper', 'work']) mkdirSync(join(dir, name));
      const options = ['lower', 'upper', 'work'].map((name) => `${name}dir=${join(dir, name)}`);
      await addon().mount({
        fstype: 'overlay',
        source: 'overlay',
        target: merged,
        options,
        readonly: false,
        nosuid: true,
        nodev: true,
      });
      copyFileSync(bootstrap, join(merged, 'bootstrap'));
      copyFileSync(devices[0]!, join(merged, 'device'));
    });

    it('falls back to loop devices where the kernel refuses the bootstrap there', async () => {
      const request = { bootstrap: join(merged, 'bootstrap'), devices, target };
      const { driver } = await mountErofs(request);
      await expectTruth();
      await unmount(target);
      const byFile = await mountErofs(request, { driver: 'erofs-file' }).catch((error: unknown) => error);
      // A kernel that takes such a file is welcome; the one that this was written on says ENOTBLK.
      if (driver === 'erofs-file') expect(byFile).toEqual({ driver });
      else expect(byFile).toMatchObject({ code: 'SYSTEM', op: 'mount EROFS', subject: request.bootstrap });
    });

    it('mounts also when only the device lies there', async () => {
      await mountErofs({ bootstrap, devices: [join(merged, 'device')], target });
      await expectTruth();
    });
  });

  it('uses loop devices where a path is too long for a mount option', async () => {
    const long = join(dir, 'l'.repeat(200), 'm'.repeat(100));
    mkdirSync(long, { recursive: true });
    copyFileSync(bootstrap, join(long, 'bootstrap'));
    copyFileSync(devices[0]!, join(long, 'device'));
    await mountErofs({ bootstrap: join(long, 'bootstrap'), devices: [join(long, 'device')], target });
    expect(mounted()).toEqual([{ type: 'erofs', loop: true }]);
    await expectTruth();
  });

  it('takes relative paths and paths with commas, spaces and equals signs', async () => {
    const odd = join(dir, 'a, b=c');
    mkdirSync(odd);
    copyFileSync(devices[0]!, join(odd, 'device,=x'));
    await mountErofs({ bootstrap: join(odd, '..', 'bootstrap'), devices: [join(odd, 'device,=x')], target });
    await expectTruth();
  });

  it.each([
    ['a bootstrap that is none', { bootstrap: '/etc/passwd' }, { code: 'SYSTEM', subject: '/etc/passwd' }],
    ['a bootstrap that is not there', { bootstrap: '/no/bootstrap' }, { code: 'NOT_FOUND' }],
    ['a device that is not there', { devices: ['/no/device'] }, { code: 'NOT_FOUND' }],
    ['a target that is not there', { target: '/no/target' }, { code: 'NOT_FOUND' }],
    ['a device that is a directory', { devices: ['/etc'] }, { code: 'SYSTEM' }],
  ])('refuses %s, and leaves no loop device', async (_, change, error) => {
    await expect(mountErofs({ bootstrap, devices, target, ...change })).rejects.toMatchObject(error);
    expect(mounted()).toEqual([]);
  });

  it('unmount retries a busy mount, then fails; detaching it succeeds at once', async () => {
    await mountErofs({ bootstrap, devices, target });
    const user = spawn('sleep', ['60'], { cwd: target, stdio: 'ignore' });
    try {
      await expect(unmount(target, { patience: 100 })).rejects.toMatchObject({ code: 'PRECONDITION', subject: target });
      setTimeout(() => user.kill(), 300);
      expect(await unmount(target)).toBe(true);
      expect(await unmount(target)).toBe(false);
      expect(await unmount('/no/such/folder')).toBe(false);
    } finally {
      user.kill();
    }
    await mountErofs({ bootstrap, devices, target });
    const file = openSync(join(target, '.'), 'r');
    expect(await unmount(target, { detach: true })).toBe(true);
    expect(mounted()).toEqual([]);
    closeSync(file);
  });

  it('untilUnmounted follows a link, and ends with the mount or the signal', async () => {
    const link = join(dir, 'link');
    symlinkSync(target, link);
    await mountErofs({ bootstrap, devices, target: link });
    await expect(untilUnmounted(link, AbortSignal.timeout(300))).rejects.toMatchObject({ name: 'AbortError' });
    const gone = untilUnmounted(link, AbortSignal.timeout(10_000));
    await umount(link);
    await gone;
  });

  it('umount refuses a mount that is not an image', async () => {
    const plain = join(dir, 'tmpfs');
    mkdirSync(plain);
    await addon().mount({
      fstype: 'tmpfs',
      source: 'tmpfs',
      target: plain,
      options: [],
      readonly: false,
      nosuid: true,
      nodev: true,
    });
    await expect(umount(plain)).rejects.toMatchObject({ code: 'NOT_FOUND', message: expect.stringContaining('tmpfs') });
    await expect(umount(dir)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(umount('/no/such/folder')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(mountsBelow(plain)).toHaveLength(1);
  });

  it('doctor finds both ways, on this file system and on an overlay', { timeout: 60_000 }, async () => {
    const find = (rows: Awaited<ReturnType<typeof doctor>>['rows'], name: string) =>
      rows.find((row) => row.name === name)?.status;
    const here = await doctor({ folder: dir });
    expect(find(here.rows, 'erofs by file')).toBe('ok');
    expect(find(here.rows, 'erofs over loop')).toBe('ok');
    const there = await doctor({ folder: join(dir, 'merged') });
    expect(find(there.rows, 'erofs over loop')).toBe('ok');
    // An overlay's upper directory must not lie on an overlay.
    expect(find(there.rows, 'overlay')).toBe('refused');
    expect(there.ok).toBe(false);
    expect(mountsBelow(dir).map((mount) => mount.target)).toEqual([join(dir, 'tmpfs'), join(dir, 'merged')]);
  });
});
