/** `lacuna mount` of a private image: the login that the command line gives reaches the daemon, which reads the data. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lacunaArgs } from '../kit/lacuna.ts';
import { fixture } from '../kit/layers.ts';
import { unmountBelow } from '../kit/mounts.ts';
import { startRegistry } from '../kit/registry.ts';
import { PASSWORD, USER } from '../kit/registry-auth.ts';
import { needs } from '../kit/skip.ts';
import { diffTrees, nydusImageTime, readRows, walk } from '../kit/tree.ts';

const skip = needs('dist', 'root', 'erofs', 'overlay', 'addon', 'python3');

describe.skipIf(skip.reason)('lacuna mount', () => {
  let dir: string;
  const path = (name: string): string => join(dir, name);
  const env = () => ({ PATH: process.env.PATH, HOME: dir });

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'lacuna-mount-login-'));
    mkdirSync(path('mnt'));
  });
  afterEach(() => {
    execFileSync(process.execPath, lacunaArgs('cleanup', '--root', path('root'), '--force'), {
      env: env(),
      stdio: 'ignore',
    });
    unmountBelow(dir);
    rmSync(dir, { recursive: true });
  });

  it('hands a login on, and keeps it out of the root', { timeout: 120_000 }, async () => {
    await using registry = await startRegistry({ auth: 'token' });
    registry.storage.putLayout('tame', fixture('nydus-oci', 'index'));
    const image = `docker://${registry.host}/tame:index`;
    const options = ['--root', path('root'), '--creds', `${USER}:${PASSWORD}`, '--progress', 'json'];
    const mount = spawn(process.execPath, lacunaArgs('mount', image, path('mnt'), ...options), {
      env: env(),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let told = '';
    mount.stderr.on('data', (piece: Buffer) => (told += piece.toString()));
    const [said] = (await once(mount.stdout, 'data')) as [Buffer];
    expect(said.toString()).toBe(`${path('mnt')}\n`);
    const truth = readRows(fixture('truth/tame-mini.merged.jsonl'));
    expect(diffTrees(truth, await walk(path('mnt')), { time: nydusImageTime })).toEqual([]);
    expect(registry.requests.some(({ headers }) => headers.range !== undefined)).toBe(true);
    const kept = spawnSync('grep', ['-rlF', '-D', 'skip', '--exclude-dir=fuse', '-e', PASSWORD, path('root')]);
    expect(kept.stdout.toString()).toBe('');
    mount.kill('SIGTERM');
    await once(mount, 'close');
    const last = JSON.parse(told.trim().split('\n').at(-1)!);
    const blobs = [...registry.storage.repository('tame').blobs];
    const [, layer] = blobs.find(([digest]) => digest.startsWith(`sha256:${last.subject}`))!;
    expect(last).toMatchObject({ phase: 'read', done: layer.length, total: layer.length, unit: 'bytes' });
  });
});
