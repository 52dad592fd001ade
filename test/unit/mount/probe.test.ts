import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { canMount, doctor, isOptional } from '../../../src/doctor/doctor.ts';
import { probeKernel } from '../../../src/doctor/probe-kernel.ts';
import { libraryHint } from '../../../src/doctor/probe-programs.ts';
import { type Finding, ok, type ProbeResult, refused, row } from '../../../src/doctor/probe-result.ts';
import { LacunaError } from '../../../src/errors.ts';

const NAMES = [
  'node',
  'addon',
  'holder',
  'root',
  'fuse',
  'erofs by file',
  'erofs over loop',
  'overlay',
  'overlay on erofs',
  'overlay on overlay',
  'better-sqlite3',
  'zstd-napi',
  '@napi-rs/blake-hash',
  'fuse-native',
  'libfuse2',
  'fusermount',
  'containerd',
  'pid namespace',
  'runc',
];

const working = (without: readonly string[] = []): ProbeResult[] =>
  NAMES.map((name) => ({ name, ...(without.includes(name) ? refused('no') : ok('yes')) }));

describe('row', () => {
  it('turns an error into a refusal with its hint', async () => {
    const failing = (): Finding => {
      throw new LacunaError('SYSTEM', 'no /dev/x', { hint: 'make one' });
    };
    expect(await row('x', failing)).toEqual({ name: 'x', status: 'refused', why: 'no /dev/x', hint: 'make one' });
    expect(await row('x', () => Promise.reject(new Error('late')))).toMatchObject({ why: 'late', hint: null });
  });
});

describe('canMount', () => {
  it('is ok when everything works, and when only optional parts are missing', () => {
    expect(canMount(working())).toBe(true);
    expect(canMount(working(['better-sqlite3', 'fuse-native', 'containerd', 'overlay on overlay']))).toBe(true);
  });

  it.each(['node', 'addon', 'holder', 'root', 'fuse', 'overlay on erofs'])('needs %s', (name) => {
    const rows = working([name]);
    expect(canMount(rows)).toBe(false);
    expect(isOptional(name, rows)).toBe(false);
  });

  it('needs one way to mount EROFS, whichever', () => {
    expect(canMount(working(['erofs by file']))).toBe(true);
    expect(isOptional('erofs by file', working(['erofs by file']))).toBe(true);
    expect(canMount(working(['erofs over loop']))).toBe(true);
    const neither = working(['erofs by file', 'erofs over loop']);
    expect(canMount(neither)).toBe(false);
    expect(isOptional('erofs by file', neither)).toBe(false);
  });
});

describe('doctor', () => {
  const folder = mkdtempSync(join(tmpdir(), 'lacuna-probe-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  it('runs every probe, as any user, and leaves nothing behind', { timeout: 60_000 }, async () => {
    const { ok, rows } = await doctor({ folder });
    expect(rows.map(({ name }) => name).sort()).toEqual([...NAMES].sort());
    for (const { status, why, hint } of rows) {
      expect(['ok', 'missing', 'refused']).toContain(status);
      expect(why).not.toBe('');
      if (status === 'ok') expect(hint).toBeNull();
    }
    expect(ok).toBe(canMount(rows));
    if (process.getuid?.() !== 0) expect(rows.find(({ name }) => name === 'root')).toMatchObject({ status: 'refused' });
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(folder);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('tries the file system of a root that is not there yet, and does not make it', { timeout: 60_000 }, async () => {
    const told = async (path: string) =>
      (await probeKernel({ folder: path })).map(({ name, status }) => `${name}: ${status}`);
    expect(await told(join(folder, 'not', 'yet'))).toEqual(await told(folder));
    expect(readdirSync(folder)).toEqual([]);
  });

  it('says so where the folder cannot be used', async () => {
    writeFileSync(join(folder, 'file'), '');
    const { ok, rows } = await doctor({ folder: join(folder, 'file', 'root') });
    rmSync(join(folder, 'file'));
    expect(ok).toBe(false);
    expect(rows.find(({ name }) => name === 'erofs by file')).toMatchObject({ status: 'refused' });
  });
});

describe('the hint about a package that does not load', () => {
  it.each([
    ['libfuse.so.2', 'Debian: apt install libfuse2'],
    ['libstdc++.so.6', 'it is installed, and the system lacks libstdc++.so.6'],
  ])('names %s', (library, hint) => {
    expect(libraryHint(`Error: ${library}: cannot open shared object file: No such file or directory`)).toBe(hint);
  });

  it('is another one where no library is missing', () => {
    expect(libraryHint('Error: Module did not self-register')).toBeNull();
  });
});
