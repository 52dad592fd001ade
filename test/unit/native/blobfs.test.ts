/** Blob devices over a real FUSE mount, read by other processes: bytes, waiting, sharing, failing. */
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Chunk, encodeTable } from '../../../src/blob/table.ts';
import { run, start } from '../../kit/process.ts';
import { needs } from '../../kit/skip.ts';
import { BlobFsFixture, identity, makeBlob, sha256, storedChunk } from './blobfs-fixture.ts';

const skip = needs('linux', 'root', 'fuse', 'addon', 'holder', 'python3');
const K = 1024;

/** Waits until `condition` holds; the test's own time limit ends it otherwise. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(5);
}

/** A table of one's own making. */
const tableOf = (size: number, chunks: Chunk[]): { size: number; table: Buffer; chunks: Chunk[] } => ({
  size,
  table: encodeTable(chunks),
  chunks,
});

describe.skipIf(skip.reason)('blob devices', () => {
  let room: BlobFsFixture;
  beforeEach(() => {
    room = new BlobFsFixture();
  });
  afterEach(() => room.remove());

  test('chunks, gaps and tails read as the truth, whatever is asked first', async () => {
    const blob = await makeBlob(3, [128 * K, -20_000, 1, 4096, -4096, 300_001, 7, 64 * K, -8192]);
    const { fs, misses } = await room.serve({ dev: blob });
    const at = blob.chunks[2]!.uncompressedOffset;
    expect(await room.range('dev', at - 100, 5000)).toBe(`${sha256(blob.truth.subarray(at - 100, at + 4900))} 5000`);
    expect(misses.map(({ chunks }) => chunks)).toEqual([[2]]);
    expect(await room.hash('dev')).toBe(sha256(blob.truth));
    expect(misses.flatMap(({ chunks }) => chunks).sort()).toEqual([0, 1, 2, 3, 4, 5]);
    const before = fs.counters();
    expect(await room.hash('dev')).toBe(sha256(blob.truth));
    const after = fs.counters();
    expect(after).toMatchObject({ misses: before.misses, waiting: 0, errors: 0, takenOver: false, connected: true });
    expect(after.hits).toBeGreaterThan(before.hits);
    expect(after.readBytes - before.readBytes).toBe(blob.size);
  });

  test('the end of the device is the end of the file', async () => {
    const blob = await makeBlob(5, [5000]);
    await room.serve({ dev: blob });
    const empty = sha256(Buffer.alloc(0));
    expect(await room.range('dev', 4000, 100_000)).toBe(`${sha256(blob.truth.subarray(4000))} 4192`);
    expect(await room.range('dev', 8192, 10)).toBe(`${empty} 0`);
    expect(await room.range('dev', 2 ** 45, 10)).toBe(`${empty} 0`);
  });

  test.each([
    ['raw, BLAKE3', 0, 0],
    ['zstd, SHA-256', 1, 3],
  ] as const)('%s', async (_, digester, compressor) => {
    const blob = await makeBlob(7, [compressor === 0 ? 10 : 100_000], digester);
    expect(blob.chunks[0]).toMatchObject({ digester, compressor });
    await room.serve({ dev: blob });
    expect(await room.hash('dev')).toBe(sha256(blob.truth));
  });

  test('a chunk is asked for once, however many wait for it, and all get it', async () => {
    const blob = await makeBlob(11, [128 * K, 128 * K, 128 * K, 128 * K]);
    const { fs, misses } = await room.open();
    const device = room.add(fs, 'dev', blob);
    fs.ready();
    const reads = [0, 1, 2, 3].map(() => room.range('dev', 0, blob.size));
    const asked = () => misses.flatMap(({ chunks }) => chunks);
    await until(() => asked().length === 4);
    await until(() => fs.counters().waiting >= 4);
    await sleep(50);
    expect(asked().sort()).toEqual([0, 1, 2, 3]);
    expect([...fs.missing(device, 0, 100)]).toEqual([0, 1, 2, 3]);
    expect([...fs.missing(device, 2, 1)]).toEqual([2]);
    for (const chunk of [3, 1, 0]) await fs.deliver(device, chunk, storedChunk(blob, chunk));
    expect([...fs.missing(device, 0, 100)]).toEqual([2]);
    await fs.deliver(device, 2, storedChunk(blob, 2));
    expect(await Promise.all(reads)).toEqual(Array(4).fill(`${sha256(blob.truth)} ${blob.size}`));
    expect(asked().length).toBe(4);
    // Again: accepted and ignored.
    await fs.deliver(device, 2, storedChunk(blob, 2));
    expect(fs.counters()).toMatchObject({ delivered: 4, waiting: 0 });
  });

  test('what does not decode to its digest is never served', async () => {
    const blob = await makeBlob(13, [128 * K]);
    const other = await makeBlob(17, [128 * K]);
    const { fs, misses } = await room.open();
    const device = room.add(fs, 'dev', blob);
    fs.ready();
    const read = room.hash('dev');
    await until(() => misses.length === 1);
    const right = storedChunk(blob, 0);
    const flipped = Buffer.from(right);
    flipped[right.length >>> 1]! ^= 1;
    await expect(fs.deliver(device, 0, flipped)).rejects.toThrow(/digest|zstd/);
    await expect(fs.deliver(device, 0, right.subarray(1))).rejects.toMatchObject({ code: 'FORMAT' });
    await expect(fs.deliver(device, 0, Buffer.alloc(right.length))).rejects.toMatchObject({ code: 'FORMAT' });
    // Well formed, but other content: only the digest tells.
    const lie = { ...blob.chunks[0]!, digest: other.chunks[0]!.digest };
    const liar = room.add(fs, 'liar', tableOf(blob.size, [lie]));
    await expect(fs.deliver(liar, 0, right)).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
    await sleep(20);
    expect(fs.counters()).toMatchObject({ digestFailures: 4, delivered: 0, waiting: 1 });
    await fs.deliver(device, 0, right);
    expect(await read).toBe(sha256(blob.truth));
  });

  test('a failed chunk fails its readers and can be asked for again', async () => {
    const blob = await makeBlob(19, [128 * K, 128 * K]);
    const { fs, misses } = await room.open();
    const device = room.add(fs, 'dev', blob);
    fs.ready();
    const read = run('dd', [`if=${room.path('dev')}`, 'bs=256K', 'count=1', 'of=/dev/null']);
    const failed = expect(read).rejects.toThrow('Input/output error');
    await until(() => misses.length === 1);
    expect(misses[0]).toEqual({ device, chunks: [0, 1] });
    fs.fail(device, [1], 5);
    await failed;
    // Chunk 0 was asked for and still is: only the failed one is asked for again.
    const again = room.range('dev', 0, blob.size);
    await until(() => misses.length === 2);
    expect(misses[1]).toEqual({ device, chunks: [1] });
    await fs.deliver(device, 0, storedChunk(blob, 0));
    await fs.deliver(device, 1, storedChunk(blob, 1));
    expect(await again).toBe(`${sha256(blob.truth)} ${blob.size}`);
    expect(() => fs.fail(device, [0], 0)).toThrow('errno');
  });

  test('devices of one blob share its chunks; another record for the same place is another chunk', async () => {
    const blob = await makeBlob(23, [128 * K, 4096, 200_000]);
    const other = await makeBlob(29, [128 * K, 4096, 200_000]);
    // Says that the place of blob's second and third chunk holds what `other` has.
    const mixed = {
      ...other,
      ...tableOf(blob.size, [blob.chunks[0]!, other.chunks[1]!, other.chunks[2]!]),
      truth: Buffer.concat([blob.truth.subarray(0, 128 * K), other.truth.subarray(128 * K)]),
    };
    const { fs, misses } = await room.open(async (fs, { device, chunks }) => {
      for (const chunk of chunks)
        await fs.deliver(device, chunk, storedChunk(device === b && chunk > 0 ? other : blob, chunk));
    });
    const a = room.add(fs, 'a', blob);
    const b = room.add(fs, 'b', mixed);
    const twin = room.add(fs, 'twin', blob);
    fs.ready();
    const asked = (device: number) => misses.filter((miss) => miss.device === device).flatMap(({ chunks }) => chunks);
    expect(await room.hash('a')).toBe(sha256(blob.truth));
    expect(await room.hash('b')).toBe(sha256(mixed.truth));
    expect(await room.hash('twin')).toBe(sha256(blob.truth));
    expect(await room.hash('a')).toBe(sha256(blob.truth));
    expect(asked(a).sort()).toEqual([0, 1, 2]);
    expect(asked(b).sort()).toEqual([1, 2]);
    expect(asked(twin)).toEqual([]);
    // Both stores are found again.
    await room.closeAll();
    const later = await room.open();
    for (const [name, of] of Object.entries({ b: mixed, a: blob })) {
      const device = room.add(later.fs, name, of);
      expect([...later.fs.missing(device, 0, 3)]).toEqual([]);
    }
    later.fs.ready();
    expect(await room.hash('a')).toBe(sha256(blob.truth));
    expect(await room.hash('b')).toBe(sha256(mixed.truth));
    expect(later.fs.counters()).toMatchObject({ misses: 0, takenOver: true });
  });

  test('a liar that comes first does not change what others read', async () => {
    const blob = await makeBlob(31, [128 * K, 128 * K]);
    const lies = await makeBlob(37, [256 * K]);
    const { devices } = await room.serve({ liar: lies, honest: blob });
    expect(devices.length).toBe(2);
    expect(await room.hash('liar')).toBe(sha256(lies.truth));
    expect(await room.hash('honest')).toBe(sha256(blob.truth));
    expect(await room.hash('liar')).toBe(sha256(lies.truth));
  });

  test('each device is asked, and goes on waiting when another one gives up; one delivery serves all', async () => {
    const blob = await makeBlob(41, [64 * K]);
    const { fs, misses } = await room.open();
    const [a, b, c] = [room.add(fs, 'a', blob), room.add(fs, 'b', blob), room.add(fs, 'c', blob)];
    fs.ready();
    const failing = [expect(room.hash('a')).rejects.toThrow('Input/output error')];
    await until(() => misses.length === 1);
    failing.push(expect(room.hash('b')).rejects.toThrow('Input/output error'));
    await until(() => fs.counters().waiting === 2);
    const read = room.hash('c');
    await until(() => fs.counters().waiting === 3 && misses.length === 3);
    expect(misses).toEqual([a, b, c].map((device) => ({ device, chunks: [0] })));
    fs.fail(a, [0], 5);
    expect(fs.counters().waiting).toBe(2);
    fs.removeDevice(b);
    expect(fs.counters().waiting).toBe(1);
    expect(misses.length).toBe(3);
    await fs.deliver(c, 0, storedChunk(blob, 0));
    expect(await read).toBe(sha256(blob.truth));
    await Promise.all(failing);
    expect(() => fs.removeDevice(b)).toThrow(expect.objectContaining({ code: 'NOT_FOUND' }));
    await expect(fs.deliver(b, 0, storedChunk(blob, 0))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test('until ready, unknown devices are waited for; afterwards they do not exist', async () => {
    const [blob, late] = [await makeBlob(43, [9000]), await makeBlob(47, [9000])];
    const { fs } = await room.open(async (fs, { device, chunks }) => {
      for (const chunk of chunks) await fs.deliver(device, chunk, storedChunk(device === 1 ? blob : late, chunk));
    });
    const early = room.hash('early');
    const never = expect(room.hash('never')).rejects.toThrow('No such file');
    await sleep(200);
    room.add(fs, 'early', blob);
    expect(await early).toBe(sha256(blob.truth));
    room.add(fs, 'late', late);
    fs.ready();
    await never;
    expect(await room.hash('late')).toBe(sha256(late.truth));
    await expect(room.hash('never')).rejects.toThrow('No such file');
  });

  test('a reader that waits can be killed, and so can one that waits for a device', async () => {
    const blob = await makeBlob(53, [64 * K]);
    const { fs } = await room.open();
    const device = room.add(fs, 'dev', blob);
    const readers = ['dev', 'unknown'].map((name) => start('cat', [room.path(name)]));
    await until(() => fs.counters().waiting === 1);
    await sleep(100);
    await Promise.all(
      readers.map(async ({ child }) => {
        child.kill('SIGTERM');
        expect(await once(child, 'exit')).toEqual([null, 'SIGTERM']);
      }),
    );
    await until(() => fs.counters().waiting === 0);
    // Its chunk is still wanted of us, and whoever comes next joins.
    const next = room.hash('dev');
    await until(() => fs.counters().waiting === 1);
    await fs.deliver(device, 0, storedChunk(blob, 0));
    expect(await next).toBe(sha256(blob.truth));
    expect(fs.counters().errors).toBe(0);
  });

  test('reads from the cache do not need the JavaScript thread', async () => {
    const blob = await makeBlob(59, Array(64).fill(128 * K));
    const { fs } = await room.serve({ dev: blob });
    expect(await room.hash('dev')).toBe(sha256(blob.truth));
    const done = join(room.dir, 'done');
    const script = 'sleep 0.3; for i in 1 2 3; do sha256sum "$1"; done > "$2.out"; date +%s%3N > "$2"';
    const reader = start('sh', ['-c', script, 'sh', room.path('dev'), done]);
    const ended = once(reader.child, 'exit');
    await sleep(50);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3000);
    const unblocked = Date.now();
    await ended;
    expect(Number(readFileSync(done, 'utf8'))).toBeLessThan(unblocked - 500);
    expect(readFileSync(`${done}.out`, 'utf8').match(/[0-9a-f]{64}/g)).toEqual(Array(3).fill(sha256(blob.truth)));
    expect(fs.counters().errors).toBe(0);
  });

  test('under random reads with late, wrong and failing deliveries nobody ever reads a wrong byte', async () => {
    const sizes = Array.from({ length: 60 }, (_, n) => [4096, 100_000, -5000, 1, 70_001, 128 * K][n % 6]!);
    const blobs = [await makeBlob(67, sizes), await makeBlob(71, sizes)];
    let dice = 1;
    const roll = (sides: number): number => {
      dice = (dice * 48271) % 2147483647;
      return dice % sides;
    };
    const { fs } = await room.open(async (fs, { device, chunks }) => {
      const [right, wrong] = device === 2 ? [blobs[1]!, blobs[0]!] : [blobs[0]!, blobs[1]!];
      for (const chunk of chunks.sort(() => roll(3) - 1)) {
        await sleep(roll(4));
        if (roll(3) === 0) await fs.deliver(device, chunk, storedChunk(wrong, chunk)).catch(() => {});
        if (roll(5) === 0) fs.fail(device, [chunk], 5);
        else await fs.deliver(device, chunk, storedChunk(right, chunk));
      }
    });
    for (const [index, name] of ['a', 'other', 'twin'].entries()) room.add(fs, name, blobs[index % 2]!);
    fs.ready();
    const script = `
import hashlib, os, random, sys
truth = open(sys.argv[2], 'rb').read()
file = os.open(sys.argv[1], os.O_RDONLY)
random.seed(int(sys.argv[3]))
good = bad = 0
for _ in range(300):
    at = random.randrange(len(truth)); size = random.randrange(1, 600000)
    try: got = os.pread(file, size, at)
    except OSError as error:
        assert error.errno == 5, error
        bad += 1
        continue
    assert got == truth[at:at + size], (at, size, len(got))
    good += 1
print(good, bad)`;
    const readers = ['a', 'other', 'twin', 'a', 'other'].map(async (name, seed) => {
      const truth = join(room.dir, `truth-${seed}`);
      writeFileSync(truth, blobs[name === 'other' ? 1 : 0]!.truth);
      return (await run('python3', ['-c', script, room.path(name), truth, `${seed}`])).stdout.trim();
    });
    const results = (await Promise.all(readers)).map((line) => line.split(' ').map(Number));
    for (const [good, bad] of results) expect(good! + bad!).toBe(300);
    expect(results.map(([good]) => good!).reduce((a, b) => a + b)).toBeGreaterThan(1000);
    const { waiting, digestFailures, errors } = fs.counters();
    expect(waiting).toBe(0);
    expect(digestFailures).toBeGreaterThan(0);
    expect(errors).toBeGreaterThan(0);
    for (const [index, name] of ['a', 'other', 'twin'].entries()) {
      while ((await room.hash(name).catch(() => 'again')) !== sha256(blobs[index % 2]!.truth));
    }
  });

  test('a listing shows every device once, and nothing can be changed', async () => {
    const { fs } = await room.open();
    const names = Array.from({ length: 1000 }, (_, n) => `device-${n}-${'x'.repeat(n % 200)}`);
    const stores = room.stores('any');
    const handles = names.map((name) =>
      fs.addDevice({ ...identity(name), size: 4096, table: Buffer.alloc(0), units: null, ...stores }),
    );
    fs.ready();
    const list = async () => (await run('ls', ['-U', room.mountpoint])).stdout.trimEnd().split('\n');
    expect((await list()).sort()).toEqual([...names].sort());
    for (const handle of handles.slice(0, 999)) fs.removeDevice(handle);
    expect(await list()).toEqual([names[999]]);
    const file = room.path(names[999]!);
    expect((await run('stat', ['-c', '%s %a %U %F', file])).stdout).toBe('4096 400 root regular file\n');
    for (const [command, ...args] of [
      ['touch', room.path('new')],
      ['rm', file],
      ['mkdir', room.path('dir')],
      ['truncate', '-s0', file],
      ['chmod', '777', file],
      ['mount', '-o', 'remount,rw', room.mountpoint, '--verbose'],
      ['touch', room.path('new')],
      ['rm', file],
      ['dd', 'if=/dev/zero', `of=${file}`, 'conv=notrunc'],
    ] as const) {
      if (command === 'mount') await run(command, args).catch(() => {});
      else await expect(run(command, args)).rejects.toThrow(/Read-only|Permission|not permitted/);
    }
  });

  test('hostile options are refused', async () => {
    const { fs } = await room.open();
    const blob = await makeBlob(61, [4096]);
    const stores = room.stores('dev');
    const add = (change: object) => () =>
      fs.addDevice({ ...identity('dev'), ...blob, units: null, ...stores, ...change });
    expect(add({ name: '../x' })).toThrow(expect.objectContaining({ code: 'USAGE' }));
    expect(add({ name: '' })).toThrow(expect.objectContaining({ code: 'USAGE' }));
    expect(add({ name: '..' })).toThrow(expect.objectContaining({ code: 'USAGE' }));
    expect(add({ node: 2 })).toThrow(expect.objectContaining({ code: 'USAGE' }));
    expect(add({ size: 4095 })).toThrow(expect.objectContaining({ code: 'USAGE' }));
    expect(add({ size: -1 })).toThrow(expect.objectContaining({ code: 'USAGE' }));
    expect(add({ size: 2 ** 60 })).toThrow(expect.objectContaining({ code: 'USAGE' }));
    expect(add({ size: 0 })).toThrow(expect.objectContaining({ code: 'FORMAT' }));
    expect(add({ table: blob.table.subarray(1) })).toThrow(expect.objectContaining({ code: 'FORMAT' }));
    expect(add({ sharedDir: '/no/such' })).toThrow(expect.objectContaining({ code: 'NOT_FOUND' }));
    const device = add({})();
    for (const change of [{}, { name: 'other' }, { node: 77 }]) {
      expect(add(change)).toThrow(expect.objectContaining({ code: 'PRECONDITION' }));
    }
    await expect(fs.deliver(device, 1, Buffer.alloc(1))).rejects.toMatchObject({ code: 'USAGE' });
    await expect(fs.deliver(device, -1, Buffer.alloc(1))).rejects.toMatchObject({ code: 'USAGE' });
    await expect(fs.deliver(99, 0, Buffer.alloc(1))).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect([...fs.missing(device, 0, 2 ** 32 - 1)]).toEqual([0]);
    expect([...fs.missing(device, 5, 1)]).toEqual([]);
    await room.closeAll();
    expect(add({})).toThrow(expect.objectContaining({ code: 'ABORTED' }));
    await fs.close();
  });
});
