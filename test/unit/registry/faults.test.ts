/** Reading from a registry that goes wrong: every fault ends in the right bytes or in the right error. */
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ErrorCode, LacunaError } from '../../../src/errors.ts';
import type { Descriptor } from '../../../src/image/manifest.ts';
import { MEDIA } from '../../../src/image/media.ts';
import { contentLength, type RegistryResponse } from '../../../src/registry/http/response.ts';
import type { ImageStore, StoreOptions } from '../../../src/registry/store.ts';
import { startRegistry, type TestRegistry } from '../../kit/registry.ts';
import type { Fault } from '../../kit/registry-faults.ts';
import { collect, failure, manifestOf } from './contract.ts';
import { blobRequests, keptLog, QUICK, storeAt, TRANSPORTS } from './kit.ts';

const SIZE = 1_000_000;
const bytes = randomBytes(SIZE);
const REPOSITORY = 'test/image';

describe.each(TRANSPORTS)('over %s', (transport) => {
  let registry: TestRegistry;
  let store: ImageStore;
  let blob: Descriptor;
  const log = keptLog();

  const open = async (options: StoreOptions = {}): Promise<ImageStore> => {
    await store?.[Symbol.asyncDispose]();
    store = await storeAt(registry, { transport, log, ...options });
    return store;
  };
  /** The first `times` answers about blobs are spoilt. */
  const spoilBlobs = (fault: Fault, times = 1): void => {
    registry.fault = (request) =>
      request.path.includes('/blobs/') && blobRequests(registry).length <= times ? fault : null;
  };
  const readAll = () => collect(store.open(blob));
  const read = (offset: number, length: number) => collect(store.open(blob, { offset, length }));
  const ranges = () => blobRequests(registry).map((row) => row.headers.range ?? null);

  beforeEach(async () => {
    registry = await startRegistry();
    blob = registry.storage.putBlob(REPOSITORY, bytes);
    log.lines.length = 0;
    await open();
  });
  afterEach(async () => {
    await store[Symbol.asyncDispose]();
    await registry.close();
  });

  describe('200 to a Range request', () => {
    test('the range is cut out of the whole blob, with one warning', async () => {
      spoilBlobs({ kind: 'ignore-range' }, 99);
      expect((await read(123_456, 1000)).equals(bytes.subarray(123_456, 124_456))).toBe(true);
      expect((await read(SIZE - 7, 7)).equals(bytes.subarray(SIZE - 7))).toBe(true);
      expect((await read(0, 1)).equals(bytes.subarray(0, 1))).toBe(true);
      expect(log.lines.filter((line) => line.includes('ignores the Range header'))).toHaveLength(1);
    });

    test('of another size than the blob’s is an error', async () => {
      registry.fault = () => ({ kind: 'status', status: 200, body: 'short' });
      expect((await failure('SIZE_MISMATCH', read(10, 10))).message).toContain('should have 1000000 bytes and has 5');
    });

    test('after a cut body, too', async () => {
      registry.fault = (request) => (request.nth === 1 ? { kind: 'cut', after: 300_000 } : { kind: 'ignore-range' });
      expect((await readAll()).equals(bytes)).toBe(true);
    });
  });

  describe('a cut body', () => {
    test('of a whole read goes on at the byte reached', async () => {
      spoilBlobs({ kind: 'cut', after: 400_000 });
      expect((await readAll()).equals(bytes)).toBe(true);
      expect(ranges()).toEqual([null, `bytes=400000-${SIZE - 1}`]);
    });

    test('of a ranged read goes on at the byte reached', async () => {
      spoilBlobs({ kind: 'cut', after: 1000 });
      expect((await read(5000, 50_000)).equals(bytes.subarray(5000, 55_000))).toBe(true);
      expect(ranges()).toEqual(['bytes=5000-54999', 'bytes=6000-54999']);
    });

    test('counts no tries while it gets on', async () => {
      spoilBlobs({ kind: 'cut', after: 70_000 }, 10);
      expect((await readAll()).equals(bytes)).toBe(true);
      expect(blobRequests(registry)).toHaveLength(11);
    });

    test('that drips is given up', async () => {
      spoilBlobs({ kind: 'cut', after: 10 }, 99);
      const error = await failure('UNAVAILABLE', readAll());
      expect(error.retryable).toBe(true);
      expect(blobRequests(registry)).toHaveLength(QUICK.attempts);
    });

    test('of a manifest: it is asked for again', async () => {
      const manifest = registry.storage.putManifest(REPOSITORY, MEDIA.ociManifest, manifestOf(blob, [blob]), 'latest');
      registry.fault = (request) => (request.nth === 1 ? { kind: 'cut', after: 20 } : null);
      expect(await store.resolve(null)).toEqual(manifest);
      expect(registry.requests).toHaveLength(2);
    });
  });

  describe('wrong bytes', () => {
    test('of a whole read: the last piece does not come', async () => {
      spoilBlobs({ kind: 'wrong-bytes' }, 99);
      let got = 0;
      const reading = async (): Promise<void> => {
        for await (const piece of store.open(blob)) got += piece.length;
      };
      const error = await failure('DIGEST_MISMATCH', reading());
      expect(error.message).toContain(blob.digest);
      expect(error.message).toContain('hash to sha256:');
      expect(error.retryable).toBe(false);
      expect(got).toBeLessThan(SIZE);
      expect(blobRequests(registry)).toHaveLength(1);
    });

    test('when the caller verifies, they are the caller’s', async () => {
      spoilBlobs({ kind: 'wrong-bytes', at: 5 });
      const read = await collect(store.open(blob, { verify: false }));
      expect(read.equals(bytes)).toBe(false);
      expect(read).toHaveLength(SIZE);
    });

    test('of a manifest', async () => {
      const manifest = registry.storage.putManifest(REPOSITORY, MEDIA.ociManifest, manifestOf(blob, [blob]), 'latest');
      registry.fault = () => ({ kind: 'wrong-bytes', at: 1 });
      await failure('DIGEST_MISMATCH', store.resolve('latest'));
      await failure('DIGEST_MISMATCH', store.resolve(manifest.digest));
      await failure('DIGEST_MISMATCH', store.manifest(manifest));
    });

    test('of a config', async () => {
      const config = registry.storage.putBlob(REPOSITORY, Buffer.from('{"a":"b"}'), MEDIA.ociConfig);
      registry.fault = () => ({ kind: 'wrong-bytes', at: 3 });
      await failure('DIGEST_MISMATCH', store.manifest(config));
    });
  });

  describe('statuses', () => {
    const cases: [status: number, code: ErrorCode, requests: number][] = [
      [400, 'PROTOCOL', 1],
      [403, 'FORBIDDEN', 1],
      [404, 'NOT_FOUND', 1],
      [410, 'NOT_FOUND', 1],
      [408, 'TIMEOUT', QUICK.attempts],
      [416, 'SIZE_MISMATCH', 1],
      [418, 'PROTOCOL', 1],
      [429, 'RATE_LIMITED', QUICK.attempts],
      [500, 'UNAVAILABLE', QUICK.attempts],
      [501, 'UNSUPPORTED', 1],
      [502, 'UNAVAILABLE', QUICK.attempts],
      [503, 'UNAVAILABLE', QUICK.attempts],
      [504, 'UNAVAILABLE', QUICK.attempts],
      [304, 'PROTOCOL', 1],
      [299, 'PROTOCOL', 1],
    ];
    test.each(cases)('%d for ever is %s', async (status, code, requests) => {
      const body = '{"errors":[{"code":"MADE_UP","message":"so\\u001b[31m\\nit is"}]}';
      spoilBlobs({ kind: 'status', status, body }, 99);
      const error = await failure(code, read(10, 10));
      expect(blobRequests(registry)).toHaveLength(requests);
      expect(error.op).toBe('read');
      expect(error.subject).not.toBeNull();
      if (status >= 400 && status !== 416)
        expect(error.message).toContain(`answered ${status}: MADE_UP (so\\u001b[31m it is)`);
    });

    test.each([429, 500, 502, 503, 504, 408])('%d once is survived', async (status) => {
      spoilBlobs({ kind: 'status', status });
      expect((await read(10, 10)).equals(bytes.subarray(10, 20))).toBe(true);
      expect(log.lines.some((line) => line.startsWith('request failed, retrying'))).toBe(true);
    });

    test('Retry-After is waited for', async () => {
      spoilBlobs({ kind: 'status', status: 429, headers: { 'retry-after': '1' } });
      const began = Date.now();
      await read(10, 10);
      expect(Date.now() - began).toBeGreaterThanOrEqual(990);
    });

    test('Retry-After as a date is waited for', async () => {
      const at = new Date(Date.now() + 2000);
      spoilBlobs({ kind: 'status', status: 503, headers: { 'retry-after': at.toUTCString() } });
      await read(10, 10);
      expect(Date.now()).toBeGreaterThanOrEqual(Math.floor(at.getTime() / 1000) * 1000);
    });

    test('a Retry-After beyond patience is an error at once', async () => {
      spoilBlobs({ kind: 'status', status: 429, headers: { 'retry-after': '3600' } }, 99);
      const error = await failure('RATE_LIMITED', read(10, 10));
      expect(error.hint).toContain('log in');
      expect(blobRequests(registry)).toHaveLength(1);
    });

    test.each([
      ['a page', '<html>oh no</html>'],
      ['100 kB', 'x'.repeat(100_000)],
      ['a deep document', '['.repeat(60_000)],
      ['errors that are none', '{"errors":[null,1,{}]}'],
    ])('an error body that is %s', async (_name, body) => {
      spoilBlobs({ kind: 'status', status: 404, body });
      expect((await failure('NOT_FOUND', read(10, 10))).message).toMatch(/answered 404$/);
    });
  });

  describe('silence', () => {
    test('a closed connection is tried again', async () => {
      spoilBlobs({ kind: 'drop' }, 2);
      expect((await read(10, 10)).equals(bytes.subarray(10, 20))).toBe(true);
    });

    test('no answer is a TIMEOUT, and tried again', async () => {
      await open({ timeouts: { headers: 100, connect: 100 }, retry: { ...QUICK, attempts: 2 } });
      spoilBlobs({ kind: 'hang' });
      expect((await read(10, 10)).equals(bytes.subarray(10, 20))).toBe(true);
      registry.fault = () => ({ kind: 'hang' });
      await failure('TIMEOUT', read(10, 10));
    });

    test('a body that stalls goes on at the byte reached', async () => {
      await open({ timeouts: { body: 100 } });
      spoilBlobs({ kind: 'stall', after: 100_000 });
      expect((await readAll()).equals(bytes)).toBe(true);
      expect(ranges()).toEqual([null, `bytes=100000-${SIZE - 1}`]);
    });

    test('nobody there', async () => {
      await registry.close();
      const error = await failure('UNAVAILABLE', read(10, 10));
      expect(error.message).toContain('ECONNREFUSED');
      expect(error.hint).toBe('is the registry running?');
    });

    test('an abort while waiting ends the wait', async () => {
      spoilBlobs({ kind: 'hang' }, 99);
      const controller = new AbortController();
      setTimeout(() => controller.abort(), 30);
      await failure('ABORTED', collect(store.open(blob, { signal: controller.signal })));
      await failure('TIMEOUT', collect(store.open(blob, { signal: AbortSignal.timeout(30) })));
      await open({ retry: { minDelay: 60_000, maxDelay: 60_000 } });
      registry.fault = () => ({ kind: 'status', status: 503 });
      await failure('TIMEOUT', collect(store.open(blob, { signal: AbortSignal.timeout(50) })));
    });
  });

  describe('lies about the range', () => {
    const lies: [name: string, headers: Record<string, string | null>, code: ErrorCode, text: string][] = [
      ['another range', { 'content-range': `bytes 0-9/${SIZE}` }, 'PROTOCOL', 'sent bytes 0 to 10 where 10 to 20'],
      ['a shorter range', { 'content-range': `bytes 10-18/${SIZE}` }, 'PROTOCOL', 'sent bytes 10 to 19'],
      ['another total', { 'content-range': 'bytes 10-19/20' }, 'SIZE_MISMATCH', 'and has 20'],
      ['no range', { 'content-range': null }, 'PROTOCOL', 'without a usable Content-Range'],
      [
        'several ranges',
        { 'content-range': null, 'content-type': 'multipart/byteranges' },
        'PROTOCOL',
        'usable Content-Range',
      ],
      ['another unit', { 'content-range': 'items 10-19/20' }, 'PROTOCOL', 'usable Content-Range'],
      ['no numbers', { 'content-range': 'bytes -1-9/x' }, 'PROTOCOL', 'usable Content-Range'],
      ['huge numbers', { 'content-range': `bytes 10-${'9'.repeat(30)}/*` }, 'PROTOCOL', 'usable Content-Range'],
      ['compressed', { 'content-encoding': 'gzip' }, 'PROTOCOL', 'sent the blob with Content-Encoding gzip'],
    ];
    test.each(lies)('%s', async (_name, headers, code, text) => {
      spoilBlobs({ kind: 'headers', headers }, 99);
      const error: LacunaError = await failure(code, read(10, 10));
      expect(error.message).toContain(text);
      expect(blobRequests(registry)).toHaveLength(1);
    });

    test('an unknown total is fine', async () => {
      spoilBlobs({ kind: 'headers', headers: { 'content-range': 'bytes 10-19/*' } });
      expect((await read(10, 10)).equals(bytes.subarray(10, 20))).toBe(true);
    });

    test('206 to a request for the whole', async () => {
      registry.fault = () => ({ kind: 'status', status: 206, body: 'x' });
      await failure('PROTOCOL', readAll());
    });

    test('more bytes than the range or the blob has', async () => {
      spoilBlobs({ kind: 'surplus', bytes: 1 }, 99);
      await failure('SIZE_MISMATCH', read(10, 10));
      await failure('SIZE_MISMATCH', readAll());
    });
  });

  describe('manifests', () => {
    const put = (document: string, mediaType: string) =>
      registry.storage.putManifest(REPOSITORY, mediaType, Buffer.from(document), 'latest');

    test('a document larger than 8 MiB', async () => {
      put(`{"mediaType":"${MEDIA.ociManifest}","x":"${'x'.repeat(8 * 1024 * 1024)}"}`, MEDIA.ociManifest);
      expect((await failure('PROTOCOL', store.resolve(null))).message).toContain('more than 8388608 bytes');
    });

    test('a type that is no image’s', async () => {
      put('{}', 'text/html');
      expect((await failure('PROTOCOL', store.resolve(null))).message).toContain('"text/html"');
    });

    test('a type that differs from the document’s own', async () => {
      put(`{"mediaType":"${MEDIA.ociIndex}"}`, MEDIA.ociManifest);
      await failure('PROTOCOL', store.resolve(null));
    });

    test('no useful type: the document’s own counts', async () => {
      put(`{"mediaType":"${MEDIA.ociIndex}"}`, 'application/json; charset=utf-8');
      expect((await store.resolve(null)).mediaType).toBe(MEDIA.ociIndex);
    });

    test.each(['', 'text/plain', 'application/octet-stream', 'application/json', 'text/plain; charset=utf-8'])(
      'the type %j of a document that does not name its own: what it holds counts',
      async (type) => {
        put('{"schemaVersion":2,"config":{},"layers":[]}', type);
        expect((await store.resolve(null)).mediaType).toBe(MEDIA.ociManifest);
        put('{"schemaVersion":2,"manifests":[]}', type);
        expect((await store.resolve(null)).mediaType).toBe(MEDIA.ociIndex);
      },
    );

    test('headers that come twice', async () => {
      const document = Buffer.from(`{"mediaType":"${MEDIA.ociManifest}"}`);
      const manifest = put(document.toString(), MEDIA.ociManifest);
      const length = String(manifest.size);
      registry.fault = () => ({
        kind: 'headers',
        headers: { 'content-type': `${MEDIA.ociManifest}, ${MEDIA.ociManifest}`, 'docker-content-digest': 'x, y' },
      });
      expect(await store.resolve(null)).toEqual(manifest);
      const answer = (value: string) =>
        ({ header: () => value, url: new URL('http://x/') }) as unknown as RegistryResponse;
      const purpose = { op: 'pull', subject: 'x' };
      expect(contentLength(answer(`${length}, ${length}`), purpose)).toBe(manifest.size);
      for (const odd of [`${length}, 7`, '-1', '1e3', '', '0x10', '9'.repeat(20)]) {
        expect(() => contentLength(answer(odd), purpose), odd).toThrow('Content-Length');
      }
    });

    test('a Docker-Content-Digest of another manifest', async () => {
      const manifest = put(`{"mediaType":"${MEDIA.ociManifest}"}`, MEDIA.ociManifest);
      registry.fault = () => ({ kind: 'headers', headers: { 'docker-content-digest': blob.digest } });
      await failure('DIGEST_MISMATCH', store.resolve(null));
      // Asked for by its digest it is what its bytes are.
      expect(await store.resolve(manifest.digest)).toEqual(manifest);
    });

    test.each([400, 403, 405, 501])('%d to a HEAD: a GET tells', async (status) => {
      registry.fault = (request) => (request.method === 'HEAD' ? { kind: 'status', status } : null);
      expect(await store.has(blob)).toBe(true);
      expect(await store.has({ ...blob, digest: blob.digest.replace(/.$/, (c) => (c === '0' ? '1' : '0')) })).toBe(
        false,
      );
    });

    test('403 to a HEAD and to the GET is an error', async () => {
      registry.fault = () => ({ kind: 'status', status: 403 });
      await failure('FORBIDDEN', store.has(blob));
    });

    test('an error without a code is told in its words', async () => {
      const body = '{"errors":[{"status":403,"message":"blocked by policy"}]}';
      registry.fault = () => ({ kind: 'status', status: 403, body });
      const error = await failure('FORBIDDEN', store.resolve('x'));
      expect(error.message).toMatch(/answered 403: blocked by policy$/);
    });

    test('a connection that is closed without an answer', async () => {
      registry.fault = () => ({ kind: 'drop' });
      const error = await failure('UNAVAILABLE', store.resolve('x'));
      expect(error.message).toContain('the other side closed the connection');
    });

    test('DENIED under any status is FORBIDDEN', async () => {
      const body = '{"errors":[{"code":"DENIED","message":"can not push artifact to a proxy project"}]}';
      registry.fault = () => ({ kind: 'status', status: 405, body });
      const error = await failure('FORBIDDEN', store.pushManifest(Buffer.from('{}'), MEDIA.ociManifest, 'x'));
      expect(error.message).toContain('answered 405: DENIED (can not push artifact to a proxy project)');
    });

    test('resolving and reading is one request', async () => {
      const manifest = put(`{"mediaType":"${MEDIA.ociManifest}"}`, MEDIA.ociManifest);
      expect((await store.manifest(await store.resolve(null))).length).toBe(manifest.size);
      expect(registry.requests).toHaveLength(1);
    });

    test('what is not there is said in the registry’s words', async () => {
      const error = await failure('NOT_FOUND', store.resolve('nope'));
      expect(error.message).toContain('/v2/test/image/manifests/nope answered 404: MANIFEST_UNKNOWN (test)');
    });
  });

  test('one request for a range, and no more than 16 connections', async () => {
    registry.fault = () => ({ kind: 'delay', ms: 20 });
    const reads = Array.from({ length: 60 }, (_, i) => read(i * 10_000, 5000));
    for (const [i, part] of (await Promise.all(reads)).entries()) {
      expect(part.equals(bytes.subarray(i * 10_000, i * 10_000 + 5000))).toBe(true);
    }
    expect(registry.requests).toHaveLength(60);
    expect(registry.requests.every((row) => row.method === 'GET')).toBe(true);
    expect(registry.peakConnections).toBeGreaterThan(4);
    expect(registry.peakConnections).toBeLessThanOrEqual(16);
  });
});
