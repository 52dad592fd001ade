/** What a container, or whoever has a descriptor of its files, can do while the snapshotter counts or deletes them. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Snapshots } from '../../src/grpc/messages/snapshots.gen.ts';
import { type UnixChannel, type UnixServer, unixChannel, unixServer } from '../../src/grpc/unix.ts';
import { silentLog } from '../../src/observe/log.ts';
import { serveSnapshots, snapshotsService } from '../../src/snapshotter/service.ts';
import { Snapshotter } from '../../src/snapshotter/snapshotter.ts';
import { memoryFolder } from '../kit/memory.ts';
import { needs } from '../kit/skip.ts';

const skip = needs('linux', 'addon', 'better-sqlite3', 'python3');

/** Directories inside each other until the path has more bytes than the kernel takes, with a file at the end. */
const NEST = `
import os, sys
os.chdir(sys.argv[1])
for i in range(60): os.mkdir('d' * 200); os.chdir('d' * 200)
open('file', 'wb').write(b'x' * 100000)
`;

/** Exchanges `d` and `l` in the directory of the last line on standard input, as fast as it can. */
const EXCHANGE = `
import ctypes, os, sys, threading
libc = ctypes.CDLL(None)
top = b'/none'
def listen():
    global top
    for line in sys.stdin.buffer: top = line.strip()
    os._exit(0)
threading.Thread(target=listen).start()
print('ready', flush=True)
while True: libc.renameat2(-100, top + b'/d', -100, top + b'/l', 2)
`;

async function startExchanging(): Promise<ChildProcess> {
  const racer = spawn('python3', ['-c', EXCHANGE], { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(racer.stdout, 'data');
  return racer;
}

const NAMES = Array.from({ length: 40 }, (_, i) => `file${i}`);

describe.skipIf(skip.reason)('files of a container', () => {
  let root: string;
  let snapshotter: Snapshotter;
  let server: UnixServer;
  let client: UnixChannel<Snapshots>;

  const start = async (): Promise<void> => {
    const nothing = async () => {};
    const asked = { assertPulled: none, fetch: none, adopt: none, ensureMounted: none };
    const images = { ...asked, remove: nothing, cleanup: nothing };
    snapshotter = await Snapshotter.open({ folder: join(root, 's'), images, log: silentLog });
    server = await unixServer(join(root, 's.sock'), [serveSnapshots(snapshotter)]);
    client = unixChannel(join(root, 's.sock'), snapshotsService());
  };
  const stop = async (): Promise<void> => {
    client.close();
    await server.close(0);
    snapshotter.close();
  };
  beforeEach(async () => {
    root = memoryFolder('lacuna-trees-');
    await start();
  });
  afterEach(async () => {
    await stop();
    execFileSync('rm', ['-rf', root]);
  });

  const none = (): Promise<never> => Promise.reject(new Error('no lazy images here'));
  const prepare = async (key: string): Promise<string> =>
    (await client.call('Prepare', { key, parent: '', labels: {} })).mounts[0]!.source;
  const usage = (key: string) => client.call('Usage', { key });
  const left = (): string[] => readdirSync(join(root, 's', 'snapshots'));

  test('may be deeper than any path: they are counted, committed and deleted', async () => {
    const files = await prepare('deep');
    execFileSync('python3', ['-c', NEST, files]);
    const { size, inodes } = await usage('deep');
    expect(inodes).toBe(62);
    expect(size).toBeGreaterThan(100_000);
    await client.call('Commit', { name: 'layer', key: 'deep', labels: {} });
    expect(await usage('layer')).toEqual({ size, inodes });
    await client.call('Remove', { key: 'layer' });
    expect(left()).toEqual([]);
  });

  test('are exchanged for links while they are deleted: nothing outside is', async () => {
    const outside = join(root, 'outside');
    mkdirSync(outside);
    for (const name of NAMES) writeFileSync(join(outside, name), '');
    const racer = await startExchanging();
    try {
      for (let round = 0; round < 300; round++) {
        const files = await prepare('c');
        mkdirSync(join(files, 'd'));
        for (const name of NAMES) writeFileSync(join(files, 'd', name), '');
        symlinkSync(outside, join(files, 'l'));
        racer.stdin!.write(`${files}\n`);
        await client.call('Remove', { key: 'c' });
        expect(readdirSync(outside).length, `round ${round}`).toBe(NAMES.length);
      }
    } finally {
      racer.kill();
    }
    await client.call('Cleanup', {});
    expect(left()).toEqual([]);
  });

  describe('in one directory of very many names', () => {
    beforeEach(async () => {
      const many = join(await prepare('many'), 'many');
      mkdirSync(many);
      for (let i = 0; i < 100_000; i++) {
        // A file may have 65 000 names.
        if (i % 50_000 === 0) writeFileSync(join(many, `${i}`), '');
        else linkSync(join(many, `${i - (i % 50_000)}`), join(many, `${i}`));
      }
    });

    /** Calls that were answered while `work` was under way. */
    const answeredDuring = async (work: Promise<unknown>): Promise<number> => {
      let answered = 0;
      let over = false;
      const ended = work.finally(() => (over = true));
      for (; !over; answered++) await client.call('Stat', { key: 'other' });
      await ended;
      return answered;
    };

    test('let others be served while they are counted and deleted', async () => {
      await prepare('other');
      expect(await answeredDuring(usage('many'))).toBeGreaterThan(3);
      expect(await usage('many')).toMatchObject({ inodes: 4 });
      expect(await answeredDuring(client.call('Remove', { key: 'many' }))).toBeGreaterThan(3);
    });

    test('do not delay the start of a snapshotter that deletes what its predecessor left', async () => {
      const orphan = join(root, 's', 'snapshots', '99');
      renameSync(join(root, 's', 'snapshots', '1', 'fs'), orphan);
      await stop();
      await start();
      expect(existsSync(orphan)).toBe(true);
      await client.call('Stat', { key: 'many' });
      await vi.waitFor(() => expect(existsSync(orphan)).toBe(false), { timeout: 30_000 });
    });

    test('do not delay the end of a snapshotter', async () => {
      const removed = snapshotter.remove('many');
      snapshotter.close();
      await removed;
      expect(left()).toEqual(['1']);
      await stop();
      await start();
      await vi.waitFor(() => expect(left()).toEqual([]), { timeout: 30_000 });
    });

    test('are counted once for all who ask at the same time', async () => {
      let [threads, over] = [0, false];
      const asked = Promise.all(Array.from({ length: 30 }, () => usage('many'))).finally(() => (over = true));
      for (; !over; await client.call('Stat', { key: 'many' })) threads = Math.max(threads, walkers());
      expect(new Set((await asked).map(({ inodes }) => inodes))).toEqual(new Set([4]));
      expect(threads).toBeLessThanOrEqual(1);
    });
  });
});

/** Threads of this process that walk. */
function walkers(): number {
  const names = readdirSync('/proc/self/task').map((task) => {
    try {
      return readFileSync(`/proc/self/task/${task}/comm`, 'utf8').trim();
    } catch {
      return '';
    }
  });
  return names.filter((name) => name === 'lacuna-aside').length;
}
