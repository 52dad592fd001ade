/** What is in a store and what happens to it: other boots, damage, a full disk, removal. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, openSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { run } from '../../kit/process.ts';
import { needs } from '../../kit/skip.ts';
import { BlobFsFixture, makeBlob, sha256 } from './blobfs-fixture.ts';

const skip = needs('linux', 'root', 'fuse', 'addon', 'holder');
const K = 1024;

describe.skipIf(skip.reason)('the cache', () => {
  let room: BlobFsFixture;
  beforeEach(() => {
    room = new BlobFsFixture();
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    await room.remove();
  });

  function boot(last: number): void {
    vi.stubEnv('LACUNA_TEST_HOOKS', '1');
    vi.stubEnv('LACUNA_TEST_BOOT_ID', `00000000-0000-4000-8000-00000000000${last}`);
  }

  /** Overwrites bytes of the shared data file behind everybody's back, as a power cut does. */
  function damage(at: number, length: number): void {
    const file = openSync(join(room.dir, 'shared/data'), 'r+');
    writeSync(file, Buffer.alloc(length), 0, length, at);
  }

  test('after a reboot every chunk is verified on first use, a damaged one is fetched again', async () => {
    const blob = await makeBlob(3, [128 * K, 128 * K, 128 * K]);
    boot(1);
    await room.serve({ dev: blob });
    expect(await room.hash('dev')).toBe(sha256(blob.truth));
    await room.closeAll();
    damage(200 * K, 100);

    boot(2);
    const second = await room.serve({ dev: blob });
    // Planning sees nothing missing: what an earlier boot left is expected to be right.
    expect([...second.fs.missing(second.devices[0]!, 0, 3)]).toEqual([]);
    expect(await room.hash('dev')).toBe(sha256(blob.truth));
    expect(second.misses.flatMap(({ chunks }) => chunks)).toEqual([1]);
    expect(second.fs.counters()).toMatchObject({ reverified: 3, delivered: 1, errors: 0 });
    await room.closeAll();

    const third = await room.serve({ dev: blob });
    expect(await room.hash('dev')).toBe(sha256(blob.truth));
    expect(third.misses).toEqual([]);
    expect(third.fs.counters().reverified).toBe(0);
  });

  test('a map whose tail is torn loses only the tail', async () => {
    const blob = await makeBlob(5, [128 * K, 128 * K, 128 * K]);
    await room.serve({ dev: blob });
    expect(await room.hash('dev')).toBe(sha256(blob.truth));
    await room.closeAll();
    const map = join(room.dir, 'shared/map');
    expect(statSync(map).size).toBe(32 + 3 * 64);
    truncateSync(map, 32 + 2 * 64 + 63);
    const again = await room.serve({ dev: blob });
    expect(await room.hash('dev')).toBe(sha256(blob.truth));
    expect(again.misses.flatMap(({ chunks }) => chunks).length).toBe(1);
    expect(statSync(map).size).toBe(32 + 3 * 64);
  });

  test.each(['map', 'data'])('without its %s file a store is empty', async (file) => {
    const blob = await makeBlob(7, [128 * K, 5000]);
    await room.serve({ dev: blob });
    expect(await room.hash('dev')).toBe(sha256(blob.truth));
    await room.closeAll();
    rmSync(join(room.dir, 'shared', file));
    const again = await room.serve({ dev: blob });
    expect(await room.hash('dev')).toBe(sha256(blob.truth));
    expect(again.misses.flatMap(({ chunks }) => chunks)).toEqual([0, 1]);
  });

  test('a truncated data file is noticed by who reads it, and fetched again by the next', async () => {
    const blob = await makeBlob(9, [128 * K]);
    const { fs } = await room.serve({ dev: blob });
    expect(await room.hash('dev')).toBe(sha256(blob.truth));
    truncateSync(join(room.dir, 'shared/data'), 4096);
    await expect(room.hash('dev')).rejects.toThrow('Input/output error');
    expect(await room.hash('dev')).toBe(sha256(blob.truth));
    expect(fs.counters()).toMatchObject({ errors: 1, delivered: 2 });
  });

  test('a full disk: readers are served from memory', async () => {
    const blob = await makeBlob(11, Array(8).fill(128 * K));
    mkdirSync(join(room.dir, 'small'));
    spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=400K', 'small', join(room.dir, 'small')]);
    const { fs, misses } = await room.serve({ dev: blob }, 'small');
    for (let round = 0; round < 2; round += 1) expect(await room.hash('dev')).toBe(sha256(blob.truth));
    const { storeErrors, errors, digestFailures } = fs.counters();
    expect({ errors, digestFailures }).toEqual({ errors: 0, digestFailures: 0 });
    expect(storeErrors).toBeGreaterThan(0);
    // Some was kept, the rest was asked for again.
    expect(misses.length).toBeGreaterThan(8);
    expect([...fs.missing(1, 0, 8)].length).toBeLessThan(8);
    // BlobFsFixture again: it is kept again.
    await run('mount', ['-o', 'remount,size=4M', join(room.dir, 'small')]);
    expect(await room.hash('dev')).toBe(sha256(blob.truth));
    expect([...fs.missing(1, 0, 8)]).toEqual([]);
  });

  test('a removed device leaves a store that can be deleted and begun again', async () => {
    const blob = await makeBlob(13, [128 * K]);
    const { fs, devices, misses } = await room.serve({ dev: blob });
    expect(await room.hash('dev')).toBe(sha256(blob.truth));
    fs.removeDevice(devices[0]!);
    rmSync(join(room.dir, 'shared'), { recursive: true });
    const again = room.add(fs, 'again', blob);
    expect([...fs.missing(again, 0, 1)]).toEqual([0]);
    expect(misses.length).toBe(1);
    // The second of two devices does not resurrect what was deleted below the first.
    rmSync(join(room.dir, 'shared'), { recursive: true });
    const third = room.add(fs, 'third', blob);
    expect(readFileSync(join(room.dir, 'shared/map')).length).toBe(32);
    expect([...fs.missing(third, 0, 1)]).toEqual([0]);
  });

  test('garbage beside the data is no map', async () => {
    const blob = await makeBlob(15, [5000]);
    const { sharedDir } = room.stores('dev');
    writeFileSync(join(sharedDir, 'map'), Buffer.alloc(100_000, 0xa5));
    writeFileSync(join(sharedDir, 'data'), Buffer.alloc(100_000, 0x5a));
    await room.serve({ dev: blob });
    expect(await room.hash('dev')).toBe(sha256(blob.truth));
  });
});
