/** Pushing to a registry that goes wrong, and blobs that are mounted instead of pushed. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestOf } from '../../../src/image/digest.ts';
import { MEDIA } from '../../../src/image/media.ts';
import { copyBlob } from '../../../src/registry/copy.ts';
import { SMALL_BLOB, UPLOAD_WINDOW } from '../../../src/registry/http/upload.ts';
import { UPLOAD_CHUNK_SIZE as CHUNK } from '../../../src/registry/http/upload-form.ts';
import type { ImageStore, StoreOptions } from '../../../src/registry/store.ts';
import { uploadBlob } from '../../../src/registry/upload-blob.ts';
import { type FaultHook, type RegistryOptions, startRegistry, type TestRegistry } from '../../kit/registry.ts';
import type { Fault } from '../../kit/registry-faults.ts';
import { collect, describeBytes, failure, push, writeAll } from './contract.ts';
import { ada, QUICK, storeAt, TRANSPORTS } from './kit.ts';

const MiB = 1024 * 1024;
/** Longer than what one request holds, and short enough to be held in memory as a whole. */
const bytes = randomBytes(6 * MiB + 1000);
const blob = describeBytes(bytes);
/** Longer than memory holds. */
const long = randomBytes(UPLOAD_WINDOW + 4 * MiB);

describe.each(TRANSPORTS)('over %s', (transport) => {
  let registry: TestRegistry;
  let store: ImageStore;
  const setUp = async (options: RegistryOptions = {}, more: StoreOptions = {}): Promise<void> => {
    registry = await startRegistry({ auth: 'token', ...options });
    store = await storeAt(registry, { transport, credentials: ada, ...more });
  };
  const setUpAgain = async (options: RegistryOptions, more: StoreOptions = {}): Promise<void> => {
    await store[Symbol.asyncDispose]();
    await registry.close();
    await setUp(options, more);
  };
  /** The `n`-th requests of a method are spoilt. */
  const spoil = (method: string, fault: Fault, ...which: number[]): FaultHook => {
    let n = 0;
    return (request) => {
      if (request.method !== method || request.path === '/token') return null;
      // The first one of a store is refused for want of a token; it is no try.
      if (request.headers.authorization === undefined) return null;
      return which.includes(++n) ? fault : null;
    };
  };
  const uploads = (method: string) =>
    registry.requests.filter(
      (row) => row.method === method && row.path.includes('/blobs/uploads/') && row.headers.authorization !== undefined,
    );
  const sizes = (method: string): number[] => uploads(method).map((row) => row.bodySize);
  /** `Content-Range` of every PATCH; that of a stream is null. */
  const ranges = () => uploads('PATCH').map((row) => row.headers['content-range'] ?? null);
  const stored = (digest = blob.digest) => registry.storage.repository('test/image').blobs.get(digest);
  const repeated = (data: Buffer, onRepeat = (_: Error): void => {}) =>
    uploadBlob(store, (upload) => writeAll(upload, data), { onRepeat });

  beforeEach(() => setUp());
  afterEach(async () => {
    await store[Symbol.asyncDispose]();
    await registry.close();
  });

  test('a large blob is one POST, one streamed PATCH and one PUT', async () => {
    await push(store, long);
    expect([sizes('POST'), sizes('PATCH'), sizes('PUT')]).toEqual([[0], [long.length], [0]]);
    const [patch] = uploads('PATCH');
    expect(patch?.headers['transfer-encoding']).toBe('chunked');
    expect(patch?.headers['content-range']).toBeUndefined();
    expect(patch?.headers['content-length']).toBeUndefined();
    expect(stored(describeBytes(long).digest)?.equals(long)).toBe(true);
  });

  test('a small blob is one POST and one PUT', async () => {
    const small = await push(store, randomBytes(SMALL_BLOB), 999_983);
    expect([sizes('POST'), sizes('PATCH'), sizes('PUT')]).toEqual([[0], [], [SMALL_BLOB]]);
    expect(uploads('PUT')[0]?.headers['content-length']).toBe(String(SMALL_BLOB));
    expect(await store.has(small)).toBe(true);
  });

  test.each([1, 3_000_000, 5_000_000])('a stream cut after %d bytes goes on there in a chunk', async (after) => {
    registry.fault = spoil('PATCH', { kind: 'cut-request', after }, 1);
    await push(store, bytes);
    expect(stored()?.equals(bytes)).toBe(true);
    // One byte is what docker-registry says of none, so that is sent anew.
    if (after === 1) expect(ranges()).toEqual([null, null]);
    else expect(uploads('PATCH')[1]?.headers['content-range']).toMatch(new RegExp(`^${after}-[0-9]+$`));
    expect(registry.uploads.open).toBe(0);
  });

  test('a chunk cut again and again is sent to its end while it gets on', async () => {
    registry.fault = spoil('PATCH', { kind: 'cut-request', after: 100_000 }, 1, 2, 3, 4, 5, 6, 7, 8, 9);
    await push(store, bytes);
    expect(stored()?.equals(bytes)).toBe(true);
    expect(ranges().slice(0, 3)).toEqual([null, '100000-4294303', '200000-4394303']);
  });

  test.each<[name: string, fault: Fault]>([
    ['a lost answer', { kind: 'lost-answer' }],
    ['a refused connection', { kind: 'drop' }],
    ['503', { kind: 'status', status: 503 }],
    ['429', { kind: 'status', status: 429, headers: { 'retry-after': '0' } }],
  ])('%s to a PATCH, a POST and a PUT', async (_name, fault) => {
    const [post, patch, put] = [spoil('POST', fault, 1), spoil('PATCH', fault, 1), spoil('PUT', fault, 1)];
    registry.fault = (request) => patch(request) ?? post(request) ?? put(request);
    await push(store, bytes);
    expect(stored()?.equals(bytes)).toBe(true);
  });

  test.each<[name: string, fault: Fault]>([
    ['a lost answer', { kind: 'lost-answer' }],
    ['a cut request', { kind: 'cut-request', after: 3 }],
    ['503', { kind: 'status', status: 503 }],
  ])('%s to the PUT of a small blob', async (_name, fault) => {
    registry.fault = spoil('PUT', fault, 1);
    const small = await push(store, Buffer.from('small blob'));
    expect((await collect(store.open(small))).toString()).toBe('small blob');
  });

  test.each([400, 405, 411, 413, 415, 416, 501])('%d to a stream: chunks, and no stream any more', async (status) => {
    registry.fault = spoil('PATCH', { kind: 'status', status }, 1);
    await push(store, bytes);
    expect(ranges()).toEqual([null, `0-${CHUNK - 1}`, `${CHUNK}-${bytes.length - 1}`]);
    expect(stored()?.equals(bytes)).toBe(true);
    await using other = await storeAt(registry, { transport, credentials: ada }, 'test/other');
    await push(other, bytes);
    expect(ranges().slice(3)).toEqual([`0-${CHUNK - 1}`, `${CHUNK}-${bytes.length - 1}`]);
    expect(registry.uploads.open).toBe(0);
  });

  test('a stream that is refused when its beginning is gone is made again in chunks', async () => {
    registry.fault = spoil('PATCH', { kind: 'delayed-status', status: 413 }, 1);
    await failure('UNAVAILABLE', push(store, long));
    registry.fault = () => null;
    await repeated(long);
    expect(ranges().slice(1)).toEqual([0, 1, 2, 3].map((n) => `${n * CHUNK}-${(n + 1) * CHUNK - 1}`));
  });

  test('a body of any size may be too large for a proxy: smaller chunks', async () => {
    await setUpAgain({ bodyMaxLength: MiB });
    await push(store, bytes);
    expect(stored()?.equals(bytes)).toBe(true);
    expect(sizes('PATCH').slice(1, 3)).toEqual([CHUNK, MiB]);
    const small = await push(store, randomBytes(2 * MiB));
    expect(await store.has(small)).toBe(true);
    expect(registry.uploads.open).toBe(0);
  });

  test('a lost upload is made again, in chunks', async () => {
    await setUpAgain({ resumable: false });
    registry.fault = spoil('PATCH', { kind: 'cut-request', after: UPLOAD_WINDOW + MiB }, 1);
    const repeats: Error[] = [];
    await repeated(long, (error) => repeats.push(error));
    expect(repeats.map(({ message }) => message)).toEqual([expect.stringContaining('has lost an upload')]);
    expect(ranges()[1]).toBe(`0-${CHUNK - 1}`);
    expect(stored(describeBytes(long).digest)?.equals(long)).toBe(true);
  });

  test('and as a stream once more where chunks are refused', async () => {
    await setUpAgain({ resumable: false, chunks: false });
    registry.fault = spoil('PATCH', { kind: 'cut-request', after: UPLOAD_WINDOW + MiB }, 1);
    await repeated(long);
    expect(ranges()).toEqual([null, `0-${CHUNK - 1}`, `${CHUNK}-${2 * CHUNK - 1}`, null]);
    expect(stored(describeBytes(long).digest)?.equals(long)).toBe(true);
    expect(registry.uploads.open).toBe(0);
  });

  test('a registry that forgets the upload gets it again from memory', async () => {
    await setUpAgain({ resumable: false });
    registry.fault = spoil('PATCH', { kind: 'cut-request', after: 5 }, 1);
    await push(store, bytes);
    expect(stored()?.equals(bytes)).toBe(true);
    expect(ranges()).toEqual([null, null]);
  });

  test('for ever 503: an error, and the upload is given up', async () => {
    registry.fault = spoil('PATCH', { kind: 'status', status: 503 }, ...Array.from({ length: 20 }, (_, i) => i + 1));
    await failure('UNAVAILABLE', repeated(bytes));
    expect(sizes('PATCH')).toHaveLength(QUICK.attempts);
    expect(registry.uploads.open).toBe(0);
  });

  test('an upload that fails is removed from the registry by abort', async () => {
    registry.fault = spoil('PATCH', { kind: 'status', status: 403 }, 1);
    const upload = await store.upload();
    const endless = async (): Promise<void> => {
      for (;;) await upload.write(Buffer.alloc(MiB));
    };
    const error = await failure('FORBIDDEN', endless());
    expect(error.op).toBe('push');
    expect(registry.uploads.open).toBe(1);
    await upload.abort();
    expect(registry.uploads.open).toBe(0);
  });

  test('a registry that takes nothing holds the writer back, and ends in a time-out', async () => {
    await setUpAgain({}, { timeouts: { body: 200 }, retry: { ...QUICK, attempts: 1 } });
    registry.fault = spoil('PATCH', { kind: 'hang' }, 1);
    const upload = await store.upload();
    let taken = 0;
    const endless = async (): Promise<void> => {
      for (;;) {
        await upload.write(Buffer.alloc(MiB));
        taken += MiB;
      }
    };
    await failure('TIMEOUT', endless());
    // The window, and what the two ends of a connection hold.
    expect(taken).toBeLessThan(UPLOAD_WINDOW + 20 * MiB);
    await upload.abort();
  });

  test('a source that is slower than every time-out is waited for', async () => {
    await setUpAgain({}, { timeouts: { headers: 100, body: 100 }, retry: { ...QUICK, attempts: 1 } });
    const upload = await store.upload();
    await upload.write(bytes.subarray(0, 5 * MiB));
    await sleep(400);
    await upload.write(bytes.subarray(5 * MiB));
    await upload.commit(blob.digest, blob.size);
    expect(ranges()).toEqual([null]);
  });

  test('a registry that took more or less than was sent', async () => {
    await setUpAgain({ streams: false });
    registry.fault = spoil('PATCH', { kind: 'headers', headers: { range: `0-${CHUNK}` } }, 2);
    await failure('PROTOCOL', push(store, bytes));
    registry.fault = spoil('PATCH', { kind: 'headers', headers: { range: '0-0' } }, 2);
    await failure('PROTOCOL', push(store, bytes));
    registry.fault = spoil('POST', { kind: 'headers', headers: { location: null } }, 1);
    await failure('PROTOCOL', push(store, bytes));
  });

  test('a POST without Location is known by its Docker-Upload-UUID', async () => {
    await setUpAgain({ terse: true });
    const small = await push(store, Buffer.from('small'));
    expect((await collect(store.open(small))).toString()).toBe('small');
  });

  test('a redirect of the PATCH gets the whole stream', async () => {
    await using other = await startRegistry();
    other.fault = () => ({ kind: 'status', status: 202 });
    registry.fault = spoil('PATCH', { kind: 'redirect', to: other.origin }, 1);
    // The first registry, which is told of the end, has none of it.
    await failure('DIGEST_MISMATCH', push(store, bytes));
    expect(other.requests.map((row) => [row.method, row.headers.authorization])).toEqual([['PATCH', undefined]]);
  });

  test('a registry that stores another digest', async () => {
    registry.fault = spoil(
      'PUT',
      { kind: 'headers', headers: { 'docker-content-digest': digestOf(Buffer.from('x')) } },
      1,
      2,
    );
    await failure('DIGEST_MISMATCH', push(store, Buffer.from('y')));
    await failure('DIGEST_MISMATCH', store.pushManifest(Buffer.from('{}'), MEDIA.ociManifest, null));
  });

  test('a Location at another host gets the bytes, and not our token', async () => {
    await using other = await startRegistry();
    registry.fault = spoil('POST', { kind: 'headers', headers: { location: `${other.origin}/upload?secret=1` } }, 1);
    other.fault = () => ({ kind: 'status', status: 201 });
    await push(store, Buffer.from('x'));
    expect(other.requests.map((row) => [row.method, row.path, row.headers.authorization])).toEqual([
      ['PUT', '/upload', undefined],
    ]);
    expect(other.requests[0]?.query).toBe(`?secret=1&digest=${encodeURIComponent(digestOf(Buffer.from('x')))}`);
  });

  test('OCI-Chunk-Min-Length counts where chunks are sent', async () => {
    await setUpAgain({ chunkMinLength: 5_000_000, streams: false });
    await push(store, bytes);
    expect(sizes('PATCH').slice(1)).toEqual([5_000_000, bytes.length - 5_000_000]);
    await setUpAgain({ chunkMinLength: 1e9, streams: false });
    await failure('PROTOCOL', push(store, bytes));
    await setUpAgain({ chunkMinLength: 1e9 });
    await push(store, bytes);
  });

  test('an abort in the middle of a stream', async () => {
    registry.fault = spoil('PATCH', { kind: 'hang' }, 1);
    const controller = new AbortController();
    const upload = await store.upload({ signal: controller.signal });
    await upload.write(bytes.subarray(0, 5 * MiB));
    controller.abort();
    await failure('ABORTED', upload.write(bytes.subarray(0, 5 * MiB)));
    await upload.abort();
    expect(registry.uploads.open).toBe(0);
  });

  describe('mounting from another repository', () => {
    const small = Buffer.from('shared');

    test('moves no byte', async () => {
      await using source = await storeAt(registry, { transport, credentials: ada }, 'test/base');
      const shared = await push(source, small);
      expect(await store.mountFrom(shared, source)).toBe(true);
      expect(await store.has(shared)).toBe(true);
      expect((await collect(store.open(shared))).equals(small)).toBe(true);
      expect(sizes('PUT')).toHaveLength(1);
      const scopes = registry.requests
        .filter((row) => row.path === '/token')
        .map((row) => new URLSearchParams(row.query).getAll('scope'));
      expect(scopes).toContainEqual(['repository:test/image:pull,push', 'repository:test/base:pull']);
    });

    test('of a blob that is not there begins no upload', async () => {
      await using source = await storeAt(registry, { transport, credentials: ada }, 'test/base');
      expect(await store.mountFrom(describeBytes(small), source)).toBe(false);
      expect(registry.uploads.open).toBe(0);
    });

    test('where the registry cannot', async () => {
      await registry.close();
      await setUp({ mounts: false });
      await using source = await storeAt(registry, { transport, credentials: ada }, 'test/base');
      const shared = await push(source, small);
      expect(await store.mountFrom(shared, source)).toBe(false);
      expect(registry.uploads.open).toBe(0);
    });

    test.each([400, 401, 403, 404, 405] as const)('that is refused with %d is an upload', async (status) => {
      await setUpAgain({ mounts: status });
      await using source = await storeAt(registry, { transport, credentials: ada }, 'test/base');
      const shared = await push(source, small);
      expect(await copyBlob(source, store, shared)).toBe('copied');
      expect(await store.mountFrom(shared, source)).toBe(false);
      expect(registry.uploads.open).toBe(0);
      // Who may not read the source is not asked again for every blob of it.
      const asked = registry.requests.filter((row) => row.query.includes('mount=') && row.status === status).length;
      if (status === 403) expect(asked).toBe(1);
    });

    test('for which the token server gives no token is an upload', async () => {
      await using source = await storeAt(registry, { transport, credentials: ada }, 'test/base');
      const shared = await push(source, small);
      registry.fault = (request) =>
        request.path === '/token' && /test%2Fimage.*test%2Fbase/.test(request.query)
          ? { kind: 'status', status: 403 }
          : null;
      expect(await copyBlob(source, store, shared)).toBe('copied');
    });

    test('of another registry, and of the same repository', async () => {
      await using other = await startRegistry();
      await using source = await storeAt(other, { transport });
      expect(await store.mountFrom(await push(source, small), source)).toBe(false);
      const own = await push(store, small);
      await using same = await storeAt(registry, { transport, credentials: ada });
      expect(await store.mountFrom(own, same)).toBe(true);
      expect(await store.mountFrom(describeBytes(Buffer.from('x')), same)).toBe(false);
    });
  });
});
