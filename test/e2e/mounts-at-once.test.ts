/** Several `lacuna mount` of one root at once: each gets its mount, and keeps it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { cleanup } from '../../src/mount/cleanup.ts';
import { unmount } from '../../src/mount/erofs.ts';
import { lacunaArgs } from '../kit/lacuna.ts';
import { fixture } from '../kit/layers.ts';
import { unmountBelow } from '../kit/mounts.ts';
import { run } from '../kit/process.ts';
import { needs } from '../kit/skip.ts';

const skip = needs('root', 'fuse', 'erofs', 'addon', 'holder', 'dist');
const VARIANTS = ['default', 'sha256', 'lz4', 'chunk-4k', 'batch'];

describe.skipIf(skip.reason)('mounts of one root', () => {
  let dir: string;
  let children: ChildProcess[];
  const root = () => join(dir, 'root');

  beforeEach(() => {
    dir = realpathSync(mkdtempSync(join(tmpdir(), 'lmo-')));
    children = [];
  });
  afterEach(async () => {
    await cleanup(root(), { force: true }).catch(() => null);
    for (const child of children) child.kill('SIGKILL');
    unmountBelow(dir);
    rmSync(dir, { recursive: true });
  });

  /** Resolves with the process, as soon as the image is mounted. */
  async function mount(variant: string, target: string): Promise<ChildProcess> {
    mkdirSync(target, { recursive: true });
    const image = `rafs:${fixture('rafs', variant, 'bootstrap')}`;
    const child = spawn(process.execPath, lacunaArgs('mount', image, target, '--root', root()), {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    children.push(child);
    let problem = '';
    child.stderr.on('data', (text: Buffer) => (problem += text));
    const ended = once(child, 'exit').then(() => {
      throw new Error(`${variant}: ${problem}`);
    });
    ended.catch(() => {});
    await Promise.race([once(child.stdout, 'data'), ended]);
    return child;
  }

  const reads = (target: string) => run('sh', ['-c', 'find "$0" -type f -exec cat {} + > /dev/null', target]);
  const end = async (child: ChildProcess): Promise<void> => {
    if (child.exitCode === null) await once(child, 'exit');
  };

  it('that begin at once are all there, and can be read', async () => {
    for (let round = 0; round < 2; round++) {
      const mounted = await Promise.all(VARIANTS.map((variant) => mount(variant, join(dir, variant))));
      for (const variant of VARIANTS) await reads(join(dir, variant));
      for (const variant of VARIANTS) await unmount(join(dir, variant));
      for (const child of mounted) await end(child);
    }
    expect(readdirSync(join(root(), 'mounts'))).toEqual([]);
  });

  it('on a directory that was just unmounted is not taken down by its predecessor', async () => {
    const target = join(dir, 'target');
    const first = await mount('default', target);
    await unmount(target);
    await mount('sha256', target);
    await end(first);
    await reads(target);
  });

  it('whose process was killed stay, and are forgotten when they are unmounted', async () => {
    const [left, other] = [join(dir, 'left'), join(dir, 'other')];
    const killed = await mount('default', left);
    killed.kill('SIGKILL');
    await end(killed);
    await mount('sha256', other);
    await reads(left);
    expect(readdirSync(join(root(), 'mounts'))).toHaveLength(2);
    await unmount(left);
    await mount('lz4', join(dir, 'third'));
    expect(readdirSync(join(root(), 'mounts'))).toHaveLength(2);
    await reads(other);
  });
});
