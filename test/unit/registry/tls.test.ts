/** HTTPS with an own authority, and the ways it must not be left. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Descriptor } from '../../../src/image/manifest.ts';
import { startRegistry, type TestRegistry } from '../../kit/registry.ts';
import { needs } from '../../kit/skip.ts';
import { collect, failure } from './contract.ts';
import { ada, blobRequests, storeAt, TRANSPORTS } from './kit.ts';

const skip = needs('openssl');

describe.skipIf(skip.reason)('a registry with a certificate of an own authority', () => {
  const bytes = Buffer.from('over TLS');
  let tls: { cert: string; key: string };
  let registry: TestRegistry;
  let plain: TestRegistry;
  let blob: Descriptor;

  beforeAll(async () => {
    const dir = mkdtempSync(join(tmpdir(), 'lacuna-tls-'));
    const [cert, key] = [join(dir, 'cert.pem'), join(dir, 'key.pem')];
    const request = [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-days',
      '1',
    ];
    execFileSync(
      'openssl',
      [...request, '-keyout', key, '-out', cert, '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'],
      { stdio: 'ignore' },
    );
    tls = { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') };
    rmSync(dir, { recursive: true });
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
      expect(error.hint).toContain('option ca');
      expect(error.retryable).toBe(false);
      expect(registry.requests).toHaveLength(0);
    });

    test('does not send anyone to plain HTTP', async () => {
      await using store = await open();
      registry.fault = (request) => (request.path.includes('/blobs/') ? { kind: 'redirect', to: plain.origin } : null);
      const error = await failure('PROTOCOL', collect(store.open(blob)));
      expect(error.message).toContain('leads from HTTPS to plain HTTP, which is refused');
      expect(blobRequests(plain)).toHaveLength(0);
      registry.fault = () => null;
    });

    test('does not get a password sent over plain HTTP', async () => {
      await using store = await open();
      const challenge = `Bearer realm="${plain.origin}/token",service="x"`;
      registry.fault = () => ({ kind: 'status', status: 401, headers: { 'www-authenticate': challenge } });
      expect((await failure('PROTOCOL', collect(store.open(blob)))).message).toContain(
        'the realm of its token server is not an HTTPS URL',
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
      expect(error.hint).toContain('plainHttp');
      expect(error.retryable).toBe(false);
    });
  });
});
