/** Who we are: tokens and their lives, Basic, and what is said when nobody lets us in. */
import { randomBytes } from 'node:crypto';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { Descriptor } from '../../../src/image/manifest.ts';
import { parseChallenges } from '../../../src/registry/http/challenge.ts';
import type { ImageStore, StoreOptions } from '../../../src/registry/store.ts';
import { type RegistryOptions, startRegistry, type TestRegistry } from '../../kit/registry.ts';
import { IDENTITY_TOKEN, PASSWORD } from '../../kit/registry-auth.ts';
import { collect, failure, push, pushImage } from './contract.ts';
import { ada, keptLog, QUICK, storeAt, TRANSPORTS } from './kit.ts';

describe('challenges', () => {
  test.each<[header: string, challenges: [string, Record<string, string>][]]>([
    ['', []],
    ['Basic realm="x"', [['basic', { realm: 'x' }]]],
    [
      'Bearer realm="https://a/t",service="b, c",scope="d:e:f"',
      [['bearer', { realm: 'https://a/t', service: 'b, c', scope: 'd:e:f' }]],
    ],
    [
      'Basic realm="a", Bearer realm="b"',
      [
        ['basic', { realm: 'a' }],
        ['bearer', { realm: 'b' }],
      ],
    ],
    ['BEARER Realm = b , service=c', [['bearer', { realm: 'b', service: 'c' }]]],
    ['Bearer realm="a\\"b\\\\c"', [['bearer', { realm: 'a"b\\c' }]]],
    [
      'Negotiate, Basic',
      [
        ['negotiate', {}],
        ['basic', {}],
      ],
    ],
    ['=,="x" ,,', [['x', {}]]],
  ])('%s', (header, challenges) => {
    expect(parseChallenges(header).map((one) => [one.scheme, Object.fromEntries(one.parameters)])).toEqual(challenges);
  });

  test('a hostile header is answered at once', () => {
    const began = performance.now();
    for (const part of ['a', '"', '\\', 'a=', 'a="', ' ', ',']) parseChallenges(`Bearer ${part.repeat(16_000)}`);
    expect(performance.now() - began).toBeLessThan(500);
  });
});

describe.each(TRANSPORTS)('over %s', (transport) => {
  const opened: AsyncDisposable[] = [];
  const log = keptLog();
  let registry: TestRegistry;
  let blob: Descriptor;
  const bytes = randomBytes(50_000);

  const setUp = async (registryOptions: RegistryOptions, options: StoreOptions = {}): Promise<ImageStore> => {
    registry = await startRegistry(registryOptions);
    blob = registry.storage.putBlob('test/image', bytes);
    const store = await storeAt(registry, { transport, log, credentials: ada, ...options });
    opened.push(store, registry);
    return store;
  };
  const read = (store: ImageStore, offset = 0) => collect(store.open(blob, { offset, length: 1000 }));
  const count = (path: RegExp): number => registry.requests.filter((row) => path.test(row.path)).length;

  afterEach(async () => {
    vi.useRealTimers();
    expect(log.lines.join('\n')).not.toMatch(/correct:horse|token-|identity-token|Basic /);
    log.lines.length = 0;
    for (const one of opened.splice(0)) await one[Symbol.asyncDispose]();
  });

  test('one token for many reads', async () => {
    const store = await setUp({ auth: 'token' });
    await Promise.all(Array.from({ length: 20 }, (_, i) => read(store, i * 1000)));
    expect(registry.auth.issued).toBe(1);
    await read(store);
    expect(registry.auth.issued).toBe(1);
    const token = registry.requests.find((row) => row.path === '/token');
    expect(new URLSearchParams(token?.query).getAll('scope')).toEqual(['repository:test/image:pull']);
    expect(new URLSearchParams(token?.query).get('service')).toBe('test, registry');
  });

  test('a 401 in the middle: one new token, however many reads need it', async () => {
    const store = await setUp({ auth: 'token' });
    await read(store);
    registry.auth.expireTokens();
    const reads = Array.from({ length: 20 }, (_, i) => read(store, i * 1000));
    for (const [i, part] of (await Promise.all(reads)).entries()) {
      expect(part.equals(bytes.subarray(i * 1000, i * 1000 + 1000))).toBe(true);
    }
    expect(registry.auth.issued).toBe(2);
  });

  test('a body that is cut after its token has expired goes on with a new one', async () => {
    const store = await setUp({ auth: 'token' });
    await read(store);
    registry.fault = (request) => {
      if (!request.path.includes('/blobs/') || request.nth !== 3) return null;
      setTimeout(() => registry.auth.expireTokens(), 0);
      return { kind: 'cut', after: 20_000 };
    };
    expect((await collect(store.open(blob))).equals(bytes)).toBe(true);
    expect(registry.auth.issued).toBeGreaterThanOrEqual(2);
  });

  test.each<[lifetime: number | null, usable: number]>([
    [100, 90_000],
    [null, 54_000],
  ])('a token of %s s is used for %d ms', async (tokenLifetime, usable) => {
    vi.useFakeTimers({ toFake: ['performance'] });
    const store = await setUp({ auth: 'token', tokenLifetime });
    await read(store);
    vi.advanceTimersByTime(usable - 1000);
    await read(store);
    expect(registry.auth.issued).toBe(1);
    vi.advanceTimersByTime(2000);
    await read(store);
    expect(registry.auth.issued).toBe(2);
    // Refreshed in time: the registry had to refuse only the very first request.
    expect(registry.requests.filter((row) => row.status === 401)).toHaveLength(1);
  });

  test('pushing asks for more than pulling', async () => {
    const store = await setUp({ auth: 'token' });
    await read(store);
    await pushImage(store, null);
    const scopes = registry.requests
      .filter((row) => row.path === '/token')
      .map((row) => new URLSearchParams(row.query).get('scope'));
    expect(scopes).toEqual(['repository:test/image:pull', 'repository:test/image:pull,push']);
  });

  test('an identity token is exchanged by POST', async () => {
    const store = await setUp({ auth: 'token' }, { credentials: async () => ({ identityToken: IDENTITY_TOKEN }) });
    expect(await read(store)).toHaveLength(1000);
    const token = registry.requests.find((row) => row.path === '/token');
    expect([token?.method, token?.query, token?.headers.authorization]).toEqual(['POST', '', undefined]);
  });

  test('strangers pull where they may, and are told where they may not', async () => {
    const store = await setUp({ auth: 'token', anonymousPull: true }, { credentials: async () => null });
    expect(await read(store)).toHaveLength(1000);
    const error = await failure('UNAUTHORIZED', push(store, Buffer.from('x')));
    expect(error.message).toContain('credentials are required, and there are none for this registry');
    expect(error.hint).toContain(`lacuna login ${registry.host}`);
    expect(error.subject).toBe(registry.host);
  });

  test.each(['token', 'basic'] as const)('a wrong password (%s)', async (auth) => {
    const store = await setUp({ auth }, { credentials: async () => ({ username: 'ada', password: 'wrong-password' }) });
    const error = await failure('UNAUTHORIZED', read(store));
    expect(error.hint).toContain('docker login');
    expect(JSON.stringify([error, error.message, error.stack])).not.toContain('wrong-password');
    expect(registry.requests.length).toBeLessThanOrEqual(2);
  });

  test('no credentials for Basic', async () => {
    const store = await setUp({ auth: 'basic' }, { credentials: async () => null });
    expect((await failure('UNAUTHORIZED', read(store))).message).toContain(
      'credentials are required, and there are none for this registry',
    );
    const other = await setUp({ auth: 'basic' }, { credentials: async () => ({ identityToken: 'x' }) });
    expect((await failure('UNAUTHORIZED', read(other))).message).toContain('a password is required');
  });

  test('Basic credentials are sent at once after the first time', async () => {
    const store = await setUp({ auth: 'basic' });
    await read(store);
    await read(store);
    expect(registry.requests.map((row) => row.status)).toEqual([401, 206, 206]);
  });

  test('credentials that cannot be read', async () => {
    const store = await setUp(
      { auth: 'basic' },
      { credentials: () => Promise.reject(new Error(`broken ${PASSWORD}`)) },
    );
    await expect(read(store)).rejects.toThrow('broken');
  });

  test.each<[name: string, headers: Record<string, string>, text: string]>([
    ['nothing', {}, 'does not say how to authenticate'],
    ['another scheme', { 'www-authenticate': 'Negotiate' }, 'unsupported authentication scheme'],
  ])('a 401 with %s', async (_name, headers, text) => {
    const store = await setUp({});
    registry.fault = () => ({ kind: 'status', status: 401, headers });
    expect((await failure('UNAUTHORIZED', read(store))).message).toContain(text);
    expect(registry.requests).toHaveLength(1);
  });

  test('a realm that is no URL', async () => {
    const store = await setUp({});
    registry.fault = () => ({ kind: 'status', status: 401, headers: { 'www-authenticate': 'Bearer realm="x"' } });
    await failure('PROTOCOL', read(store));
  });

  describe('the token server', () => {
    test.each<[name: string, body: string]>([
      ['nothing', ''],
      ['no JSON', 'secret-token'],
      ['no token', '{"expires_in":300}'],
      ['an empty token', '{"token":""}'],
      ['a token with a line break', '{"token":"secret-token\\r\\nX-Header: 1"}'],
      ['a token that is a number', '{"token":1}'],
    ])('that answers %s', async (_name, body) => {
      const store = await setUp({ auth: 'token' });
      registry.fault = (request) => (request.path === '/token' ? { kind: 'status', status: 200, body } : null);
      const error = await failure('PROTOCOL', read(store));
      expect(error.message).toContain('/token has no usable token');
      expect(JSON.stringify([error, error.message, error.stack])).not.toContain('secret-token');
    });

    test.each<[name: string, answer: (token: string) => object, usable: number]>([
      ['a null token beside access_token', (token) => ({ token: null, access_token: token, expires_in: 300 }), 270_000],
      ['an empty token beside it', (token) => ({ token: '', access_token: token }), 54_000],
      ['a token that is a number beside it', (token) => ({ token: 7, access_token: token }), 54_000],
      [
        'null beside the token',
        (token) => ({ token, access_token: null, refresh_token: null, expires_in: null }),
        54_000,
      ],
      ['both', (token) => ({ token, access_token: token, expires_in: 300, issued_at: 1780000000 }), 270_000],
      ['a lifetime of 0', (token) => ({ token, expires_in: 0 }), 54_000],
      ['a negative one', (token) => ({ token, expires_in: -1 }), 54_000],
      ['a fraction', (token) => ({ token, expires_in: 299.5 }), 269_550],
      ['a string', (token) => ({ token, expires_in: '300' }), 270_000],
      ['a word', (token) => ({ token, expires_in: 'soon' }), 54_000],
      ['an object', (token) => ({ token, expires_in: {} }), 54_000],
      ['ages', (token) => ({ token, expires_in: 1e12 }), 54_000],
    ])('that answers %s', async (_name, answer, usable) => {
      vi.useFakeTimers({ toFake: ['performance'] });
      const store = await setUp({ auth: 'token', tokenAnswer: answer });
      expect(await read(store)).toHaveLength(1000);
      vi.advanceTimersByTime(usable - 1000);
      await read(store);
      expect(registry.auth.issued).toBe(1);
      vi.advanceTimersByTime(2000);
      await read(store);
      expect(registry.auth.issued).toBe(2);
    });

    test('whose realm has a query of its own, and no service', async () => {
      const store = await setUp({ auth: 'token', realmQuery: '?account=a&service=mine', service: null });
      expect(await read(store)).toHaveLength(1000);
      const query = new URLSearchParams(registry.requests.find((row) => row.path === '/token')?.query);
      expect([...query]).toEqual([
        ['account', 'a'],
        ['service', 'mine'],
        ['scope', 'repository:test/image:pull'],
      ]);
    });

    test('that redirects is followed at its own host only', async () => {
      const store = await setUp({ auth: 'token' });
      const other = await startRegistry({ auth: 'token' });
      opened.push({ [Symbol.asyncDispose]: () => other.close() });
      let origin = registry.origin;
      registry.fault = ({ path, query, nth }) =>
        path === '/token' && nth === 1
          ? { kind: 'status', status: 307, headers: { location: `${origin}/token?${query.replace(/^\?/, '')}` } }
          : null;
      expect(await read(store)).toHaveLength(1000);
      expect(count(/^\/token$/)).toBe(2);
      registry.auth.expireTokens();
      registry.requests.length = 0;
      origin = other.origin;
      const error = await failure('PROTOCOL', read(store, 1000));
      expect(error.message).toContain(
        `redirects to ${new URL(other.origin).host}, and credentials are not sent to another host`,
      );
      expect(other.requests).toEqual([]);
    });

    test('a part of the registry that is closed does not close the rest', async () => {
      const store = await setUp({}, { credentials: async () => null });
      registry.fault = (request) =>
        request.path.includes('/referrers/')
          ? { kind: 'status', status: 401, headers: { 'www-authenticate': 'Basic realm="x"' } }
          : null;
      expect(await store.referrers(blob.digest, null)).toEqual([]);
      expect(await read(store)).toHaveLength(1000);
    });

    test('that answers more than 1 MiB', async () => {
      const store = await setUp({ auth: 'token' });
      const body = `{"token":"${'x'.repeat(1024 * 1024)}"}`;
      registry.fault = (request) => (request.path === '/token' ? { kind: 'status', status: 200, body } : null);
      expect((await failure('PROTOCOL', read(store))).message).toContain('more than 1048576 bytes');
    });

    test('that fails at first', async () => {
      const store = await setUp({ auth: 'token' });
      registry.fault = (request) =>
        request.path === '/token' && request.nth < 3 ? { kind: 'status', status: 503 } : null;
      expect(await read(store)).toHaveLength(1000);
    });

    test('that fails for ever', async () => {
      const store = await setUp({ auth: 'token' });
      registry.fault = (request) => (request.path === '/token' ? { kind: 'drop' } : null);
      await failure('UNAVAILABLE', read(store));
      expect(count(/token/)).toBe(QUICK.attempts);
    });

    test('that redirects is not followed with our password', async () => {
      const store = await setUp({ auth: 'token' });
      registry.fault = (request) => (request.path === '/token' ? { kind: 'redirect', to: 'http://localhost:1' } : null);
      await failure('PROTOCOL', read(store));
    });

    test('one who gives up does not end the others’ wait', async () => {
      const store = await setUp({ auth: 'token' });
      registry.fault = (request) => (request.path === '/token' ? { kind: 'delay', ms: 100 } : null);
      const impatient = failure('ABORTED', collect(store.open(blob, { signal: abortedIn(50) })));
      const patient = read(store);
      await impatient;
      expect(await patient).toHaveLength(1000);
      expect(registry.auth.issued).toBe(1);
    });
  });
});

function abortedIn(ms: number): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), ms);
  return controller.signal;
}
