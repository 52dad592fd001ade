/** `lacuna convert` is killed, or interrupted, in the middle: the target is as it was, and the next run succeeds. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { filesOf } from '../kit/converted.ts';
import { noise } from '../kit/random.ts';
import { startRegistry, type TestRegistry } from '../kit/registry.ts';
import { needs } from '../kit/skip.ts';
import { sourceLayout } from '../kit/source-image.ts';
import { END, member } from '../kit/tar.ts';

const skip = needs('addon', 'dist');

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const MIB = 1024 * 1024;
/** Enough of the layer to fill some batches, not all. */
const STALL_AFTER = 20 * MIB;

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface Child {
  readonly pid: number;
  kill(signal: NodeJS.Signals): void;
  readonly ended: Promise<Ended>;
}

function lacuna(...args: string[]): Child {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (data: Buffer) => (stdout += data));
  child.stderr.on('data', (data: Buffer) => (stderr += data));
  const ended = once(child, 'close').then(([code, signal]) => ({ code, signal, stdout, stderr }) as Ended);
  return { pid: child.pid!, kill: (signal) => void child.kill(signal), ended };
}

async function until(what: string, child: Child, ready: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!ready()) {
    if (Date.now() > deadline) {
      child.kill('SIGKILL');
      throw new Error(`not in time: ${what}\n${(await child.ended).stderr}`);
    }
    await sleep(10);
  }
}

describe.skipIf(skip.reason)('lacuna convert, ended in the middle', () => {
  const dir = mkdtempSync(join(tmpdir(), 'convert-kill-'));
  let registry: TestRegistry;
  let stalling = false;
  beforeAll(async () => {
    const source = join(dir, 'source');
    const tar = Buffer.concat([member({ name: 'big', data: noise(32 * MIB, 1) }), END]);
    sourceLayout(source, { layers: [{ tar, how: 'none' }] });
    const other = join(dir, 'other');
    sourceLayout(other, { layers: [{ tar: Buffer.concat([member({ name: 'old', data: 'old' }), END]) }] });
    registry = await startRegistry();
    registry.storage.putLayout('src', source);
    registry.storage.putLayout('old', other);
    registry.fault = (request) => {
      const isLayer = request.method === 'GET' && /\/src\/blobs\//.test(request.path);
      const { blobs } = registry.storage.repository('src');
      const size = blobs.get(request.path.slice(request.path.lastIndexOf('/') + 1))?.length ?? 0;
      return stalling && isLayer && size > STALL_AFTER ? { kind: 'stall', after: STALL_AFTER } : null;
    };
  });
  afterAll(async () => {
    await registry.close();
    rmSync(dir, { recursive: true });
  });

  const source = (name: string): string => `docker://${registry.host}/${name}:image`;

  /** Bytes of unfinished blobs. */
  function unfinished(layout: string): number {
    const folder = join(layout, '.lacuna-tmp');
    if (!existsSync(folder)) return 0;
    return readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
  }

  /** A layout that has a converted image under `lazy`, and a conversion into the same name that has come half-way. */
  async function halfWay(name: string): Promise<{ layout: string; index: string; files: string[]; child: Child }> {
    const layout = join(dir, name);
    expect(await lacuna('convert', source('old'), `oci:${layout}:lazy`).ended).toMatchObject({ code: 0 });
    const index = readFileSync(join(layout, 'index.json'), 'utf8');
    const files = filesOf(layout);
    stalling = true;
    const child = lacuna('convert', source('src'), `oci:${layout}:lazy`);
    await until('a part of the blob is written', child, () => unfinished(layout) > 8 * MIB);
    return { layout, index, files, child };
  }

  async function succeeds(layout: string): Promise<void> {
    stalling = false;
    const { code, stdout, stderr } = await lacuna('convert', source('src'), `oci:${layout}:lazy`, '--json').ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(readFileSync(join(layout, 'index.json'), 'utf8')).toContain(JSON.parse(stdout).digest);
    expect(filesOf(layout)).not.toContain('.lacuna-tmp');
  }

  it('SIGKILL: index.json is unchanged, the next run removes what was left and succeeds', async () => {
    const { layout, index, files, child } = await halfWay('kill');
    child.kill('SIGKILL');
    expect(await child.ended).toMatchObject({ signal: 'SIGKILL' });
    expect(readFileSync(join(layout, 'index.json'), 'utf8')).toBe(index);
    expect(filesOf(layout).filter((file) => !file.startsWith('.lacuna-tmp'))).toEqual(files);
    expect(unfinished(layout)).toBeGreaterThan(0);
    await succeeds(layout);
  });

  it.each(['SIGINT', 'SIGTERM'] as const)('%s leaves nothing in the target, exit code 130', async (signal) => {
    const { layout, index, files, child } = await halfWay(signal);
    child.kill(signal);
    const { code, stdout, stderr } = await child.ended;
    expect({ code, stdout }).toEqual({ code: 130, stdout: '' });
    expect(stderr).toMatch(/^lacuna: .*\[ABORTED\]\n$/);
    expect(readFileSync(join(layout, 'index.json'), 'utf8')).toBe(index);
    expect(filesOf(layout)).toEqual(files);
    await succeeds(layout);
  });

  it.each(['SIGINT', 'SIGKILL'] as const)('%s: the tag of a registry is unchanged', async (signal) => {
    const repository = registry.storage.repository(`dst-${signal.toLowerCase()}`);
    const target = `docker://${registry.host}/dst-${signal.toLowerCase()}:lazy`;
    stalling = false;
    expect(await lacuna('convert', source('old'), target).ended).toMatchObject({ code: 0 });
    const before = { tag: repository.tags.get('lazy'), blobs: [...repository.blobs.keys()] };
    const open = registry.uploads.open;
    stalling = true;
    const child = lacuna('convert', source('src'), target);
    await until('an upload has begun', child, () => registry.uploads.open > open);
    child.kill(signal);
    await child.ended;
    expect({ tag: repository.tags.get('lazy'), blobs: [...repository.blobs.keys()] }).toEqual(before);
    // Whoever is killed can give nothing up; the registry forgets the upload by itself.
    if (signal === 'SIGINT') expect(registry.uploads.open).toBe(open);
    stalling = false;
    expect(await lacuna('convert', source('src'), target).ended).toMatchObject({ code: 0 });
    expect(repository.tags.get('lazy')).not.toBe(before.tag);
  });

  it('SIGKILL again and again, at any moment: the layout stays whole', { timeout: 120_000 }, async () => {
    const layout = join(dir, 'often');
    stalling = false;
    expect(await lacuna('convert', source('old'), `oci:${layout}:old`).ended).toMatchObject({ code: 0 });
    for (let delay = 150; delay < 900; delay += 125) {
      const child = lacuna('convert', source('src'), `oci:${layout}:lazy`);
      await sleep(delay);
      child.kill('SIGKILL');
      await child.ended;
      const { manifests } = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8'));
      const listed = await lacuna('ls', '--recursive', `oci:${layout}:old`).ended;
      expect(listed).toMatchObject({ code: 0, stdout: expect.stringContaining('/old') });
      if (manifests.length === 2) expect(await lacuna('ls', `oci:${layout}:lazy`).ended).toMatchObject({ code: 0 });
    }
    await succeeds(layout);
  });
});
