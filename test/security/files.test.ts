/** What somebody has put in a file's place: every way in ends at once, with an error that says what is there. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  closeSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkout } from '#cache';
import { MAX_AUTH_FILE } from '../../src/access/auth-file.ts';
import { readCertDir } from '../../src/access/cert-dir.ts';
import { storedCredentials } from '../../src/access/credentials.ts';
import { fileSource, readRange } from '../../src/blob/source.ts';
import { check } from '../../src/check/check.ts';
import { MAX_LIST } from '../../src/cli/read-list.ts';
import { MAX_CERTIFICATES } from '../../src/config/certificates.ts';
import { loadConfig, MAX_CONFIG_FILE } from '../../src/config/load.ts';
import { ImageDict, readImageBlobs } from '../../src/dict/image-dict.ts';
import { SqliteDict } from '../../src/dict/sqlite-dict.ts';
import { type ErrorCode, isLacunaError, type LacunaError } from '../../src/errors.ts';
import { MAX_BOOTSTRAP_SIZE, MAX_META_SIZE } from '../../src/formats/rafs/limits.ts';
import { MAX_MANIFEST_SIZE } from '../../src/image/manifest.ts';
import { inspect } from '../../src/inspect/inspect.ts';
import { openRegular, readNamed, readRegular } from '../../src/open-file.ts';
import { MAX_LISTED_SIZE } from '../../src/reader/index-images.ts';
import { MAX_ARCHIVE_MEMBERS } from '../../src/registry/local/archive-file.ts';
import { MAX_VERSION_FILE } from '../../src/registry/local/dir.ts';
import { MAX_LAYOUT_FILE } from '../../src/registry/local/layout.ts';
import { openStore } from '../../src/registry/open.ts';
import { needs } from '../kit/skip.ts';

let dir: string;
const at = (...names: string[]): string => join(dir, ...names);
beforeEach(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), 'lacuna-files-')));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

async function failure(work: Promise<unknown>): Promise<LacunaError> {
  const error: unknown = await work.then(
    (value) => new Error(`no error, but ${String(value)}`),
    (thrown: unknown) => thrown,
  );
  if (!isLacunaError(error)) throw error;
  expect(error.code).not.toBe('INTERNAL');
  return error;
}

/** What a name may turn out to be. */
const THINGS: Readonly<Record<string, (path: string) => void>> = {
  'a named pipe': (path) => void execFileSync('mkfifo', [path]),
  'a link to a pipe': (path) => {
    execFileSync('mkfifo', [`${path}.pipe`]);
    symlinkSync(`${path}.pipe`, path);
  },
  'a device without end': (path) => symlinkSync('/dev/zero', path),
  'a directory': (path) => mkdirSync(path),
  'a loop of links': (path) => symlinkSync(path, path),
};
const things = Object.keys(THINGS);
const make = (thing: string, path: string): string => {
  THINGS[thing]!(path);
  return path;
};
const huge = (path: string, size: number): string => {
  const file = openSync(path, 'w');
  ftruncateSync(file, size);
  closeSync(file);
  return path;
};

describe('a regular file', () => {
  it.each(things.filter((thing) => !thing.includes('without end')))('is not %s', async (thing) => {
    const path = make(thing, at('file'));
    for (const purpose of [{ op: 'read' }, { op: 'read', within: dir }]) {
      const codes: ErrorCode[] = ['USAGE', 'FORMAT'];
      const error = await failure(openRegular(path, purpose));
      expect(codes).toContain(error.code);
      expect(error).toMatchObject({ op: 'read', subject: path });
    }
  });

  it('says what is there instead', async () => {
    const error = await failure(openRegular(make('a named pipe', at('index.json')), { op: 'read', within: dir }));
    expect(error.message).toBe('index.json: a named pipe, not a regular file');
    expect((await failure(openRegular('/dev/zero', { op: 'open' }))).message).toContain('a device');
  });

  it('is read up to a limit that its size is held against first', async () => {
    const path = huge(at('large'), 5 * 2 ** 30);
    const before = process.memoryUsage().rss;
    expect((await failure(readRegular(path, 1000, { op: 'read' }))).code).toBe('FORMAT');
    expect(process.memoryUsage().rss - before).toBeLessThan(2 ** 28);
    writeFileSync(at('small'), 'text');
    expect(String(await readRegular(at('small'), 4, { op: 'read' }))).toBe('text');
    expect((await failure(readRegular(at('none'), 4, { op: 'read' }))).code).toBe('NOT_FOUND');
    expect((await failure(readRegular(at('small', 'below'), 4, { op: 'read' }))).code).toBe('NOT_FOUND');
  });
});

describe('a small file that the user names', () => {
  const read = (path: string): Promise<string> => readNamed(path, 100_000, { op: 'read' });

  it('may be nothing, a pipe that is written slowly, or a link', async () => {
    expect(await read('/dev/null')).toBe('');
    execFileSync('mkfifo', [at('pipe')]);
    const writer = execFileSync.bind(null, 'sh', ['-c', `(echo one; sleep 0.3; echo two) > ${at('pipe')} &`]);
    const keeper = openSync(at('pipe'), 'r+');
    writer({ stdio: 'ignore' });
    const reading = read(at('pipe'));
    await sleep(600);
    closeSync(keeper);
    expect(await reading).toBe('one\ntwo\n');
    writeFileSync(at('real'), 'text');
    symlinkSync(at('real'), at('link'));
    expect(await read(at('link'))).toBe('text');
  });

  it('may be a named pipe that somebody opens only later', async () => {
    execFileSync('mkfifo', [at('pipe')]);
    const reading = read(at('pipe'));
    await sleep(200);
    spawn('sh', ['-c', `exec > ${at('pipe')}; sleep 0.2; echo text`], { stdio: 'ignore' });
    expect(await reading).toBe('text\n');
  });

  it('is given up when it is a named pipe that nobody writes, or that somebody holds open', async () => {
    execFileSync('mkfifo', [at('pipe')]);
    const silent = () => failure(readNamed(at('pipe'), 100_000, { op: 'read', silence: 200 }));
    const refusal = { code: 'TIMEOUT', op: 'read', subject: at('pipe'), message: expect.stringContaining('0.2 s') };
    expect(await silent()).toMatchObject(refusal);
    const holder = openSync(at('pipe'), 'r+');
    expect(await silent()).toMatchObject(refusal);
    closeSync(holder);
  });

  it.skipIf(needs('linux', 'bash').reason)('may be a pipe of the shell, an empty one as well', async () => {
    const shell = spawn('bash', ['-c', 'exec 8< <(sleep 0.3; echo text) 9< <(true); echo; read'], {
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    await once(shell.stdout, 'data');
    const pipe = (fd: number) => readNamed(`/proc/${shell.pid}/fd/${fd}`, 100_000, { op: 'read', silence: 100 });
    expect(await Promise.all([pipe(8), pipe(9)])).toEqual(['text\n', '']);
    shell.stdin.end();
  });

  it('has an end, and is not large', async () => {
    expect((await failure(read('/dev/zero'))).code).toBe('FORMAT');
    expect((await failure(read(huge(at('large'), 2 ** 30)))).code).toBe('FORMAT');
  });
});

const root = needs('root', 'linux');

describe.skipIf(root.reason)('a folder', () => {
  const NOBODY = 65534;
  const inside = (path: string) => openRegular(path, { op: 'read', within: at('folder') });
  async function opens(path: string): Promise<void> {
    await (await inside(path))[Symbol.asyncDispose]();
  }
  function giveTo(uid: number, ...paths: string[]): void {
    for (const path of paths) chownSync(path, uid, uid);
  }
  beforeEach(() => {
    mkdirSync(at('folder'));
    writeFileSync(at('ours'), 'ours');
    writeFileSync(at('theirs'), 'theirs');
    giveTo(NOBODY, at('theirs'));
    for (const name of ['ours', 'theirs']) symlinkSync(at(name), at('folder', `to-${name}`));
    writeFileSync(at('folder', 'file'), 'file');
    symlinkSync('file', at('folder', 'relative'));
    symlinkSync(at('folder', 'file'), at('folder', 'absolute'));
    linkSync(at('ours'), at('folder', 'hardlink'));
  });

  it('of our own may have links that lead anywhere', async () => {
    for (const name of ['to-ours', 'to-theirs', 'relative', 'absolute', 'hardlink']) await opens(at('folder', name));
  });

  it('of somebody else has links within it, and to what is his', async () => {
    giveTo(NOBODY, at('folder'));
    for (const name of ['to-theirs', 'relative', 'absolute', 'hardlink']) await opens(at('folder', name));
    const error = await failure(inside(at('folder', 'to-ours')));
    expect(error.message).toMatch(/^to-ours: a link to .*\/ours, out of a directory that belongs to user 65534, /);
  });

  it('that is reached by a link on the way is judged by where that leads', async () => {
    giveTo(NOBODY, at('folder'));
    mkdirSync(at('elsewhere'));
    writeFileSync(at('elsewhere', 'blob'), 'secret');
    symlinkSync(at('elsewhere'), at('folder', 'blobs'));
    expect((await failure(inside(at('folder', 'blobs', 'blob')))).code).toBe('FORMAT');
    symlinkSync(at('folder'), at('named'));
    await (await openRegular(at('named', 'file'), { op: 'read', within: at('named') }))[Symbol.asyncDispose]();
  });

  it('that everybody may write into is nobody’s', async () => {
    chmodSync(at('folder'), 0o777);
    await opens(at('folder', 'absolute'));
    for (const name of ['to-ours', 'to-theirs']) {
      expect(await failure(inside(at('folder', name)))).toMatchObject({
        message: expect.stringContaining('out of a directory that can be written by every user'),
        hint: `chmod o-w ${at('folder')}`,
      });
    }
  });
});

const HEX = 'a'.repeat(64);
const signal = new AbortController().signal;

/** Name → the file that is to be replaced, and a way that leads to it. */
const WAYS: Readonly<Record<string, { readonly file: string; readonly go: () => Promise<unknown> }>> = {
  'index.json of a layout': { file: 'layout/index.json', go: () => inspect(`oci:${at('layout')}:v`) },
  'oci-layout of a layout': { file: 'layout/oci-layout', go: () => inspect(`oci:${at('layout')}:v`) },
  'oci-layout of a target': {
    file: 'layout/oci-layout',
    go: () => openStore({ transport: 'oci', path: at('layout'), ref: null }, { create: true }),
  },
  'a manifest of a layout': {
    file: `layout/blobs/sha256/${HEX}`,
    go: () => inspect(`oci:${at('layout')}:sha256:${HEX}`),
  },
  'the manifest of a directory': { file: 'image/manifest.json', go: () => inspect(`dir:${at('image')}`) },
  'the version of a directory': {
    file: 'image/version',
    go: () => openStore({ transport: 'dir', path: at('image') }, { create: true }),
  },
  'a bootstrap': { file: 'boot', go: () => inspect(`rafs:${at('boot')}`) },
  'a bootstrap that is checked': { file: 'boot', go: () => check(`rafs:${at('boot')}`) },
  'a bootstrap of a dictionary': {
    file: 'boot',
    go: async () => new ImageDict('x', await readImageBlobs(`rafs:${at('boot')}`)),
  },
  'a dictionary': { file: 'chunks.db', go: () => SqliteDict.open(at('chunks.db')) },
  'an archive of a layout': { file: 'a.tar', go: () => inspect(`oci-archive:${at('a.tar')}`) },
  'an archive of docker': { file: 'a.tar', go: () => inspect(`docker-archive:${at('a.tar')}`) },
  'a blob': { file: 'blob', go: () => readRange(fileSource(at('blob')), 0, 10, signal) },
};

describe('instead of', () => {
  describe.each(Object.entries(WAYS))('%s', (_, { file, go }) => {
    beforeEach(() => {
      for (const folder of ['layout/blobs/sha256', 'image']) mkdirSync(at(folder), { recursive: true });
      writeFileSync(at('layout/oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
      writeFileSync(at('layout/index.json'), '{"schemaVersion":2,"manifests":[]}');
      writeFileSync(at('image/manifest.json'), '{}');
      rmSync(at(file), { force: true });
    });

    it.each(things)('%s', async (thing) => {
      make(thing, at(file));
      const error = await failure(go());
      expect(['USAGE', 'FORMAT', 'SYSTEM', 'FORBIDDEN', 'SIZE_MISMATCH', 'NOT_FOUND']).toContain(error.code);
    });
  });

  it('index.json a file of 5 GB', async () => {
    mkdirSync(at('layout'));
    writeFileSync(at('layout/oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    huge(at('layout/index.json'), 5 * 2 ** 30);
    expect((await failure(inspect(`oci:${at('layout')}:v`))).code).toBe('FORMAT');
  });

  it('what docs/limits.md says is the limit', () => {
    const units: Readonly<Record<string, number>> = { KiB: 2 ** 10, MiB: 2 ** 20, members: 1 };
    const rows = readFileSync(join(checkout, 'docs/limits.md'), 'utf8').matchAll(/\| (\d+) (\w+) \| `(MAX_\w+)` \|$/gm);
    const listed = [...rows].map(([, count, unit, name]) => [name!, Number(count) * units[unit!]!] as const);
    expect(Object.fromEntries(listed)).toEqual({
      ...{ MAX_MANIFEST_SIZE, MAX_LISTED_SIZE, MAX_LAYOUT_FILE, MAX_VERSION_FILE, MAX_BOOTSTRAP_SIZE, MAX_META_SIZE },
      ...{ MAX_ARCHIVE_MEMBERS, MAX_AUTH_FILE, MAX_CERTIFICATES, MAX_CONFIG_FILE, MAX_LIST },
    });
  });

  it.each([
    ['a login', () => storedCredentials({ authFile: '/dev/zero' })('registry.example', 'x'), 'CONFIG'],
    ['the configuration', () => loadConfig('/dev/zero'), 'CONFIG'],
    ['certificates', () => readCertDir(dir), 'FORMAT'],
  ] as const)('%s something without end', async (_, go, code) => {
    symlinkSync('/dev/zero', at('ca.crt'));
    expect((await failure(go())).code).toBe(code);
  });
});
