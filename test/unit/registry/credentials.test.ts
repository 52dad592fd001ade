/** Docker's config.json, and credential helpers that are real programs. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { dockerConfigCredentials } from '../../../src/access/credentials.ts';
import { failure } from './contract.ts';

let dir: string;
const base64 = (text: string): string => Buffer.from(text).toString('base64');
const configure = (config: unknown): void => writeFileSync(join(dir, 'config.json'), JSON.stringify(config));
const ask = (host: string) => dockerConfigCredentials({ dir })(host);

/** A helper that prints `answer` for `get`, after writing what it was asked for to `asked`. */
function helper(name: string, answer: string, status = 0): void {
  const path = join(dir, `docker-credential-${name}`);
  writeFileSync(
    path,
    `#!/bin/sh
printf '%s %s' "$1" "$(cat)" > ${join(dir, 'asked')}
echo 'a secret on stderr' >&2
cat <<'END'
${answer}
END
exit ${status}
`,
  );
  chmodSync(path, 0o755);
}

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'lacuna-credentials-'));
  vi.stubEnv('PATH', `${dir}${delimiter}${process.env.PATH}`);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(dir, { recursive: true });
});

describe('auths', () => {
  test('user and password, with colons and padding', async () => {
    configure({ auths: { 'r.example': { auth: base64('ada:pass:word\0\0') } } });
    expect(await ask('r.example')).toEqual({ username: 'ada', password: 'pass:word' });
    expect(await ask('other.example')).toBeNull();
    expect(await ask('__proto__')).toBeNull();
  });

  test.each([
    ['docker.io', 'https://index.docker.io/v1/'],
    ['docker.io', 'docker.io'],
    ['r.example:5000', 'https://r.example:5000/v1/'],
    ['r.example', 'http://r.example'],
    ['r.example', 'r.example/v2/'],
  ])('%s is found as %s', async (host, key) => {
    configure({ auths: { [key]: { auth: base64('a:b') } } });
    expect(await ask(host)).toEqual({ username: 'a', password: 'b' });
  });

  test('an exact key wins', async () => {
    configure({
      auths: { 'https://r.example/v1/': { auth: base64('old:x') }, 'r.example': { auth: base64('new:x') } },
    });
    expect(await ask('r.example')).toMatchObject({ username: 'new' });
  });

  test('identity tokens, separate fields, empty entries', async () => {
    configure({
      auths: {
        token: { auth: base64('<token>:'), identitytoken: 'refresh' },
        fields: { username: 'a', password: 'b' },
        nothing: {},
      },
      HttpHeaders: { x: 'y' },
    });
    expect(await ask('token')).toEqual({ identityToken: 'refresh' });
    expect(await ask('fields')).toEqual({ username: 'a', password: 'b' });
    expect(await ask('nothing')).toBeNull();
  });

  test('a new login is seen', async () => {
    const source = dockerConfigCredentials({ dir });
    expect(await source('r.example')).toBeNull();
    configure({ auths: { 'r.example': { auth: base64('a:b') } } });
    expect(await source('r.example')).toEqual({ username: 'a', password: 'b' });
  });
});

describe('where the file is', () => {
  test('DOCKER_CONFIG, else ~/.docker', async () => {
    configure({ auths: { 'r.example': { auth: base64('a:b') } } });
    vi.stubEnv('DOCKER_CONFIG', dir);
    expect(await dockerConfigCredentials()('r.example')).toEqual({ username: 'a', password: 'b' });
    vi.stubEnv('DOCKER_CONFIG', '');
    vi.stubEnv('HOME', join(dir, 'nobody'));
    expect(await dockerConfigCredentials()('r.example')).toBeNull();
  });

  test.each([
    [
      'not JSON',
      '{"auths": {"r.example": {"auth": "c2VjcmV0"',
      /the document does not have the form that docker login writes/,
    ],
    [
      'another shape',
      '{"auths": {"r.example": {"auth": {"c2VjcmV0": 1}}}}',
      /auths\.r\.example\.auth does not have the form/,
    ],
    [
      'not base64 of a pair',
      '{"auths": {"r.example": {"auth": "c2VjcmV0"}}}',
      /the entry of r\.example in auths is not the base64 form/,
    ],
  ])('a file that is %s is an error that quotes nothing of it', async (_name, text, problem) => {
    writeFileSync(join(dir, 'config.json'), text);
    const error = await failure('CONFIG', ask('r.example'));
    expect(error.message).toMatch(problem);
    expect(error.message).toContain(join(dir, 'config.json'));
    expect(JSON.stringify([error.message, error.cause, error.stack])).not.toMatch(/c2VjcmV0|secret/);
  });

  test('a file that cannot be read', async () => {
    vi.stubEnv('DOCKER_CONFIG', '');
    rmSync(join(dir, 'config.json'), { force: true });
    writeFileSync(join(dir, 'file'), '');
    expect(await dockerConfigCredentials({ dir: join(dir, 'file') })('r.example')).toBeNull();
    await failure('CONFIG', dockerConfigCredentials({ dir: '\0' })('r.example'));
  });
});

describe('helpers', () => {
  const asked = async () => (await import('node:fs')).readFileSync(join(dir, 'asked'), 'utf8');

  test('credsStore is asked for every host, credHelpers for theirs', async () => {
    helper('store', '{"ServerURL":"x","Username":"from","Secret":"store"}');
    helper('own', '{"Username":"from","Secret":"helper"}');
    configure({ credsStore: 'store', credHelpers: { 'own.example:5000': 'own' } });
    expect(await ask('r.example')).toEqual({ username: 'from', password: 'store' });
    expect(await asked()).toBe('get r.example');
    expect(await ask('own.example:5000')).toEqual({ username: 'from', password: 'helper' });
    expect(await asked()).toBe('get own.example:5000');
  });

  test('docker.io has its old name', async () => {
    helper('store', '{"Username":"a","Secret":"b"}');
    configure({ credsStore: 'store' });
    await ask('docker.io');
    expect(await asked()).toBe('get https://index.docker.io/v1/');
  });

  test('an identity token', async () => {
    helper('store', '{"Username":"<token>","Secret":"refresh"}');
    configure({ credsStore: 'store' });
    expect(await ask('r.example')).toEqual({ identityToken: 'refresh' });
  });

  test('a helper that knows nobody leaves it to auths', async () => {
    helper('store', 'credentials not found in native keychain', 1);
    configure({ credsStore: 'store', auths: { 'r.example': { auth: base64('a:b') } } });
    expect(await ask('r.example')).toEqual({ username: 'a', password: 'b' });
    expect(await ask('other.example')).toBeNull();
  });

  test.each([
    ['fails', 'the secret is 42', 2, /exited with status 2/],
    ['answers something else', 'the secret is 42', 0, /printed credentials in an unknown form/],
    ['answers half', '{"Username":"the secret"}', 0, /printed credentials in an unknown form/],
    ['answers too much', 'the secret'.repeat(200_000), 0, /printed more than|status/],
  ])('one that %s is an error without its output', async (_name, answer, status, problem) => {
    helper('store', answer, status);
    configure({ credsStore: 'store' });
    const error = await failure('UNAUTHORIZED', ask('r.example'));
    expect(error.message).toMatch(problem);
    expect(error.subject).toBe('docker-credential-store');
    expect(JSON.stringify([error.message, error.hint, error.cause])).not.toContain('secret is');
  });

  test('one that is not installed', async () => {
    configure({ credsStore: 'not-installed' });
    expect((await failure('UNAUTHORIZED', ask('r.example'))).message).toBe(
      'docker-credential-not-installed is not on the PATH',
    );
  });

  test.each(['../../bin/sh', 'a b', '', '-x', 'a;b'])('%j is no helper', async (name) => {
    configure({ credHelpers: { 'r.example': name } });
    if (name === '') expect(await ask('r.example')).toBeNull();
    else await failure('CONFIG', ask('r.example'));
  });
});
