/** Pushing to a registry that goes wrong, and blobs that are mounted instead of pushed. */
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestOf } from '../../../src/image/digest.ts';
import { MEDIA } from '../../../src/image/media.ts';
import type { ImageStore } from '../../../src/registry/store.ts';
import { UPLOAD_CHUNK_SIZE } from '../../../src/registry/upload.ts';
import { type FaultHook, type RegistryOptions, startRegistry, type TestRegistry } from '../../kit/registry.ts';
import type { Fault } from '../../kit/registry-faults.ts';
import { collect, describeBytes, failure, push } from './contract.ts';
import { ada, QUICK, storeAt, TRANSPORTS } from './kit.ts';

const CHUNK = UPLOAD_CHUNK_SIZE;
const bytes = randomBytes(2 * CHUNK + 1_000_000);
const blob = describeBytes(bytes);

describe.each(TRANSPORTS)('over %s', (transport) => {
  let registry: TestRegistry;
  let store: ImageStore;
  const setUp = async (options: RegistryOptions = {}): Promise<void> => {
    registry = await startRegistry({ auth: 'token', ...options });
    store = await storeAt(registry, { transport, credentials: ada });
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
  const sizes = (method: string): number[] =>
    registry.requests
      .filter(
        (row) =>
          row.method === method && row.path.includes('/blobs/uploads/') && row.headers.authorization !== undefined,
      )
      .map((row) => Number(row.headers['content-length'] ?? 0));
  const stored = () => registry.storage.repository('test/image').blobs.get(blob.digest);

  beforeEach(() => setUp());
  afterEach(async () => {
    await store[Symbol.asyncDispose]();
    await registry.close();
  });

  test('chunks of 8 MiB, each sent once', async () => {
    await push(store, bytes);
    expect(sizes('POST')).toEqual([0]);
    expect(sizes('PATCH')).toEqual([CHUNK, CHUNK, 1_000_000]);
    expect(sizes('PUT')).toEqual([0]);
    const first = registry.requests.find((row) => row.method === 'PATCH');
    expect(first?.headers['content-range']).toBe(`0-${CHUNK - 1}`);
    expect(stored()?.equals(bytes)).toBe(true);
  });

  test('a small blob is one POST and one PUT', async () => {
    const small = await push(store, Buffer.from('small'));
    expect([sizes('POST'), sizes('PATCH'), sizes('PUT')]).toEqual([[0], [], [5]]);
    expect(await store.has(small)).toBe(true);
  });

  test.each([
    [1, 5_000_000],
    [2, 1],
    [2, CHUNK - 1],
    [3, 500_000],
  ])('chunk %d cut after %d bytes goes on where it was cut', async (nth, after) => {
    registry.fault = spoil('PATCH', { kind: 'cut-request', after }, nth);
    await push(store, bytes);
    expect(stored()?.equals(bytes)).toBe(true);
    const wanted = [CHUNK, CHUNK, 1_000_000];
    wanted.splice(nth, 0, wanted[nth - 1]! - after);
    expect(sizes('PATCH')).toEqual(wanted);
    expect(registry.uploads.open).toBe(0);
  });

  test('a chunk cut again and again is sent to its end while it gets on', async () => {
    registry.fault = spoil('PATCH', { kind: 'cut-request', after: 100_000 }, 2, 3, 4, 5, 6, 7, 8, 9);
    await push(store, bytes);
    expect(stored()?.equals(bytes)).toBe(true);
  });

  test.each<[name: string, fault: Fault]>([
    ['a lost answer', { kind: 'lost-answer' }],
    ['a refused connection', { kind: 'drop' }],
    ['503', { kind: 'status', status: 503 }],
    ['429', { kind: 'status', status: 429, headers: { 'retry-after': '0' } }],
    ['416', { kind: 'status', status: 416 }],
  ])('%s to a PATCH, a POST and a PUT', async (_name, fault) => {
    const [post, patch, put] = [spoil('POST', fault, 1), spoil('PATCH', fault, 2), spoil('PUT', fault, 1)];
    const isRange = fault.kind === 'status' && fault.status === 416;
    registry.fault = (request) => patch(request) ?? (isRange ? null : (post(request) ?? put(request)));
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

  test('a registry that forgets the upload at its first chunk gets it again', async () => {
    registry.fault = spoil('PATCH', { kind: 'cut-request', after: 5 }, 1);
    const gone = registry.fault;
    registry.fault = (request) =>
      gone(request) ??
      (request.method === 'GET' && request.path.includes('/uploads/') ? { kind: 'status', status: 404 } : null);
    await push(store, bytes);
    expect(stored()?.equals(bytes)).toBe(true);
    expect(sizes('POST')).toHaveLength(2);
  });

  test('a registry that forgets it later is an error that says so', async () => {
    const cut = spoil('PATCH', { kind: 'cut-request', after: 5 }, 2);
    registry.fault = (request) =>
      cut(request) ??
      (request.method === 'GET' && request.path.includes('/uploads/') ? { kind: 'status', status: 404 } : null);
    const error = await failure('UNAVAILABLE', push(store, bytes));
    expect(error.message).toContain(`has lost an upload of which it had ${CHUNK} bytes`);
    expect(error.retryable).toBe(true);
  });

  test('for ever 503: an error, and the upload is given up', async () => {
    registry.fault = spoil('PATCH', { kind: 'status', status: 503 }, ...Array.from({ length: 20 }, (_, i) => i + 1));
    await failure('UNAVAILABLE', push(store, bytes));
    expect(sizes('PATCH')).toHaveLength(QUICK.attempts);
  });

  test('an upload that fails is removed from the registry by abort', async () => {
    registry.fault = spoil('PATCH', { kind: 'status', status: 403 }, 1);
    const upload = await store.upload();
    const error = await failure(
      'FORBIDDEN',
      (async () => {
        for (;;) await upload.write(Buffer.alloc(CHUNK));
      })(),
    );
    expect(error.op).toBe('push');
    expect(registry.uploads.open).toBe(1);
    await upload.abort();
    expect(registry.uploads.open).toBe(0);
  });

  test('a registry that took more or less than was sent', async () => {
    registry.fault = spoil('PATCH', { kind: 'headers', headers: { range: `0-${CHUNK}` } }, 1);
    await failure('PROTOCOL', push(store, bytes));
    registry.fault = spoil('PATCH', { kind: 'headers', headers: { range: '0-0' } }, 2);
    await failure('PROTOCOL', push(store, bytes));
    registry.fault = spoil('POST', { kind: 'headers', headers: { location: null } }, 1);
    await failure('PROTOCOL', push(store, bytes));
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

  test('OCI-Chunk-Min-Length', async () => {
    await registry.close();
    await setUp({ chunkMinLength: 10_000_000 });
    await push(store, bytes);
    expect(sizes('PATCH')).toEqual([10_000_000, bytes.length - 10_000_000]);
    await registry.close();
    await setUp({ chunkMinLength: 1e9 });
    await failure('PROTOCOL', push(store, bytes));
  });

  test('an abort in the middle of a chunk', async () => {
    registry.fault = spoil('PATCH', { kind: 'hang' }, 1);
    const controller = new AbortController();
    const upload = await store.upload({ signal: controller.signal });
    await upload.write(bytes.subarray(0, CHUNK));
    controller.abort();
    await failure('ABORTED', upload.write(bytes.subarray(0, CHUNK)));
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
