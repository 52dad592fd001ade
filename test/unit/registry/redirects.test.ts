/** Redirects: our credentials stay with the registry, signed addresses stay out of every message. */
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Descriptor } from '../../../src/image/manifest.ts';
import type { ImageStore } from '../../../src/registry/store.ts';
import { type FaultHook, startRegistry, type TestRegistry } from '../../kit/registry.ts';
import { collect, failure } from './contract.ts';
import { ada, blobRequests, keptLog, storeAt, TRANSPORTS } from './kit.ts';

const bytes = randomBytes(100_000);
const SECRET = /signature|top-secret/i;

describe.each(TRANSPORTS)('over %s', (transport) => {
  let registry: TestRegistry;
  let storage: TestRegistry;
  let store: ImageStore;
  let blob: Descriptor;
  const log = keptLog();
  const read = (offset = 0, length = 1000) => collect(store.open(blob, { offset, length }));
  const toStorage: FaultHook = (request) =>
    request.method === 'GET' && request.path.includes('/blobs/') ? { kind: 'redirect', to: storage.origin } : null;

  beforeEach(async () => {
    registry = await startRegistry({ auth: 'token', fault: toStorage });
    storage = await startRegistry({ storage: registry.storage });
    blob = registry.storage.putBlob('test/image', bytes);
    log.lines.length = 0;
    store = await storeAt(registry, { transport, log, credentials: ada });
    // So that there is a token that could leak.
    await store.has(blob);
    registry.requests.length = 0;
  });
  afterEach(async () => {
    vi.useRealTimers();
    await store[Symbol.asyncDispose]();
    await registry.close();
    await storage.close();
  });

  test('credentials do not go to another host', async () => {
    expect((await read()).equals(bytes.subarray(0, 1000))).toBe(true);
    expect(blobRequests(registry)[0]?.headers.authorization).toMatch(/^Bearer /);
    expect(blobRequests(storage)[0]?.headers.authorization).toBeUndefined();
    expect(blobRequests(storage)[0]?.headers.range).toBe('bytes=0-999');
    expect(log.lines.join('\n')).not.toMatch(SECRET);
    expect(log.lines.join('\n')).not.toMatch(/token-/);
  });

  test('nor back to the registry by way of another host', async () => {
    storage.fault = () => ({ kind: 'redirect', to: registry.origin });
    registry.fault = (request) =>
      request.nth === 1 && request.path.includes('/blobs/') ? { kind: 'redirect', to: storage.origin } : null;
    await read().catch(() => {});
    expect(blobRequests(registry).map((row) => row.headers.authorization !== undefined)).toEqual([true, false, true]);
  });

  test('the address is used again without asking the registry', async () => {
    for (let i = 0; i < 5; i++) await read(i * 1000);
    expect(blobRequests(registry)).toHaveLength(1);
    expect(blobRequests(storage)).toHaveLength(5);
    await Promise.all(Array.from({ length: 20 }, (_, i) => read(i * 1000)));
    expect(blobRequests(registry)).toHaveLength(1);
  });

  test.each([401, 403, 404])('an address that answers %d is asked for anew', async (status) => {
    await read();
    storage.fault = (request) => (request.nth === 2 ? { kind: 'status', status } : null);
    expect((await read(5000)).equals(bytes.subarray(5000, 6000))).toBe(true);
    expect(blobRequests(registry)).toHaveLength(2);
    expect(blobRequests(storage)).toHaveLength(3);
  });

  test('an address that is refused for ever is an error without its secret', async () => {
    storage.fault = () => ({ kind: 'status', status: 403, body: 'Request has expired' });
    const error = await failure('FORBIDDEN', read());
    expect(error.message).toContain(`${storage.origin}/v2/test/image/blobs/${blob.digest} answered 403`);
    expect(JSON.stringify([error, error.message, error.stack, String(error.cause)])).not.toMatch(SECRET);
  });

  test('an address whose host has gone is asked for anew', async () => {
    await read();
    await storage.close();
    registry.fault = () => null;
    expect((await read(5000)).equals(bytes.subarray(5000, 6000))).toBe(true);
    expect(log.lines.join('\n')).not.toMatch(SECRET);
  });

  test('a host that is not there is an error without the secret', async () => {
    await storage.close();
    const error = await failure('UNAVAILABLE', read());
    expect(JSON.stringify([error, error.message, error.stack, error.cause])).not.toMatch(SECRET);
    expect(log.lines.join('\n')).not.toMatch(SECRET);
  });

  test('an address is not used for longer than a minute', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    await read();
    vi.advanceTimersByTime(59_000);
    await read();
    expect(blobRequests(registry)).toHaveLength(1);
    vi.advanceTimersByTime(2000);
    await read();
    expect(blobRequests(registry)).toHaveLength(2);
  });

  test('a cut body at the storage goes on at the byte reached', async () => {
    storage.fault = (request) => (request.nth === 1 ? { kind: 'cut', after: 40_000 } : null);
    expect((await collect(store.open(blob))).equals(bytes)).toBe(true);
    expect(blobRequests(storage)[1]?.headers.range).toBe('bytes=40000-99999');
    expect(blobRequests(registry)).toHaveLength(1);
  });

  test('a circle ends', async () => {
    registry.fault = () => ({ kind: 'redirect', to: registry.origin, query: 'x' });
    expect((await failure('PROTOCOL', read())).message).toContain('more than 5 redirects');
  });

  test.each([
    ['none', {}],
    ['not HTTP', { location: 'file:///etc/passwd' }],
    ['no URL', { location: 'http://[' }],
  ])('a Location that is %s', async (_name, headers: Record<string, string>) => {
    registry.fault = () => ({ kind: 'status', status: 307, headers });
    await failure('PROTOCOL', read());
  });

  test('a user in the Location is not sent', async () => {
    const path = `/v2/test/image/blobs/${blob.digest}`;
    const location = `${storage.origin.replace('//', '//user:pass@')}${path}`;
    registry.fault = () => ({ kind: 'status', status: 302, headers: { location } });
    await read();
    expect(blobRequests(storage)[0]?.headers.authorization).toBeUndefined();
  });

  test('an upload is redirected with its method and body only', async () => {
    registry.fault = (request) =>
      request.method === 'PUT' ? { kind: 'redirect', to: storage.origin, status: 302 } : null;
    const manifest = Buffer.from('{}');
    const type = 'application/vnd.oci.image.manifest.v1+json';
    expect((await failure('PROTOCOL', store.pushManifest(manifest, type, 'x'))).message).toContain(
      'a 302 redirect of a PUT',
    );
    registry.fault = (request) =>
      request.method === 'PUT' ? { kind: 'redirect', to: storage.origin, status: 307 } : null;
    await store.pushManifest(manifest, type, 'x');
    const put = storage.requests.find((row) => row.method === 'PUT');
    expect(put?.headers.authorization).toBeUndefined();
    expect(registry.storage.repository('test/image').manifest('x')?.bytes).toEqual(manifest);
  });
});
