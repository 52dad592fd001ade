/** Logins: what podman, skopeo and docker keep is found, and what is kept here is found by skopeo. */
import { execFile } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { CredentialHelper } from '../../../src/access/credential-helper.ts';
import { storedCredentials } from '../../../src/access/credentials.ts';
import { login, logout } from '../../../src/registry/login.ts';
import { startRegistry, type TestRegistry } from '../../kit/registry.ts';
import { PASSWORD, USER } from '../../kit/registry-auth.ts';
import { needs } from '../../kit/skip.ts';
import { failure } from './contract.ts';

const run = promisify(execFile);
const base64 = (text: string): string => Buffer.from(text).toString('base64');
const entry = (name: string) => ({ auth: base64(`${name}:secret`) });
const ada = { username: USER, password: PASSWORD };

let dir: string;
const path = (...names: string[]): string => join(dir, ...names);
function put(name: string, document: unknown): string {
  mkdirSync(path(name, '..'), { recursive: true });
  writeFileSync(path(name), typeof document === 'string' ? document : JSON.stringify(document));
  return path(name);
}
const read = (name: string): unknown => JSON.parse(readFileSync(path(name), 'utf8'));

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'lacuna-login-'));
  vi.stubEnv('HOME', dir);
  vi.stubEnv('XDG_RUNTIME_DIR', path('run'));
  for (const name of ['REGISTRY_AUTH_FILE', 'XDG_CONFIG_HOME', 'DOCKER_CONFIG']) vi.stubEnv(name, '');
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(dir, { recursive: true });
});

describe('where logins are found', () => {
  const user = async (host = 'r.example', options = {}): Promise<string | null> => {
    const found = await storedCredentials(options)(host);
    return found !== null && 'username' in found ? found.username : null;
  };

  test("podman's of the session, podman's of the user, docker's: the first that has one", async () => {
    expect(await user()).toBeNull();
    put('.docker/config.json', { auths: { 'r.example': entry('docker'), 'd.example': entry('docker') } });
    expect(await user()).toBe('docker');
    put('.config/containers/auth.json', { auths: { 'r.example': entry('user') } });
    expect(await user()).toBe('user');
    put('run/containers/auth.json', { auths: { 'r.example': entry('session') } });
    expect(await user()).toBe('session');
    expect(await user('d.example')).toBe('docker');
    put('own/config.json', { auths: { 'r.example': entry('own') } });
    vi.stubEnv('DOCKER_CONFIG', path('own'));
    expect(await user()).toBe('own');
  });

  test('REGISTRY_AUTH_FILE or a named file, and no other', async () => {
    put('.docker/config.json', { auths: { 'r.example': entry('docker') } });
    vi.stubEnv('REGISTRY_AUTH_FILE', put('only.json', { auths: { 'o.example': entry('only') } }));
    expect([await user(), await user('o.example')]).toEqual([null, 'only']);
    const authFile = put('named.json', { auths: { 'r.example': entry('named') } });
    expect(await user('r.example', { authFile })).toBe('named');
    vi.stubEnv('REGISTRY_AUTH_FILE', path('absent'));
    expect(await user()).toBeNull();
    await failure('NOT_FOUND', user('r.example', { authFile: path('absent') }));
  });

  test('a key for a part of a registry: the longest that the repository begins with', async () => {
    const names = ['r.example', 'r.example/ns', 'r.example/ns/deep', 'docker.io/library'];
    put('run/containers/auth.json', {
      auths: Object.fromEntries(names.map((name) => [name, entry(name.replaceAll('/', '.'))])),
    });
    const of = async (host: string, repository: string) => await storedCredentials()(host, repository);
    expect(await of('r.example', 'ns/deep/x')).toMatchObject({ username: 'r.example.ns.deep' });
    expect(await of('r.example', 'ns/deep')).toMatchObject({ username: 'r.example.ns.deep' });
    expect(await of('r.example', 'ns/deeper')).toMatchObject({ username: 'r.example.ns' });
    expect(await of('r.example', 'nsx/y')).toMatchObject({ username: 'r.example' });
    expect(await of('docker.io', 'library/x')).toMatchObject({ username: 'docker.io.library' });
    expect(await of('docker.io', 'other/x')).toBeNull();
  });

  test('null and nothing are no logins', async () => {
    put('run/containers/auth.json', '');
    put('.config/containers/auth.json', { auths: null, credHelpers: null, credsStore: null });
    put('.docker/config.json', { auths: { 'r.example': null, 'e.example': { auth: '', identitytoken: null } } });
    expect([await user(), await user('e.example')]).toEqual([null, null]);
  });
});

describe.each(['token', 'basic'] as const)('a registry with %s authentication', (auth) => {
  let registry: TestRegistry;
  beforeEach(async () => {
    registry = await startRegistry({ auth });
    const index = Buffer.from('{"manifests":[]}');
    registry.storage.putManifest('test/image', 'application/vnd.oci.image.index.v1+json', index, 'v1');
  });
  afterEach(() => registry.close());

  test('a login is tried, and kept beside what else is in the file', async () => {
    put('.docker/config.json', { auths: { 'o.example': entry('other') }, HttpHeaders: { x: 'y' } });
    const result = await login(`http://${registry.host}/`, ada);
    expect(result).toEqual({ registry: registry.host, file: path('.docker/config.json') });
    expect(read('.docker/config.json')).toEqual({
      auths: { 'o.example': entry('other'), [registry.host]: { auth: base64(`${USER}:${PASSWORD}`) } },
      HttpHeaders: { x: 'y' },
    });
    expect(statSync(path('.docker/config.json')).mode & 0o777).toBe(0o600);
    expect(await storedCredentials()(registry.host)).toEqual(ada);
    expect(await logout(registry.host)).toEqual([result]);
    expect(read('.docker/config.json')).toEqual({ auths: { 'o.example': entry('other') }, HttpHeaders: { x: 'y' } });
    await failure('NOT_FOUND', logout(registry.host));
  });

  test('one that is refused is not kept, nor printed', async () => {
    const error = await failure('UNAUTHORIZED', login(registry.host, { username: USER, password: 'wrong-word' }));
    expect(error.message).toBe('the registry refused the user name or the password');
    expect(JSON.stringify([error, error.message, error.stack])).not.toContain('wrong-word');
    expect(existsSync(path('.docker'))).toBe(false);
  });

  test('it takes the place of the one that would be found first', async () => {
    put('run/containers/auth.json', { auths: { [registry.host]: entry('old') } });
    expect((await login(registry.host, ada)).file).toBe(path('run/containers/auth.json'));
    expect(await storedCredentials()(registry.host)).toEqual(ada);
    expect(existsSync(path('.docker'))).toBe(false);
  });

  test('a linked file stays a link, and a named one is made', async () => {
    put('dotfiles/config.json', { auths: {} });
    mkdirSync(path('.docker'));
    symlinkSync(path('dotfiles/config.json'), path('.docker/config.json'));
    await login(registry.host, ada);
    expect(read('dotfiles/config.json')).toHaveProperty(['auths', registry.host]);
    const authFile = path('new/deep/auth.json');
    expect((await login(registry.host, ada, { authFile })).file).toBe(authFile);
    expect(await storedCredentials({ authFile })(registry.host)).toEqual(ada);
  });

  test('part of a registry', async () => {
    await login(`${registry.host}/ns`, ada);
    expect(read('.docker/config.json')).toHaveProperty(['auths', `${registry.host}/ns`]);
    expect(await storedCredentials()(registry.host, 'ns/x')).toEqual(ada);
    expect(await storedCredentials()(registry.host, 'other/x')).toBeNull();
    await logout(`${registry.host}/ns`);
    expect(await storedCredentials()(registry.host, 'ns/x')).toBeNull();
  });

  test('a helper that the file names keeps it', async () => {
    const script = `#!/bin/sh
case $1 in
  store) cat > ${path('ring')} ;;
  erase) rm ${path('ring')} ;;
  get) cat > /dev/null; test -e ${path('ring')} && cat ${path('ring')} || { echo 'credentials not found in ring'; exit 1; } ;;
esac
`;
    chmodSync(put('bin/docker-credential-ring', script), 0o755);
    vi.stubEnv('PATH', `${path('bin')}${delimiter}${process.env.PATH}`);
    put('.docker/config.json', { credsStore: 'ring' });
    await login(registry.host, ada);
    expect(read('ring')).toEqual({ ServerURL: registry.host, Username: USER, Secret: PASSWORD });
    expect(read('.docker/config.json')).toEqual({ credsStore: 'ring', auths: { [registry.host]: {} } });
    expect(await storedCredentials()(registry.host)).toEqual(ada);
    await logout(registry.host);
    expect(existsSync(path('ring'))).toBe(false);
  });

  const skopeo = needs('skopeo');
  describe.skipIf(skopeo.reason)('and skopeo', () => {
    const inspect = (authFile: string) => {
      const options = ['--raw', '--tls-verify=false', '--authfile', authFile];
      return run('skopeo', ['inspect', ...options, `docker://${registry.host}/test/image:v1`]);
    };

    test('uses our login', async () => {
      const authFile = path('auth.json');
      await login(registry.host, ada, { authFile });
      expect((await inspect(authFile)).stdout).toBe('{"manifests":[]}');
      await logout(registry.host, { authFile });
      await expect(inspect(authFile)).rejects.toThrow(/unauthorized|authentication required/);
    });

    test('makes a login that is ours, and logs out of it', async () => {
      const authFile = path('auth.json');
      const options = ['--tls-verify=false', '--authfile', authFile, '-u', USER, '-p', PASSWORD, registry.host];
      await run('skopeo', ['login', ...options]);
      expect(await storedCredentials({ authFile })(registry.host)).toEqual(ada);
      expect(await logout(registry.host, { authFile })).toEqual([{ registry: registry.host, file: authFile }]);
      await expect(inspect(authFile)).rejects.toThrow(/unauthorized|authentication required/);
    });
  });
});

test('docker.io has one login, under the name that docker gives it', async () => {
  put('.docker/config.json', {
    auths: { 'docker.io': entry('a'), 'https://index.docker.io/v1/': entry('b'), 'registry-1.docker.io': entry('c') },
  });
  expect(await logout('index.docker.io')).toEqual([{ registry: 'docker.io', file: path('.docker/config.json') }]);
  expect(read('.docker/config.json')).toEqual({ auths: {} });
});

test('all logins are forgotten at once', async () => {
  put('.docker/config.json', { auths: { 'r.example': entry('a'), 'https://index.docker.io/v1/': entry('b') }, x: 1 });
  put('run/containers/auth.json', { auths: { 'r.example/ns': entry('c') } });
  const removed = await logout(null);
  expect(removed.map(({ registry }) => registry).sort()).toEqual(['docker.io', 'r.example', 'r.example/ns']);
  expect([read('.docker/config.json'), read('run/containers/auth.json')]).toEqual([{ auths: {}, x: 1 }, { auths: {} }]);
});

test.each(['', 'user:secret@host', '../..', 'a b', 'host/UP', 'r.example:tag'])(
  '%j is no registry, and is not quoted',
  async (name) => {
    const error = await failure('USAGE', login(name, ada));
    expect(error.message).toBe('not the name of a registry');
    await failure('USAGE', login('r.example', { username: 'a:b', password: 'x' }));
  },
);

test('a helper that hangs is ended, and nobody waits for one that is not there', async () => {
  const script = '#!/bin/sh\nsleep 100 & sleep 100\n';
  chmodSync(put('bin/docker-credential-slow', script), 0o755);
  vi.stubEnv('PATH', `${path('bin')}${delimiter}${process.env.PATH}`);
  const error = await failure('UNAUTHORIZED', new CredentialHelper('slow', 'config.json', 200).get('r.example'));
  expect(error.message).toBe('docker-credential-slow did not finish within 0.2 s');
  const clocks = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
  const before = clocks();
  const missing = await failure('UNAUTHORIZED', new CredentialHelper('absent', 'config.json').get('r.example'));
  expect(missing.message).toBe('docker-credential-absent is not on the PATH');
  // A clock that goes on would keep the process for a helper's whole patience.
  expect(clocks()).toBe(before);
});
