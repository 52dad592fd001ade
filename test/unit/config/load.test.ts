import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { defaultConfig, loadConfig, parseConfig, sampleConfig } from '../../../src/config/load.ts';
import { needs } from '../../kit/skip.ts';

const failure = (source: string) => {
  try {
    parseConfig(source, 'lacuna.toml');
  } catch (error) {
    return error as { code: string; message: string; hint: string | null; subject: string };
  }
  throw new Error('accepted');
};

describe('configuration', () => {
  it('reads sizes and durations with units and keeps defaults for the rest', () => {
    const config = parseConfig('version = 1\n[fetch]\nwindow = "2MiB"\ndeadline = "1.5s"\nconnections = 3\n', 'x');
    const given = { window: 2097152, connections: 3, deadline: 1500 };
    expect(config.fetch).toEqual({ ...defaultConfig().fetch, ...given });
    expect(config.daemon).toEqual(defaultConfig().daemon);
  });

  it('suggests the key that was meant', () => {
    expect(failure('version = 1\n[fetch]\nwindows = "1MiB"\n')).toMatchObject({
      code: 'CONFIG',
      message: 'fetch.windows is not a valid key',
      hint: 'did you mean fetch.window?',
      subject: 'lacuna.toml',
    });
    expect(failure('version = 1\n[fetsh]\n').hint).toBe('did you mean fetch?');
    expect(failure('version = 1\n[log]\nlevel = "wran"\n').hint).toBe('did you mean warn?');
  });

  it.each([
    ['', 'version must be 1'],
    ['version = 2\n', 'version must be 1'],
    ['version = 1\n[fetch]\nwindow = 3\n', 'fetch.window must be a string with a unit'],
    ['version = 1\n[fetch]\nwindow = "3 parsec"\n', 'fetch.window must be a string with a unit'],
    ['version = 1\n[fetch]\nconnections = 0\n', 'fetch.connections must be a whole number of at least 1'],
    ['version = 1\n[registry]\nplain_http = "x"\n', 'registry.plain_http must be a list of strings'],
    ['version = 1\nfetch = 1\n', 'fetch must be a table'],
    ['version = 1\n[fetch]\nwindow = "1000"\n', 'fetch.window must be a string with a unit'],
    ['version = 1\n[fetch]\nwindow = "-1KiB"\n', 'fetch.window must be a string with a unit'],
    ['version = 1\n[fetch]\nwindow = "2TiB"\n', 'fetch.window must be at most "1048576KiB"'],
    ['version = 1\n[fetch]\ndeadline = "0s"\n', 'fetch.deadline must be at least "1ms"'],
    ['version = 1\n[daemon]\nthreads = 100000000\n', 'daemon.threads must be a whole number of at most 256'],
    ['version = 1\n[daemon]\nthreads = 1.5\n', 'daemon.threads must be a whole number of at least 1'],
    ['version = 1\n[log]\nlevel = "verbose"\n', 'log.level must be one of debug, info, warn, error, silent'],
  ])('refuses %j', (source, message) => {
    expect(failure(source).message).toBe(message);
  });

  it('suggests nothing that is not near, and lists what there is', () => {
    expect(failure('version = 1\n[log]\nmax_size = 1\n').hint).toBe('valid keys: level');
  });

  it('names the line of a TOML error, in one line', () => {
    expect(failure('version = \n').message).toMatch(/^line 1, column \d+: [^\n]+$/);
    expect(failure('version = 1\n[fetch\n').message).toMatch(/^line 2, column \d+: [^\n]+$/);
  });

  it('has a sample whose uncommented values are the defaults', () => {
    const uncommented = sampleConfig().replace(/^# (\w+ = )/gm, '$1');
    expect(parseConfig(uncommented, 'sample')).toEqual(defaultConfig());
  });
});

describe('a configuration file', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-config-'));
  afterAll(() => rmSync(dir, { recursive: true }));

  /** The configuration that names `ca`, as a file. */
  function naming(ca: string): string {
    const path = join(dir, 'lacuna.toml');
    writeFileSync(path, `version = 1\n[registry]\nca = ${JSON.stringify(ca)}\n`);
    return path;
  }

  it('that is not there is an error of the configuration', async () => {
    const missing = join(dir, 'none.toml');
    const message = `cannot be read: no such file or directory '${missing}'`;
    await expect(loadConfig(missing)).rejects.toMatchObject({ code: 'CONFIG', subject: missing, message });
    await expect(loadConfig(dir)).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.stringContaining('directory'),
    });
  });

  it.skipIf(needs('openssl').reason)('names certificates that are there and are some', async () => {
    const pem = join(dir, 'ca.pem');
    const request = ['req', '-x509', '-newkey', 'ed25519', '-nodes', '-subj', '/CN=x', '-keyout', join(dir, 'key')];
    execFileSync('openssl', [...request, '-out', pem], { stdio: 'ignore' });
    await expect(loadConfig(naming(pem))).resolves.toMatchObject({ registry: { ca: pem } });
    const broken = join(dir, 'broken.pem');
    writeFileSync(broken, '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n');
    const empty = join(dir, 'empty.pem');
    writeFileSync(empty, 'nothing');
    for (const [file, problem] of [
      [broken, 'certificate 1 of .* does not parse'],
      [empty, 'has no PEM certificate'],
      ['/nonexistent.pem', "cannot be read: no such file or directory '/nonexistent.pem'"],
      ['ca.pem', 'must be an absolute path'],
    ] as const) {
      const message = expect.stringMatching(`^registry\\.ca ${problem}`);
      await expect(loadConfig(naming(file)), file).rejects.toMatchObject({ code: 'CONFIG', message });
    }
  });
});
