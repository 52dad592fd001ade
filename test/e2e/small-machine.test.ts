/** A daemon on a full disk, and one that may open few files: containers go on, and what cannot be is refused in time. */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { connectDaemon } from '../../src/daemon/client.ts';
import { superviseDaemon } from '../../src/daemon/supervise.ts';
import { cleanup } from '../../src/mount/cleanup.ts';
import { addon } from '../../src/native/addon.ts';
import { DaemonFixture, makeFlatImage, noise } from '../kit/daemon-fixture.ts';
import { fixture } from '../kit/layers.ts';
import { unmountBelow } from '../kit/mounts.ts';
import { type Running, start, waitUntil } from '../kit/process.ts';
import { needs } from '../kit/skip.ts';

const skip = needs('root', 'fuse', 'erofs', 'addon', 'holder', 'dist');
const MAIN = fileURLToPath(new URL('../../dist/daemon/main.js', import.meta.url));
const MIB = 1 << 20;

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

describe.skipIf(skip.reason)('a daemon', () => {
  it('that is killed while its disk is full comes back, and serves what is cached and what is not', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'lcs-'));
    const root = join(dir, 'root');
    mkdirSync(root);
    const options = ['size=8m', 'mode=700'];
    await addon().mount({
      ...{ fstype: 'tmpfs', source: 'root', target: root, options },
      ...{ readonly: false, nosuid: true, nodev: true },
    });
    await using room = new DaemonFixture(dir, root, await superviseDaemon(root, { logLevel: 'debug' }));
    const files = { cached: noise(1, MIB), other: noise(2, MIB), third: noise(3, MIB) };
    const image = await makeFlatImage(files, MIB, room.folder('image'));
    const mounted = await room.mount('image', image.bootstrap, [{ directory: { path: image.dir } }]);
    expect(sha256(await readFile(join(mounted, 'cached')))).toBe(sha256(files.cached));

    for (const size of [MIB, 4096, 1]) {
      const fill = () => {
        for (let i = 0; ; i++) writeFileSync(join(root, `filler-${size}-${i}`), Buffer.alloc(size));
      };
      expect(fill).toThrow('ENOSPC');
    }
    const { pid } = await room.client.status();
    process.kill(pid, 'SIGKILL');
    expect(sha256(await readFile(join(mounted, 'other')))).toBe(sha256(files.other));
    expect(sha256(await readFile(join(mounted, 'cached')))).toBe(sha256(files.cached));
    const after = await room.client.status();
    expect(after.pid).not.toBe(pid);
    expect(after.images).toMatchObject([{ id: 'image', problem: '' }]);
    await room.unmount('image');
  });

  it('that is killed while its root is read-only comes back, and attaches nothing until it can write', async () => {
    // Without read-ahead: what is read later is not there yet.
    await using room = await DaemonFixture.start('window = "0B"');
    const { root } = room;
    const files = { cached: noise(1, MIB), other: noise(2, MIB) };
    const image = await makeFlatImage(files, MIB, room.folder('image'));
    const sources = [{ directory: { path: image.dir } }];
    const mounted = await room.mount('image', image.bootstrap, sources);
    expect(sha256(await readFile(join(mounted, 'cached')))).toBe(sha256(files.cached));
    const { pid } = await room.client.status();

    // A second mount over the first one: what has files open for writing keeps no mount of its own from being read-only.
    execFileSync('mount', ['--rbind', root, root]);
    onTestFinished(() => void spawnSync('umount', ['-l', root], { stdio: 'ignore' }));
    execFileSync('mount', ['-o', 'remount,bind,ro', root]);
    expect(() => writeFileSync(join(root, 'new'), '')).toThrow('EROFS');
    process.kill(pid, 'SIGKILL');
    expect(sha256(await readFile(join(mounted, 'other')))).toBe(sha256(files.other));
    expect(sha256(await readFile(join(mounted, 'cached')))).toBe(sha256(files.cached));
    const attach = () => room.client.attach({ id: 'another', bootstrap: image.bootstrap, sources });
    await expect(attach()).rejects.toMatchObject({
      code: 'SYSTEM',
      subject: root,
      message: expect.stringContaining('read-only'),
      hint: expect.any(String),
    });

    execFileSync('umount', ['-l', root]);
    expect((await attach()).devices).toHaveLength(1);
    const after = await room.client.status();
    expect(after.pid).not.toBe(pid);
    expect(after.counters.storeErrors).toBeGreaterThan(0);
    await room.client.detach('another');
  });

  it('with few files refuses an image when it is attached, not when the next daemon takes over', async () => {
    const root = mkdtempSync(join(tmpdir(), 'lcs-'));
    // 128 for itself, and 2 for each of the 6 stores of 3 devices.
    const begin = async (): Promise<Running> => {
      const running = start('sh', ['-c', `ulimit -n 140; exec ${process.execPath} ${MAIN} --root ${root}`]);
      await waitUntil(running, 'the daemon', () => existsSync(join(root, 'daemon.sock')));
      return running;
    };
    let daemon = await begin();
    using client = connectDaemon(root);
    onTestFinished(async () => {
      await daemon.stop();
      await cleanup(root, { force: true });
      unmountBelow(root);
    });
    const attach = (id: string, ...parts: string[]) => {
      const dir = fixture('rafs', ...parts);
      return client.attach({ id, bootstrap: join(dir, 'bootstrap'), sources: [{ directory: { path: dir } }] });
    };
    expect((await attach('several', 'merged')).devices).toHaveLength(3);
    expect((await attach('again', 'merged')).devices).toHaveLength(3);
    // It shares a blob with the other, so it brings one store.
    await expect(attach('more', 'default')).rejects.toMatchObject({
      code: 'SYSTEM',
      message: 'all images together need 142 open files, the daemon may open 140',
      hint: expect.stringContaining('LimitNOFILE'),
    });
    const pid = Number(readFileSync(join(root, 'lock'), 'utf8'));
    process.kill(pid, 'SIGKILL');
    await daemon.stop();
    daemon = await begin();
    await expect.poll(async () => (await client.status()).pid).not.toBe(pid);
    const { images } = await client.status();
    expect(images.map(({ id, problem }) => [id, problem])).toEqual([
      ['again', ''],
      ['several', ''],
    ]);
  });
});
