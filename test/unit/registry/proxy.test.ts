/** Proxies of the environment: which one is used, and that both transports do. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { proxyFor } from '../../../src/registry/http/proxy.ts';
import { openStore } from '../../../src/registry/open.ts';
import type { StoreOptions } from '../../../src/registry/store.ts';
import { makeCertificate } from '../../kit/certificate.ts';
import { startProxy } from '../../kit/proxy.ts';
import { startRegistry } from '../../kit/registry.ts';
import { needs } from '../../kit/skip.ts';
import { collect, failure } from './contract.ts';
import { ada, keptLog, QUICK, referenceTo, TRANSPORTS } from './kit.ts';

const PROXY = { HTTP_PROXY: 'http://plain.proxy:3128', HTTPS_PROXY: 'http://secure.proxy:3129' };
const proxyOf = (url: string, env: Record<string, string>): string | undefined => proxyFor(new URL(url), env)?.host;

describe('the choice', () => {
  test.each([
    ['https://r.example/', PROXY, 'secure.proxy:3129'],
    ['http://r.example/', PROXY, 'plain.proxy:3128'],
    ['https://r.example/', { HTTP_PROXY: 'http://plain.proxy' }, undefined],
    ['http://r.example/', { HTTPS_PROXY: 'http://secure.proxy' }, undefined],
    ['https://r.example/', { https_proxy: 'lower:1' }, 'lower:1'],
    ['https://r.example/', { HTTPS_PROXY: 'upper:1', https_proxy: 'lower:1' }, 'upper:1'],
    ['https://r.example/', { HTTPS_PROXY: '', https_proxy: 'lower:1' }, 'lower:1'],
    ['https://r.example/', { HTTPS_PROXY: 'cache.example' }, 'cache.example'],
    // A header `Proxy` of a request is no proxy of the server that runs us.
    ['http://r.example/', { ...PROXY, REQUEST_METHOD: 'GET' }, undefined],
    ['https://r.example/', { ...PROXY, REQUEST_METHOD: 'GET' }, 'secure.proxy:3129'],
    ['http://localhost:5000/', PROXY, undefined],
    ['http://127.0.0.1/', PROXY, undefined],
    ['http://127.9.9.9:80/', PROXY, undefined],
    ['http://[::1]:5000/', PROXY, undefined],
    ['http://localhost.example/', PROXY, 'plain.proxy:3128'],
  ])('%s with %j: %s', (url, env, proxy) => {
    expect(proxyOf(url, env as Record<string, string>)).toBe(proxy);
  });

  // The table of golang.org/x/net/http/httpproxy, proxy_test.go (UseProxyTests), with its NO_PROXY.
  const NO_PROXY =
    'foobar.com, .barbaz.net, *.quux.net, 192.168.1.1, 192.168.1.2:81, 192.168.1.3:80, 10.0.0.0/30, 2001:db8::52:0:1, ' +
    '[2001:db8::52:0:2]:443, [2001:db8::52:0:3]:80, 2002:db8:a::45/64, foo.example:8080';
  test.each([
    ['localhost', false],
    ['127.0.0.1', false],
    ['127.0.0.2', false],
    ['[::1]', false],
    ['[::2]', true],
    ['192.168.1.1', false],
    ['192.168.1.2', true],
    ['192.168.1.3', false],
    ['192.168.1.4', true],
    ['10.0.0.2', false],
    ['[2001:db8::52:0:1]', false],
    ['[2001:db8::52:0:2]', true],
    ['[2001:db8::52:0:3]', false],
    ['[2002:db8:a::123]', false],
    ['[fe80::424b:c8be:1643:a1b6]', true],
    ['barbaz.net', true],
    ['www.barbaz.net', false],
    ['foobar.com', false],
    ['www.foobar.com', false],
    ['foofoobar.com', true],
    ['baz.com', true],
    ['localhost.net', true],
    ['local.localhost', true],
    ['barbarbaz.net', true],
    ['quux.net', true],
    ['www.quux.net', false],
    ['foo.example', true],
    ['foo.example:8080', false],
    ['www.FOOBAR.com', false],
  ])('http://%s by a proxy: %s', (host, isProxied) => {
    const found = proxyOf(`http://${host}/`, { ...PROXY, NO_PROXY });
    expect(found !== undefined).toBe(isProxied);
  });

  test.each(['*', 'a.example,*', ' * '])('NO_PROXY %j is all', (all) => {
    expect(proxyOf('https://r.example', { ...PROXY, NO_PROXY: all })).toBeUndefined();
    expect(proxyOf('https://192.0.2.1', { ...PROXY, no_proxy: all })).toBeUndefined();
  });

  test.each([
    ['http://:::', 'CONFIG', 'HTTPS_PROXY is not the URL of a proxy'],
    ['http://u:secret%zz@h:1', 'CONFIG', 'HTTPS_PROXY has a % in its user or password'],
    ['socks5://u:secret@h:1', 'UNSUPPORTED', 'HTTPS_PROXY names a socks5 proxy'],
  ])('%s is refused without quoting it', async (text, code, problem) => {
    const attempt = async (): Promise<unknown> => proxyFor(new URL('https://r.example'), { HTTPS_PROXY: text });
    const error = await failure(code as 'CONFIG', attempt());
    expect(error.message).toContain(problem);
    expect(JSON.stringify(error)).not.toContain('secret');
  });
});

const skip = needs('openssl');

describe.skipIf(skip.reason).each(TRANSPORTS)('over %s', (transport) => {
  const bytes = Buffer.from('behind a proxy');
  const certificate = makeCertificate('r.example');
  const open = (options: StoreOptions = {}) =>
    openStore(referenceTo('r.example'), { transport, retry: QUICK, ca: certificate.cert, ...options });

  beforeEach(() => {
    for (const name of ['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'http_proxy', 'https_proxy', 'no_proxy']) {
      vi.stubEnv(name, '');
    }
  });
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  test('HTTPS goes through a tunnel, with the proxy’s own password', async () => {
    await using registry = await startRegistry({ tls: certificate });
    await using proxy = await startProxy({ hosts: { 'r.example:443': registry.host }, auth: 'pat:s%cret' });
    const blob = registry.storage.putBlob('test/image', bytes);
    vi.stubEnv('HTTPS_PROXY', `http://pat:s%25cret@${proxy.host}`);
    const log = keptLog();
    await using store = await open({ log });
    expect(await collect(store.open(blob))).toEqual(bytes);
    expect(proxy.log).toEqual(['CONNECT r.example:443']);
    expect(registry.requests.map(({ headers }) => headers['proxy-authorization'])).toEqual([undefined]);
    expect(log.lines.join()).not.toMatch(/s%|cret/);
  });

  test('plain HTTP is sent to it whole, tokens and pushes too', async () => {
    await using registry = await startRegistry({ auth: 'token' });
    const challenge = 'Bearer realm="http://r.example/token",service="test, registry"';
    registry.fault = ({ path, headers }) =>
      path === '/token' || headers.authorization !== undefined
        ? null
        : { kind: 'status', status: 401, headers: { 'www-authenticate': challenge } };
    await using proxy = await startProxy({ hosts: { 'r.example:80': registry.host }, auth: 'pat:secret' });
    vi.stubEnv('http_proxy', `pat:secret@${proxy.host}`);
    await using store = await open({ plainHttp: true, credentials: ada });
    const upload = await store.upload();
    await upload.write(bytes);
    const blob = registry.storage.putBlob('elsewhere', bytes);
    await upload.commit(blob.digest, blob.size);
    expect(await collect(store.open(blob))).toEqual(bytes);
    expect(proxy.log[0]).toMatch(/^POST http:\/\/r\.example\/v2\/test\/image\/blobs\/uploads\//);
    expect(proxy.log.some((line) => line.startsWith('GET http://r.example/token?'))).toBe(true);
    expect(proxy.log).toHaveLength(registry.requests.length);
  });

  test.each([
    ['another password', { auth: 'pat:other' }, 'UNAUTHORIZED', /the proxy refused the credentials, or requires some/],
    ['a host that it forbids', { refuse: 403 }, 'FORBIDDEN', /through the proxy .*: the proxy answered 403/],
    ['a host that it does not reach', { refuse: 503 }, 'UNAVAILABLE', /the proxy answered 503/],
  ] as const)('%s is an error that names the proxy and no password', async (_name, options, code, message) => {
    await using proxy = await startProxy({ hosts: {}, ...options });
    vi.stubEnv('HTTPS_PROXY', `http://pat:secret@${proxy.host}`);
    await using store = await open();
    const error = await failure(code, store.resolve('latest'));
    expect(error.message).toMatch(message);
    expect(error.message).toContain(proxy.host);
    expect(JSON.stringify([error.message, error.hint, error.stack])).not.toContain('secret');
  });

  test('another password for plain HTTP', async () => {
    await using proxy = await startProxy({ hosts: {}, auth: 'pat:other' });
    vi.stubEnv('HTTP_PROXY', `http://pat:secret@${proxy.host}`);
    await using store = await open({ plainHttp: true });
    const error = await failure('UNAUTHORIZED', store.resolve('latest'));
    expect(error.message).toContain('407');
    expect(error.hint).toContain('USER:PASSWORD@HOST');
  });

  test('a proxy that is down, or silent', async () => {
    const proxy = await startProxy({ hosts: {} });
    await proxy[Symbol.asyncDispose]();
    vi.stubEnv('HTTPS_PROXY', `http://${proxy.host}`);
    await using store = await open();
    const error = await failure('UNAVAILABLE', store.resolve('latest'));
    expect(error.message).toContain(`r.example through the proxy ${proxy.host}: connection refused`);
    expect(error.hint).toContain('HTTPS_PROXY');

    await using silent = await startProxy({ hosts: {}, isSilent: true });
    vi.stubEnv('HTTPS_PROXY', `http://${silent.host}`);
    await using waiting = await open({ timeouts: { connect: 100 } });
    await failure('TIMEOUT', waiting.resolve('latest'));
    expect(silent.log).toEqual(['CONNECT r.example:443']);
  });

  test('redirects follow the rules of their own host', async () => {
    await using registry = await startRegistry();
    await using proxy = await startProxy({ hosts: { 'r.example:80': registry.host } });
    const blob = registry.storage.putBlob('test/image', bytes);
    registry.fault = ({ headers }) => (headers.host === 'r.example' ? { kind: 'redirect', to: registry.origin } : null);
    vi.stubEnv('HTTP_PROXY', `http://${proxy.host}`);
    await using store = await open({ plainHttp: true });
    expect(await collect(store.open(blob))).toEqual(bytes);
    expect(proxy.log).toEqual([`GET http://r.example/v2/test/image/blobs/${blob.digest}`]);
    expect(registry.requests).toHaveLength(2);
  });
});
