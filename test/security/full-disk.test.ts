/** On a full disk, and on one that cannot be written to, every command says so and leaves nothing half made. */
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { toLacunaError } from '../../src/errors.ts';
import { addon } from '../../src/native/addon.ts';
import { lockFor } from '../../src/native/lock.ts';
import { lacuna, lacunaArgs } from '../kit/lacuna.ts';
import { fixture } from '../kit/layers.ts';
import { unmountBelow } from '../kit/mounts.ts';
import { run } from '../kit/process.ts';
import { needs } from '../kit/skip.ts';

const skip = needs('root', 'dist', 'addon');
const ORDINARY = `oci:${fixture('oci', 'tame-mini')}:tame-mini-gzip`;
const LAZY = `oci:${fixture('nydus-oci', 'index')}:index`;

describe.each([
  ['ENOSPC', 'no space left'],
  ['EDQUOT', 'quota'],
  ['EROFS', 'read-only'],
  ['EMFILE', 'too many files open'],
])('%s', (code, words) => {
  it('is told in words, with what helps', () => {
    const thrown = Object.assign(new Error(`${code}: raw, write`), { code, path: '/var/lib/x' });
    expect(toLacunaError(thrown, { op: 'write' })).toMatchObject({
      code: 'SYSTEM',
      message: expect.stringContaining(words),
      subject: '/var/lib/x',
      hint: expect.any(String),
    });
    expect(toLacunaError(thrown, { subject: 'archive' }).subject).toBe('archive');
  });
});

describe.skipIf(skip.reason)('a file system', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-full-'));
  const small = join(dir, 'small');
  const still = join(dir, 'still');

  beforeAll(async () => {
    for (const target of [small, still]) mkdirSync(target);
    const rights = { nosuid: true, nodev: true };
    const options = ['size=64k', 'mode=700'];
    await addon().mount({ fstype: 'tmpfs', source: 'small', target: small, options, readonly: false, ...rights });
    await addon().mount({ fstype: 'tmpfs', source: 'still', target: still, options, readonly: true, ...rights });
  });
  afterAll(() => {
    unmountBelow(dir);
    rmSync(dir, { recursive: true });
  });

  const failureOf = async (...args: string[]): Promise<{ code: string; message: string; hint: string }> => {
    const failed = await lacuna([...args, '--json', '--progress', 'none', '--log-level', 'silent']).catch(String);
    const line = String(failed)
      .split('\n')
      .find((text) => text.startsWith('{"schema":"lacuna.error.v1"'));
    if (line === undefined) throw new Error(`no error document: ${JSON.stringify(failed)}`);
    return JSON.parse(line).error;
  };

  const commands = (at: string): [name: string, args: string[]][] => [
    ['convert to a layout', ['convert', ORDINARY, `oci:${at}/layout:v`]],
    ['convert to an archive', ['convert', ORDINARY, `oci-archive:${at}/x.tar:v`]],
    ['convert to a directory', ['convert', ORDINARY, `dir:${at}/dir`]],
    ['unpack', ['unpack', LAZY, `${at}/tree`]],
    ['unpack to a tar', ['unpack', LAZY, `${at}/x.tar`, '--format', 'tar']],
    ['export', ['export', LAZY, `${at}/x.erofs`]],
  ];

  it.each(commands(small))('that is full: %s', async (_name, args) => {
    expect(await failureOf(...args)).toMatchObject({
      code: 'SYSTEM',
      message: expect.stringContaining('no space left'),
      hint: expect.any(String),
    });
    // A layout and a directory keep what is whole, for the next attempt.
    const left = readdirSync(small, { recursive: true, encoding: 'utf8' }).filter(
      (name) => !/^(layout|dir)(\/|$)/.test(name),
    );
    expect(left).toEqual([]);
    expect(
      readdirSync(small).some((name) => name === 'layout' && readdirSync(join(small, name)).includes('index.json')),
    ).toBe(false);
    for (const name of readdirSync(small)) rmSync(join(small, name), { recursive: true });
  });

  it.each(commands(still))('that is read-only: %s', async (_name, args) => {
    expect(await failureOf(...args)).toMatchObject({ code: 'SYSTEM', message: expect.stringContaining('read-only') });
  });

  it.each([
    ['convert', (at: string) => ['convert', ORDINARY, `oci-archive:${at}:v`]],
    ['unpack', (at: string) => ['unpack', LAZY, at, '--format', 'tar']],
  ])('full device as target of %s is written to, not replaced by a file', async (_name, args) => {
    const device = join(dir, 'full-device');
    if (!existsSync(device)) await run('mknod', [device, 'c', '1', '7']);
    expect(await failureOf(...args(device))).toMatchObject({ message: expect.stringContaining('no space left') });
    expect(lstatSync(device).isCharacterDevice()).toBe(true);
  });

  it.each([['ls', LAZY], ['inspect', LAZY], ['unpack', LAZY, '-', '--format', 'tar'], ['--help']])(
    'full standard output of %s is one line, without a stack',
    async (...args) => {
      const command = [process.execPath, ...lacunaArgs(...args), '--log-level', 'silent'];
      const { stderr, status } = spawnSync('sh', ['-c', '"$@" > /dev/full', 'sh', ...command], { encoding: 'utf8' });
      expect(status).toBe(1);
      expect(stderr).toMatch(/^lacuna: write: no space left .*\(standard output\) \[SYSTEM\]\nhint: [^\n]*\n$/);
    },
  );

  it('that is full keeps nobody from taking a lock', async () => {
    const path = join(small, 'lock');
    writeFileSync(path, '4194304\n');
    writeFileSync(join(small, 'filler'), '');
    expect(() => writeFileSync(join(small, 'filler'), Buffer.alloc(1 << 20))).toThrow('ENOSPC');
    const lock = await lockFor('test', path);
    expect(readFileSync(path, 'utf8')).toBe(`${process.pid}\n`);
    await expect(lockFor('test', path)).rejects.toMatchObject({ code: 'LOCKED' });
    lock.close();
    const fresh = await lockFor('test', join(small, 'other'));
    expect(readFileSync(join(small, 'other'), 'utf8')).toBe('');
    fresh.close();
  });
});
