/** HTTPS with an own authority, and the ways it must not be left. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { hostCertificates, readCertDir } from '../../../src/access/cert-dir.ts';
import { readAuthorities } from '../../../src/access/tls.ts';
import type { Descriptor } from '../../../src/image/manifest.ts';
import { type Certificate, makeCertificate } from '../../kit/certificate.ts';
import { startRegistry, type TestRegistry } from '../../kit/registry.ts';
import { needs } from '../../kit/skip.ts';
import { collect, failure } from './contract.ts';
import { ada, blobRequests, storeAt, TRANSPORTS } from './kit.ts';

const skip = needs('openssl');

describe.skipIf(skip.reason)('a registry with a certificate of an own authority', () => {
  const bytes = Buffer.from('over TLS');
  let tls: Certificate;
  let registry: TestRegistry;
  let plain: TestRegistry;
  let blob: Descriptor;

  beforeAll(async () => {
    tls = makeCertificate('localhost');
    registry = await startRegistry({ tls, auth: 'token' });
    plain = await startRegistry({ storage: registry.storage });
    blob = registry.storage.putBlob('test/image', bytes);
  });
  afterAll(async () => {
    await registry.close();
    await plain.close();
  });

  beforeEach(() => {
    registry.requests.length = 0;
    plain.requests.length = 0;
  });

  describe.each(TRANSPORTS)('over %s', (transport) => {
    const open = (options = {}) =>
      storeAt(registry, { transport, credentials: ada, plainHttp: false, ca: tls.cert, ...options });

    test('is trusted when its authority is given', async () => {
      await using store = await open();
      expect(await collect(store.open(blob))).toEqual(bytes);
    });

    test('is refused when not, at once and with a hint', async () => {
      await using store = await storeAt(registry, { transport, plainHttp: false });
      const error = await failure('UNAVAILABLE', collect(store.open(blob)));
      expect(error.message).toContain('DEPTH_ZERO_SELF_SIGNED_CERT');
      expect(error.message).toContain('its certificate is not trusted');
      expect(error.hint).toContain('--ca FILE');
      expect(error.retryable).toBe(false);
      expect(registry.requests).toHaveLength(0);
    });

    test('does not send anyone to plain HTTP', async () => {
      await using store = await open();
      registry.fault = (request) => (request.path.includes('/blobs/') ? { kind: 'redirect', to: plain.origin } : null);
      const error = await failure('PROTOCOL', collect(store.open(blob)));
      expect(error.message).toContain('redirects from HTTPS to plain HTTP, which is refused');
      expect(blobRequests(plain)).toHaveLength(0);
      registry.fault = () => null;
    });

    test('does not get a password sent over plain HTTP', async () => {
      await using store = await open();
      const challenge = `Bearer realm="${plain.origin}/token",service="x"`;
      registry.fault = () => ({ kind: 'status', status: 401, headers: { 'www-authenticate': challenge } });
      expect((await failure('PROTOCOL', collect(store.open(blob)))).message).toContain(
        "the realm of the registry's token server is not an HTTPS URL",
      );
      expect(plain.requests.filter((row) => row.path === '/token')).toHaveLength(0);
      registry.fault = () => null;
    });

    test('plain HTTP may lead to HTTPS', async () => {
      await using store = await storeAt(plain, { transport, ca: tls.cert });
      await using trusted = await startRegistry({ tls, storage: registry.storage });
      plain.fault = () => ({ kind: 'redirect', to: trusted.origin });
      expect(await collect(store.open(blob))).toEqual(bytes);
      plain.fault = () => null;
    });

    test('HTTPS to a registry without it has a hint', async () => {
      await using store = await storeAt(plain, { transport, plainHttp: false });
      const error = await failure('UNAVAILABLE', collect(store.open(blob)));
      expect(error.hint).toContain('--plain-http');
      expect(error.retryable).toBe(false);
    });

    test('is believed when nobody wants it verified, and so is one without TLS', async () => {
      await using store = await storeAt(registry, { transport, credentials: ada, tlsVerify: false });
      expect(await collect(store.open(blob))).toEqual(bytes);
      await using other = await storeAt(plain, { transport, tlsVerify: false });
      expect(await collect(other.open(blob))).toEqual(bytes);
      expect(blobRequests(plain)).toHaveLength(1);
    });

    test('a loopback registry is verified when that is wanted', async () => {
      await using store = await storeAt(registry, { transport, tlsVerify: true });
      const error = await failure('UNAVAILABLE', collect(store.open(blob)));
      expect(error.message).toContain('DEPTH_ZERO_SELF_SIGNED_CERT');
    });

    test('a client certificate is shown to a registry that wants one', async () => {
      const client = makeCertificate('client.example');
      await using strict = await startRegistry({ tls, clientCa: client.cert, storage: registry.storage });
      const options = { transport, plainHttp: false, ca: tls.cert };
      await using store = await storeAt(strict, { ...options, ...client });
      expect(await collect(store.open(blob))).toEqual(bytes);
      await using nobody = await storeAt(strict, { ...options, retry: { attempts: 1 } });
      await failure('UNAVAILABLE', collect(nobody.open(blob)));
    });

    test.each([
      ['no certificate', { ca: 'nonsense' }, /no certificate in PEM form/],
      ['a key of another', { key: 'nonsense' }, /its unencrypted key/],
      ['a certificate alone', { key: undefined }, /both are needed, and one is missing/],
    ])('%s is an error of the options, and quotes nothing', async (_name, change, message) => {
      const { key, ...rest } = { ...tls, ca: tls.cert, ...change };
      const options = { transport, plainHttp: false, ...rest, ...(key === undefined ? {} : { key }) };
      await using store = await storeAt(registry, options);
      const error = await failure('CONFIG', collect(store.open(blob)));
      expect(error.message).toMatch(message);
      expect(error.message).not.toContain('nonsense');
    });
  });
});

describe.skipIf(skip.reason)('certificates in files', () => {
  const [a, b, c] = ['a.example', 'b.example', 'c.example'].map((name) => makeCertificate(name)) as [
    Certificate,
    Certificate,
    Certificate,
  ];
  let dir: string;
  const put = (name: string, text: string): string => {
    const path = join(dir, name);
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, text);
    return path;
  };
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'lacuna-certificates-'));
  });
  afterEach(() => rmSync(dir, { recursive: true }));
  const trimmed = (...list: Certificate[]): string[] => list.map(({ cert }) => cert.trim());

  test("the system's are those of the first bundle that is there, and not Node's", () => {
    const bundles = [join(dir, 'absent'), put('bundle', `# a\n${a.cert}\nrubbish\n${b.cert}`), put('later', c.cert)];
    expect(readAuthorities({}, bundles, [])).toEqual(trimmed(a, b));
  });

  test('folders where there is no bundle', () => {
    put('certs/a.pem', a.cert);
    put('certs/README', 'nothing');
    expect(readAuthorities({}, [join(dir, 'absent')], [join(dir, 'nowhere'), join(dir, 'certs')])).toEqual(trimmed(a));
  });

  test('SSL_CERT_FILE and SSL_CERT_DIR take their place, NODE_EXTRA_CA_CERTS is added', () => {
    put('one/a.pem', a.cert);
    put('two/b.pem', b.cert);
    const env = { SSL_CERT_DIR: `${join(dir, 'one')}:${join(dir, 'two')}` };
    expect(readAuthorities(env, [], [])).toEqual(trimmed(a, b));
    const file = { SSL_CERT_FILE: put('file', c.cert), NODE_EXTRA_CA_CERTS: put('extra', a.cert) };
    expect(readAuthorities(file, [put('bundle', b.cert)], [])).toEqual(trimmed(c, a));
  });

  test("Node's where the system has none", () => {
    expect(readAuthorities({}, [], [])).toEqual([...new Set(rootCertificates)]);
    const extra = put('extra', a.cert);
    expect(readAuthorities({ NODE_EXTRA_CA_CERTS: extra }, [], []).at(-1)).toBe(a.cert.trim());
  });

  test('a folder of a registry, as docker and podman have it', async () => {
    const [first, second] = [join(dir, 'podman'), join(dir, 'docker')];
    put('docker/r.example:5000/ca.crt', a.cert);
    put('docker/r.example:5000/client.cert', b.cert);
    put('docker/r.example:5000/client.key', b.key);
    expect(await hostCertificates('r.example:5000', [first, second])).toEqual({ ca: a.cert, ...b });
    expect(await hostCertificates('r.example', [first, second])).toEqual({});
    put('podman/r.example:5000/other.crt', c.cert);
    expect(await hostCertificates('r.example:5000', [first, second])).toEqual({ ca: c.cert });
    put('half/client.cert', b.cert);
    const error = await failure('CONFIG', readCertDir(join(dir, 'half')));
    expect(error.message).toContain('client.key is missing');
    await failure('NOT_FOUND', readCertDir(join(dir, 'absent')));
  });
});
