/** How the command line reaches registries: logins, proxies, certificates, and hosts that are not there. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeCertificate } from '../../kit/certificate.ts';
import { lacunaArgs } from '../../kit/lacuna.ts';
import { fixture } from '../../kit/layers.ts';
import { startProxy } from '../../kit/proxy.ts';
import { startRegistry, type TestRegistry } from '../../kit/registry.ts';
import { PASSWORD, USER } from '../../kit/registry-auth.ts';
import { needs } from '../../kit/skip.ts';

const skip = needs('dist', 'addon');
const tls = needs('dist', 'openssl');

describe.skipIf(skip.reason)('lacuna', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-access-'));
  const env = { PATH: process.env.PATH, HOME: dir, XDG_RUNTIME_DIR: join(dir, 'run') };
  const CREDS = `${USER}:${PASSWORD}`;
  let registry: TestRegistry;
  let open: TestRegistry;

  beforeAll(async () => {
    registry = await startRegistry({ auth: 'token' });
    open = await startRegistry();
    for (const it of [registry, open]) it.storage.putLayout('tame', fixture('oci', 'tame-mini'));
  });
  afterAll(async () => {
    await registry.close();
    await open.close();
    rmSync(dir, { recursive: true });
  });

  interface Input {
    readonly stdin?: string;
    readonly env?: Record<string, string>;
  }

  async function lacuna(input: Input, ...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
    const options = { stdio: 'pipe' as const, env: { ...env, ...input.env } };
    const child = spawn(process.execPath, lacunaArgs(...args), options);
    const [out, err]: [Buffer[], Buffer[]] = [[], []];
    child.stdout.on('data', (piece: Buffer) => out.push(piece));
    child.stderr.on('data', (piece: Buffer) => err.push(piece));
    child.stdin.on('error', () => {});
    // A pipe that stays open keeps nobody.
    if (input.stdin === undefined) child.stdin.end();
    else child.stdin.write(input.stdin);
    const [code] = (await once(child, 'close')) as [number];
    const [stdout, stderr] = [Buffer.concat(out).toString(), Buffer.concat(err).toString()];
    expect(stdout + stderr).not.toContain(PASSWORD);
    return { code, stdout, stderr };
  }

  const image = (it: TestRegistry): string => `docker://${it.host}/tame:tame-mini-gzip`;
  const inspect = (input: Input, ...options: string[]) => lacuna(input, 'inspect', image(registry), ...options);

  it('takes a login from options, and a password from standard input', async () => {
    expect((await inspect({})).code).toBe(4);
    expect((await inspect({}, '--creds', CREDS)).code).toBe(0);
    expect((await inspect({}, '--creds', `${USER}:wrong`)).code).toBe(4);
    expect((await inspect({ stdin: `${PASSWORD}\n` }, '--creds', USER)).code).toBe(0);
    expect((await inspect({ stdin: `${PASSWORD}\n` }, '--username', USER, '--password-stdin')).code).toBe(0);
    const without = await inspect({}, '--creds', USER);
    expect([without.code, without.stderr]).toEqual([2, expect.stringContaining('no password on standard input')]);
    expect((await inspect({}, '--username', USER)).code).toBe(2);
    expect((await inspect({}, '--creds', `:${PASSWORD}`)).code).toBe(2);
  });

  it('logs in and out', async () => {
    const authfile = ['--authfile', join(dir, 'auth.json')];
    const login = await lacuna(
      { stdin: `${PASSWORD}\n` },
      'login',
      registry.host,
      '-u',
      USER,
      '--password-stdin',
      ...authfile,
    );
    expect([login.code, login.stdout]).toEqual([
      0,
      `logged in to ${registry.host} as ${USER}; kept in ${join(dir, 'auth.json')}\n`,
    ]);
    expect((await inspect({}, ...authfile)).code).toBe(0);
    expect((await inspect({ env: { REGISTRY_AUTH_FILE: authfile[1]! } })).code).toBe(0);
    const wrong = await lacuna({}, 'login', registry.host, '-u', USER, '-p', 'wrong', ...authfile);
    expect([wrong.code, wrong.stderr]).toEqual([4, expect.stringContaining('refused the user name or the password')]);
    expect((await lacuna({}, 'logout', registry.host, ...authfile)).code).toBe(0);
    expect((await inspect({}, ...authfile)).code).toBe(4);
    expect((await lacuna({}, 'logout', registry.host, ...authfile)).code).toBe(3);
    expect((await lacuna({}, 'logout')).code).toBe(2);
  });

  it('has a login for each side of a conversion, and gives one to no other registry', async () => {
    open.requests.length = 0;
    const target = (it: TestRegistry): string => `docker://${it.host}/made:1`;
    const push = await lacuna({}, 'convert', image(open), target(registry), '--dest-creds', CREDS);
    expect(push.code, push.stderr).toBe(0);
    const pull = await lacuna({}, 'convert', image(registry), target(open), '--src-creds', CREDS);
    expect(pull.code, pull.stderr).toBe(0);
    const both = await lacuna({}, 'convert', image(registry), target(registry), '--creds', CREDS);
    expect(both.code, both.stderr).toBe(0);
    const ambiguous = await lacuna({}, 'convert', image(registry), target(open), '--creds', CREDS);
    expect([ambiguous.code, ambiguous.stderr]).toEqual([2, expect.stringContaining('--src-creds and --dest-creds')]);
    expect(open.requests.filter(({ headers }) => headers.authorization !== undefined)).toEqual([]);
    const wrongSide = await lacuna({}, 'convert', image(registry), target(open), '--dest-creds', CREDS);
    expect(wrongSide.code).toBe(4);
  });

  it('does not wait for a credential helper that is not there', async () => {
    const config = join(dir, 'helperless');
    mkdirSync(config);
    writeFileSync(join(config, 'config.json'), '{"credsStore":"desktop-of-nobody"}');
    const { code, stderr } = await inspect({ env: { DOCKER_CONFIG: config } });
    expect([code, stderr]).toEqual([
      4,
      expect.stringContaining('docker-credential-desktop-of-nobody is not on the PATH'),
    ]);
  });

  it('reports in one line that the registry does not answer', async () => {
    const gone = await startRegistry();
    await gone.close();
    const source = `oci:${fixture('oci', 'tame-mini')}:tame-mini-gzip`;
    const { code, stderr } = await lacuna({}, 'convert', source, `docker://${gone.host}/x:1`);
    expect(code).toBe(6);
    expect(stderr.trim().split('\n')).toEqual([
      expect.stringMatching(new RegExp(`^lacuna: .*${gone.host}: connection refused .*\\[UNAVAILABLE\\]$`)),
      'hint: is the registry running?',
    ]);
  });

  describe.skipIf(tls.reason)('over TLS', () => {
    const certificate = makeCertificate('r.example');
    const ca = join(dir, 'ca.pem');
    writeFileSync(ca, certificate.cert);

    it.each(['undici', 'node-fetch'])(
      'goes through a proxy, and trusts the given certificates (%s)',
      async (transport) => {
        await using secure = await startRegistry({ tls: certificate, storage: open.storage });
        await using proxy = await startProxy({ hosts: { 'r.example:443': secure.host }, auth: 'pat:secret' });
        const by = { env: { HTTPS_PROXY: `http://pat:secret@${proxy.host}` } };
        const run = (input: Input, ...options: string[]) =>
          lacuna(input, 'inspect', 'docker://r.example/tame:tame-mini-gzip', '--transport', transport, ...options);
        const trusted = await run(by, '--ca', ca);
        expect(trusted.code, trusted.stderr).toBe(0);
        expect(proxy.log).toContain('CONNECT r.example:443');
        expect((await run({ env: { ...by.env, SSL_CERT_FILE: ca } })).code).toBe(0);
        const strange = await run(by);
        expect([strange.code, strange.stderr]).toEqual([6, expect.stringContaining('--ca FILE')]);
        expect((await run(by, '--tls-verify', 'false')).code).toBe(0);
        const denied = await run({ env: { HTTPS_PROXY: `http://pat:other@${proxy.host}` } }, '--ca', ca);
        expect([denied.code, denied.stderr]).toEqual([4, expect.stringContaining('the proxy wants other credentials')]);
        expect(denied.stderr).not.toContain('pat:');
      },
    );
  });
});
