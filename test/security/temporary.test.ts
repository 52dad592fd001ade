/** Unfinished files, and who else may touch the folders that they lie in. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { addon } from '../../src/native/addon.ts';
import { tryLock, tryLockExisting } from '../../src/native/lock.ts';
import { makeScratch } from '../../src/registry/local/archive-scratch.ts';
import { withLayoutLock } from '../../src/registry/local/layout-lock.ts';
import { sweepTemporary, Temporary } from '../../src/registry/local/layout-temporary.ts';
import { tryName } from '../../src/registry/local/name-lock.ts';
import { openStore } from '../../src/registry/open.ts';
import { lacunaArgs } from '../kit/lacuna.ts';
import { fixture } from '../kit/layers.ts';
import { needs } from '../kit/skip.ts';
import { pushImage } from '../unit/registry/contract.ts';

const IMAGE = `oci:${fixture('oci', 'tame-mini')}:tame-mini-gzip`;
const skip = needs('linux', 'addon');
const skipRoot = needs('linux', 'addon', 'root');
const skipBuilt = needs('linux', 'addon', 'root', 'dist');

let dir: string;
const at = (...names: string[]): string => join(dir, ...names);
beforeEach(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), 'lacuna-temporary-')));
  mkdirSync(at('victim'));
  for (let i = 0; i < 20; i++) writeFileSync(at('victim', `${i}`), 'precious');
});
afterEach(() => {
  expect(readdirSync(at('victim'))).toHaveLength(20);
  rmSync(dir, { recursive: true, force: true });
});

describe.skipIf(skip.reason)('the directory of a new archive', () => {
  const target = () => at('a.tar');
  const leftover = (name = '.a.tar.lacuna-AbC123'): string => {
    mkdirSync(at(name), { mode: 0o700 });
    writeFileSync(at(name, 'file'), 'left');
    return at(name);
  };
  const made = (): string => at(readdirSync(dir).find((name) => name.startsWith('.a.tar.lacuna-'))!);

  it('is ours alone, and gone with the archive', async () => {
    const scratch = await makeScratch(target());
    expect(readdirSync(dir)).toHaveLength(2);
    writeFileSync(join(scratch.path, 'file'), 'x');
    expect(readdirSync(made())).toEqual(['file']);
    await scratch.remove();
    expect(readdirSync(dir)).toEqual(['victim']);
  });

  it('stays ours when somebody puts another in its place', async () => {
    const scratch = await makeScratch(target());
    const name = made();
    renameSync(name, at('moved'));
    symlinkSync(at('victim'), name);
    for (let i = 0; i < 20; i++) writeFileSync(join(scratch.path, `${i}`), 'ours');
    expect(readdirSync(at('moved'))).toHaveLength(20);
    await scratch.remove();
    expect(readdirSync(at('moved'))).toEqual([]);
    expect(readdirSync(at('victim'))).toHaveLength(20);
  });

  it('is named in errors, not its descriptor', async () => {
    await using store = await openStore({ transport: 'oci-archive', path: target(), ref: 'v' }, { create: true });
    await pushImage(store, 'v');
    const missing: unknown = await store.resolve('none').catch((thrown: unknown) => thrown);
    expect(missing).toMatchObject({ code: 'NOT_FOUND', message: expect.stringContaining('/.a.tar.lacuna-') });
    writeFileSync(join(made(), 'layout/index.json'), '{');
    const broken: unknown = await store.resolve('v').catch((thrown: unknown) => thrown);
    for (const error of [missing, broken]) expect(JSON.stringify(error)).not.toContain('/proc/');
    await pushImage(store, 'v').catch(() => {});
    rmSync(join(made(), 'layout/index.json'));
  });

  it('that a killed process left is removed by the next', async () => {
    const path = leftover();
    await (await makeScratch(target())).remove();
    expect(existsSync(path)).toBe(false);
  });

  it('of a process that lives is left alone', async () => {
    const path = leftover();
    const lock = await tryLockExisting(path, 'directory');
    await (await makeScratch(target())).remove();
    expect(readdirSync(path)).toEqual(['file']);
    lock!.close();
  });

  it('is not what a link leads to, nor anything that has only a similar name', async () => {
    symlinkSync(at('victim'), at('.a.tar.lacuna-AbC124'));
    const others = ['.a.tar.lacuna-', '.a.tar.lacuna-1234-abcdef', '.b.tar.lacuna-AbC123'].map(leftover);
    await (await makeScratch(target())).remove();
    for (const path of others) expect(readdirSync(path)).toEqual(['file']);
  });

  it.skipIf(skipRoot.reason)('of somebody else is not removed, nor any where he could have put it', async () => {
    const path = leftover();
    chownSync(path, 65534, 65534);
    await (await makeScratch(target())).remove();
    expect(readdirSync(path)).toEqual(['file']);
    chownSync(path, 0, 0);
    for (const [uid, mode] of [
      [65534, 0o755],
      [0, 0o777],
    ] as const) {
      chownSync(dir, uid, uid);
      chmodSync(dir, mode);
      await (await makeScratch(target())).remove();
      expect(readdirSync(path)).toEqual(['file']);
    }
    // As in /tmp: others can make files, and cannot rename ours.
    chmodSync(dir, 0o1777);
    await (await makeScratch(target())).remove();
    expect(existsSync(path)).toBe(false);
  });
});

describe.skipIf(skip.reason)('unfinished files of a layout', () => {
  const folder = () => at('layout', '.lacuna-tmp');
  const name = '00000000-0000-4000-8000-00000000000';
  beforeEach(() => mkdirSync(folder(), { recursive: true }));

  it('are removed when nobody writes them, and nothing else is', async () => {
    writeFileSync(join(folder(), `${name}1`), 'left');
    writeFileSync(join(folder(), 'notes'), 'not ours');
    symlinkSync(at('victim', '1'), join(folder(), `${name}2`));
    execFileSync('mkfifo', [join(folder(), `${name}3`)]);
    await using living = await Temporary.create(at('layout'));
    await sweepTemporary(at('layout'));
    expect(existsSync(living.path)).toBe(true);
    expect(
      readdirSync(folder())
        .filter((other) => !living.path.endsWith(other))
        .sort(),
    ).toEqual([`${name}2`, `${name}3`, 'notes']);
  });

  it('are not looked for behind a link', async () => {
    rmSync(folder(), { recursive: true });
    symlinkSync(at('victim'), folder());
    renameSync(at('victim', '1'), at('victim', `${name}1`));
    await expect(sweepTemporary(at('layout'))).rejects.toMatchObject({ code: 'SYSTEM' });
    expect(readdirSync(at('victim'))).toContain(`${name}1`);
  });

  it.skipIf(skipRoot.reason)('of somebody else are left to him', async () => {
    writeFileSync(join(folder(), `${name}1`), 'left');
    chownSync(join(folder(), `${name}1`), 65534, 65534);
    await sweepTemporary(at('layout'));
    expect(readdirSync(folder())).toEqual([`${name}1`]);
  });
});

describe.skipIf(skipBuilt.reason)('without /proc, as in a chroot', () => {
  const convertTo = (target: string): string => {
    const script = 'mount -t tmpfs none /proc && exec "$@"';
    const command = [process.execPath, ...lacunaArgs('convert', IMAGE, target, '--progress', 'none')];
    const { stderr, status } = spawnSync('unshare', ['--mount', 'sh', '-c', script, 'sh', ...command]);
    return `${status} ${stderr}`;
  };

  it('an archive says what it needs, and leaves nothing', () => {
    expect(convertTo(`oci-archive:${at('a.tar')}:v`)).toMatch(/^7 .*needs \/proc.*\nhint: mount -t proc proc \/proc\n/);
    expect(readdirSync(dir)).toEqual(['victim']);
  });

  it('a layout is written, also beside what others left unfinished', () => {
    mkdirSync(at('layout', '.lacuna-tmp'), { recursive: true });
    writeFileSync(at('layout', '.lacuna-tmp', '00000000-0000-4000-8000-000000000001'), 'left');
    expect(convertTo(`oci:${at('layout')}:v`)).toMatch(/^0 /);
    expect(existsSync(at('layout', 'index.json'))).toBe(true);
  });
});

describe.skipIf(skipBuilt.reason)('writers in other namespaces', () => {
  const WRITER = join(import.meta.dirname, '../unit/registry/layout-writer.mjs');
  /** With process ids and a network of its own, as a container has. */
  const start = (...args: string[]) =>
    spawn('unshare', ['--net', '--pid', '--fork', '--kill-child', process.execPath, WRITER, at('layout'), ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });

  it('have their unfinished files as long as they live, and not longer', async () => {
    const child = start('hang');
    await once(child.stdout!, 'data');
    await using store = await openStore({ transport: 'oci', path: at('layout'), ref: 'a' }, { create: true });
    await pushImage(store, 'a');
    expect(readdirSync(at('layout', '.lacuna-tmp'))).toHaveLength(1);
    child.kill('SIGKILL');
    // The process in the namespace ends after its parent; then nobody writes to the pipe any more.
    await once(child, 'close');
    await using next = await openStore({ transport: 'oci', path: at('layout'), ref: 'b' }, { create: true });
    await pushImage(next, 'b');
    expect(existsSync(at('layout', '.lacuna-tmp'))).toBe(false);
  });

  it('take their turn at the index', async () => {
    const writers = Array.from({ length: 3 }, (_, i) => start('push', `p${i}`, '8'));
    const codes = await Promise.all(writers.map(async (child) => (await once(child, 'exit'))[0]));
    expect(codes).toEqual([0, 0, 0]);
    await using store = await openStore({ transport: 'oci', path: at('layout'), ref: null });
    const tags: string[] = [];
    for await (const tag of store.tags()) tags.push(tag);
    expect(tags).toHaveLength(24);
  });
});

describe.skipIf(skip.reason)('where files cannot be locked', () => {
  beforeEach(() => {
    vi.spyOn(addon(), 'flock').mockImplementation(() => {
      throw Object.assign(new Error('the file system has no locks'), { code: 'UNSUPPORTED' });
    });
  });
  afterEach(() => {
    vi.restoreAllMocks();
  });

  it('writers of a layout’s index take turns all the same', async () => {
    mkdirSync(at('layout'));
    const { dev, ino } = statSync(at('layout'), { bigint: true });
    // Another process has it.
    const other = await tryName(`lacuna-layout-${dev}-${ino}`);
    let isRunning = false;
    const mine = withLayoutLock(at('layout'), async () => {
      isRunning = true;
      expect(await tryName(`lacuna-layout-${dev}-${ino}`)).toBeNull();
    });
    await sleep(100);
    expect(isRunning).toBe(false);
    await other!.close();
    await mine;
    expect(readdirSync(at('layout'))).toEqual([]);
  });

  it('unfinished files and archives are written, and nothing that others left is removed', async () => {
    mkdirSync(at('layout'));
    const temporary = await Temporary.create(at('layout'));
    await sweepTemporary(at('layout'));
    expect(existsSync(temporary.path)).toBe(true);
    await temporary[Symbol.asyncDispose]();
    mkdirSync(at('.a.tar.lacuna-AbC123'), { mode: 0o700 });
    const scratch = await makeScratch(at('a.tar'));
    writeFileSync(join(scratch.path, 'file'), 'x');
    await scratch.remove();
    expect(existsSync(at('.a.tar.lacuna-AbC123'))).toBe(true);
    rmSync(at('.a.tar.lacuna-AbC123'), { recursive: true });
  });
});

describe.skipIf(skipRoot.reason)('a lock', () => {
  const asNobody = (...command: string[]): number | null => {
    try {
      execFileSync('setpriv', ['--reuid', '65534', '--regid', '65534', '--clear-groups', ...command], {
        stdio: 'ignore',
      });
      return 0;
    } catch (error) {
      return (error as { status: number | null }).status;
    }
  };

  it('cannot be held by who cannot open its file', async () => {
    chmodSync(dir, 0o755);
    const lock = await tryLock(at('lock'));
    lock!.close();
    expect(asNobody('flock', '-n', at('lock'), 'true')).not.toBe(0);
    const held = spawn('setpriv', [
      ...['--reuid', '65534', '--regid', '65534', '--clear-groups'],
      ...['sh', '-c', `exec 9<${at('lock')} && flock 9 && sleep 5`],
    ]);
    await once(held, 'exit');
    const again = await tryLock(at('lock'));
    expect(again).not.toBeNull();
    again!.close();
  });

  it('of a layout’s index cannot be taken by readers of the layout', async () => {
    chmodSync(dir, 0o755);
    mkdirSync(at('layout'));
    await withLayoutLock(at('layout'), async () => {
      const path = at('layout', '.lacuna-tmp', 'index.lock');
      expect(existsSync(path)).toBe(true);
      expect(asNobody('flock', '-n', path, 'true')).not.toBe(0);
    });
    expect(readdirSync(at('layout'))).toEqual([]);
    await withLayoutLock(at('layout'), async () => {});
  });

  it.skipIf(skipBuilt.reason)('is not waited for where nobody may write', async () => {
    chmodSync(dir, 0o755);
    mkdirSync(at('layout', '.lacuna-tmp'), { recursive: true });
    const lock = new URL('../../dist/registry/local/layout-lock.js', import.meta.url);
    const code = `const { withLayoutLock } = await import(${JSON.stringify(lock.href)});
      const start = performance.now();
      const error = await withLayoutLock(${JSON.stringify(at('layout'))}, async () => {}).catch((thrown) => thrown);
      console.log(JSON.stringify({ ...error.toJSON(), milliseconds: performance.now() - start }));`;
    const user = ['--reuid', '65534', '--regid', '65534', '--clear-groups'];
    const run = (): { code: string; milliseconds: number } =>
      JSON.parse(execFileSync('setpriv', [...user, process.execPath, '--input-type=module', '-e', code]).toString());
    for (const mode of [0o755, 0o700]) {
      chmodSync(at('layout', '.lacuna-tmp'), mode);
      const failed = run();
      expect(failed).toMatchObject({ code: 'FORBIDDEN', subject: expect.stringContaining(at('layout')) });
      // A lock that somebody has is waited for during 10 s.
      expect(failed.milliseconds).toBeLessThan(5000);
    }
  });

  it('does not depend on the clock of the day', async () => {
    mkdirSync(at('layout'));
    const path = at('layout', '.lacuna-tmp', 'index.lock');
    mkdirSync(at('layout', '.lacuna-tmp'));
    const lock = await tryLock(path);
    const now = Date.now;
    let jumps = 0;
    Date.now = () => now() + (jumps++ % 2 === 0 ? 3_600_000 : -3_600_000);
    try {
      const waiting = withLayoutLock(at('layout'), async () => randomBytes(1).length);
      setTimeout(() => lock!.close(), 300);
      expect(await waiting).toBe(1);
    } finally {
      Date.now = now;
    }
  });
});
