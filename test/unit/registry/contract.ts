/** What every store must do, whichever it is. Run by contract.test.ts over all of them. */
import { randomBytes, randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { type ErrorCode, isLacunaError, type LacunaError } from '../../../src/errors.ts';
import { digestOf } from '../../../src/image/digest.ts';
import type { Descriptor } from '../../../src/image/manifest.ts';
import { MEDIA } from '../../../src/image/media.ts';
import type { BlobUpload, ImageStore, ReadOptions } from '../../../src/registry/store.ts';

/** Opens the store under `name` (a repository or a directory), its own reference being `ref`. */
export type OpenNamed = (name: string, ref: string | null) => Promise<ImageStore>;

export const describeBytes = (bytes: Buffer, mediaType = 'application/octet-stream'): Descriptor => ({
  mediaType,
  digest: digestOf(bytes),
  size: bytes.length,
});

export async function collect(pieces: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const piece of pieces) all.push(Buffer.from(piece));
  return Buffer.concat(all);
}

/** The error that `work` must end with. */
export async function failure(code: ErrorCode, work: Promise<unknown>): Promise<LacunaError> {
  let value: unknown;
  try {
    value = await work;
  } catch (error) {
    if (!isLacunaError(error)) throw error;
    expect(error.code, error.message).toBe(code);
    return error;
  }
  throw new Error(`no ${code}, but ${String(value)}`);
}

export async function push(store: ImageStore, bytes: Buffer, pieceSize = 100_000): Promise<Descriptor> {
  return await writeAll(await store.upload(), bytes, pieceSize);
}

/** Writes a blob to an upload, and commits it. */
export async function writeAll(upload: BlobUpload, bytes: Buffer, pieceSize = 100_000): Promise<Descriptor> {
  for (let at = 0; at < bytes.length; at += pieceSize) await upload.write(bytes.subarray(at, at + pieceSize));
  const descriptor = describeBytes(bytes);
  await upload.commit(descriptor.digest, descriptor.size);
  return descriptor;
}

export function manifestOf(config: Descriptor, layers: Descriptor[], note = ''): Buffer {
  const document = { schemaVersion: 2, mediaType: MEDIA.ociManifest, config, layers, annotations: { note } };
  return Buffer.from(JSON.stringify(document));
}

/** An image of one small layer. */
export async function pushImage(store: ImageStore, ref: string | null): Promise<Descriptor> {
  const config = await push(store, Buffer.from(`{"config":"${randomUUID()}"}`));
  const layer = await push(store, randomBytes(1000));
  return await store.pushManifest(
    manifestOf({ ...config, mediaType: MEDIA.ociConfig }, [{ ...layer, mediaType: MEDIA.ociLayer }]),
    MEDIA.ociManifest,
    ref,
  );
}

/** What a store tells of the manifests that point at another one; a part of {@link storeContract}. */
export function referrersContract(open: OpenNamed): void {
  const fresh = () => open(`t${randomUUID().slice(0, 8)}`, 'latest');
  const artifact = (config: Descriptor, subject: Descriptor, artifactType: string, note: string): Buffer => {
    const document = JSON.parse(manifestOf(config, [], note).toString('utf8'));
    return Buffer.from(JSON.stringify({ ...document, artifactType, subject }));
  };

  test('referrers are found by their subject and their type', async () => {
    await using store = await fresh();
    const subject = await pushImage(store, null);
    const config = { ...(await push(store, Buffer.from('{}'))), mediaType: MEDIA.ociEmpty };
    const other = await pushImage(store, 'other');
    const pushed: Descriptor[] = [];
    for (const [i, type] of ['a/a', 'b/b', 'a/a', 'a/a', 'b/b'].entries()) {
      const bytes = artifact(config, subject, type, `${i}`);
      const { digest, size, mediaType } = await store.pushManifest(bytes, MEDIA.ociManifest, digestOf(bytes));
      pushed.push({ mediaType, digest, size, artifactType: type, annotations: { note: `${i}` } });
      // The same again is still one.
      await store.pushManifest(bytes, MEDIA.ociManifest, digestOf(bytes));
    }
    const byNote = (a: Descriptor, b: Descriptor) => a.annotations!.note!.localeCompare(b.annotations!.note!);
    expect((await store.referrers(subject.digest, null)).sort(byNote)).toEqual(pushed);
    expect((await store.referrers(subject.digest, 'b/b')).sort(byNote)).toEqual([pushed[1], pushed[4]]);
    expect(await store.referrers(subject.digest, 'c/c')).toEqual([]);
    expect(await store.referrers(other.digest, null)).toEqual([]);
    expect(digestOf(await store.manifest(pushed[3]!))).toBe(pushed[3]!.digest);
    expect((await store.resolve(null)).digest).toBe(subject.digest);
  });

  test('an index may refer, too, and what it refers to need not be there', async () => {
    await using store = await fresh();
    const missing = { ...describeBytes(Buffer.from('missing')), mediaType: MEDIA.ociManifest };
    const index = { schemaVersion: 2, mediaType: MEDIA.ociIndex, artifactType: 'a/a', manifests: [], subject: missing };
    const bytes = Buffer.from(JSON.stringify(index));
    const { digest } = await store.pushManifest(bytes, MEDIA.ociIndex, digestOf(bytes));
    expect(await store.referrers(missing.digest, null)).toMatchObject([{ digest, artifactType: 'a/a' }]);
  });
}

/** What a form of storage cannot hold. */
export interface Limits {
  /** Its one image has no name. */
  readonly nameless?: boolean;
  /** Manifests that point at another are not found. */
  readonly noReferrers?: boolean;
  /** Single images only. */
  readonly noIndexes?: boolean;
}

export function storeContract(open: OpenNamed, limits: Limits = {}): void {
  if (limits.noReferrers !== true) referrersContract(open);
  const named = limits.nameless === true ? () => {} : test;
  const indexed = limits.noIndexes === true ? () => {} : test;
  const fresh = (ref: string | null = 'latest') => open(`t${randomUUID().slice(0, 8)}`, ref);

  named('an image that was pushed is found by its tag, its digest and the reference itself', async () => {
    await using store = await fresh('v1');
    const pushed = await pushImage(store, null);
    expect(await store.resolve(null)).toMatchObject(pushed);
    expect(await store.resolve('v1')).toMatchObject(pushed);
    expect(await store.resolve(pushed.digest)).toMatchObject(pushed);
    const bytes = await store.manifest(pushed);
    expect(digestOf(bytes)).toBe(pushed.digest);
    const { config } = JSON.parse(bytes.toString('utf8'));
    expect(digestOf(await store.manifest(config))).toBe(config.digest);
  });

  named('a tag moves to what is pushed under it, and the others stay', async () => {
    await using store = await fresh();
    const first = await pushImage(store, 'a');
    const other = await pushImage(store, 'b');
    const second = await pushImage(store, 'a');
    expect((await store.resolve('a')).digest).toBe(second.digest);
    expect((await store.resolve('b')).digest).toBe(other.digest);
    expect((await store.resolve(first.digest)).digest).toBe(first.digest);
  });

  indexed('an index of manifests that were pushed by digest', async () => {
    await using store = await fresh('multi');
    const bytes = manifestOf(await push(store, Buffer.from('{}')), []);
    const child = await store.pushManifest(bytes, MEDIA.ociManifest, digestOf(bytes));
    const index = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: [child] }));
    const pushed = await store.pushManifest(index, MEDIA.ociIndex, null);
    expect(await store.resolve(null)).toMatchObject({ digest: pushed.digest, mediaType: MEDIA.ociIndex });
    expect(await store.manifest(child)).toEqual(bytes);
    expect(await store.resolve(child.digest)).toMatchObject(child);
  });

  test('a manifest pushed under a digest that is not its own is refused', async () => {
    await using store = await fresh();
    const bytes = manifestOf(await push(store, Buffer.from('{}')), []);
    const error = await failure(
      'DIGEST_MISMATCH',
      store.pushManifest(bytes, MEDIA.ociManifest, digestOf(Buffer.from('x'))),
    );
    expect(error.message).toContain(digestOf(bytes));
  });

  test('what is not there', async () => {
    await using store = await fresh();
    await pushImage(store, null);
    const missing = describeBytes(randomBytes(10));
    expect((await failure('NOT_FOUND', store.resolve('nope'))).hint).not.toBeNull();
    await failure('NOT_FOUND', store.resolve(missing.digest));
    await failure('NOT_FOUND', collect(store.open(missing)));
    await failure('NOT_FOUND', store.manifest(missing));
    expect(await store.has(missing)).toBe(false);
  });

  test('blobs of every awkward size come back as they were', { timeout: 120_000 }, async () => {
    await using store = await fresh();
    const chunk = 8 * 1024 * 1024;
    for (const size of [0, 1, 2, 65_536, chunk - 1, chunk, chunk + 1, 2 * chunk + 12_345]) {
      const bytes = randomBytes(size);
      const descriptor = await push(store, bytes, 999_983);
      expect(await store.has(descriptor)).toBe(true);
      expect(await store.has({ ...descriptor, size: size + 1 })).toBe(false);
      expect((await collect(store.open(descriptor))).equals(bytes)).toBe(true);
    }
  });

  test('ranges are exactly what was asked for', async () => {
    await using store = await fresh();
    const bytes = randomBytes(300_000);
    const descriptor = await push(store, bytes);
    const ranges: [number | undefined, number | undefined][] = [
      [0, 1],
      [0, 0],
      [299_999, 1],
      [300_000, 0],
      [1, 299_999],
      [100_000, undefined],
      [undefined, 7],
      [123_456, 65_537],
      [0, 300_000],
    ];
    for (const [offset, length] of ranges) {
      const options: ReadOptions = {
        ...(offset === undefined ? {} : { offset }),
        ...(length === undefined ? {} : { length }),
      };
      const start = offset ?? 0;
      const expected = bytes.subarray(start, start + (length ?? bytes.length - start));
      expect((await collect(store.open(descriptor, options))).equals(expected), `${offset} ${length}`).toBe(true);
    }
    const reads = Array.from({ length: 40 }, (_, i) =>
      collect(store.open(descriptor, { offset: i * 7000, length: 6999 })),
    );
    for (const [i, part] of (await Promise.all(reads)).entries()) {
      expect(part.equals(bytes.subarray(i * 7000, i * 7000 + 6999))).toBe(true);
    }
  });

  test.each<[number, number]>([
    [-1, 1],
    [0, 1001],
    [1001, 0],
    [1000, 1],
    [0.5, 1],
    [5, -1],
    [0, Number.NaN],
    [2 ** 53, 1],
  ])('the range %d + %d of 1000 bytes is nobody’s', async (offset, length) => {
    await using store = await fresh();
    const descriptor = await push(store, randomBytes(1000));
    await failure('USAGE', collect(store.open(descriptor, { offset, length })));
  });

  test('a size that is not the blob’s is noticed', async () => {
    await using store = await fresh();
    const descriptor = await push(store, randomBytes(1000));
    await failure('SIZE_MISMATCH', collect(store.open({ ...descriptor, size: 999 })));
    await failure('SIZE_MISMATCH', collect(store.open({ ...descriptor, size: 1001 })));
    await failure('SIZE_MISMATCH', collect(store.open({ ...descriptor, size: 2000 }, { offset: 1500, length: 10 })));
  });

  test('a partial descriptor may name less of a blob than there is, not more', async () => {
    await using store = await fresh();
    const bytes = randomBytes(1000);
    const descriptor = { ...(await push(store, bytes)), size: 900 };
    const part = await collect(store.open(descriptor, { offset: 100, length: 800, partial: true }));
    expect(part.equals(bytes.subarray(100, 900))).toBe(true);
    const all = await collect(store.open(descriptor, { partial: true }));
    expect(all.equals(bytes.subarray(0, 900))).toBe(true);
    await failure('USAGE', collect(store.open(descriptor, { offset: 800, length: 101, partial: true })));
    await failure('SIZE_MISMATCH', collect(store.open({ ...descriptor, size: 1001 }, { length: 10, partial: true })));
  });

  test('a reader may leave early', async () => {
    await using store = await fresh();
    const bytes = randomBytes(3_000_000);
    const descriptor = await push(store, bytes);
    for (let i = 0; i < 20; i++) {
      for await (const piece of store.open(descriptor)) {
        expect(piece.equals(bytes.subarray(0, piece.length))).toBe(true);
        break;
      }
    }
    expect((await collect(store.open(descriptor))).equals(bytes)).toBe(true);
  });

  test('an upload with another digest or size than announced leaves nothing', async () => {
    await using store = await fresh();
    const bytes = randomBytes(5000);
    const wrong = describeBytes(randomBytes(5000));
    const first = await store.upload();
    await first.write(bytes);
    await failure('DIGEST_MISMATCH', first.commit(wrong.digest, 5000));
    const second = await store.upload();
    await second.write(bytes);
    await failure('SIZE_MISMATCH', second.commit(digestOf(bytes), 5001));
    expect(await store.has(wrong)).toBe(false);
    expect(await store.has(describeBytes(bytes))).toBe(false);
    await failure('INTERNAL', second.write(bytes));
  });

  test('an upload that is given up leaves nothing, and can be given up again', async () => {
    await using store = await fresh();
    const bytes = randomBytes(9 * 1024 * 1024);
    const upload = await store.upload();
    await upload.write(bytes);
    await upload.abort();
    await upload.abort();
    expect(await store.has(describeBytes(bytes))).toBe(false);
    await failure('INTERNAL', upload.write(bytes));
  });

  test('the buffer of a write is the caller’s again', async () => {
    await using store = await fresh();
    const upload = await store.upload();
    const buffer = Buffer.alloc(1_000_000);
    const all: Buffer[] = [];
    for (let i = 0; i < 20; i++) {
      buffer.fill(i);
      all.push(Buffer.from(buffer));
      await upload.write(buffer);
    }
    const descriptor = describeBytes(Buffer.concat(all));
    await upload.commit(descriptor.digest, descriptor.size);
    expect(await store.has(descriptor)).toBe(true);
  });

  test('the same blob twice, and two at once', async () => {
    await using store = await fresh();
    const bytes = randomBytes(50_000);
    await push(store, bytes);
    await Promise.all([push(store, bytes), push(store, bytes)]);
    expect((await collect(store.open(describeBytes(bytes)))).equals(bytes)).toBe(true);
  });

  test('a signal ends everything', async () => {
    await using store = await fresh();
    const descriptor = await push(store, randomBytes(3_000_000));
    const signal = AbortSignal.abort();
    await failure('ABORTED', collect(store.open(descriptor, { signal })));
    const upload = await store.upload({ signal });
    await failure('ABORTED', upload.write(Buffer.alloc(1)));
    await upload.abort();

    const controller = new AbortController();
    const reading = async (): Promise<void> => {
      for await (const _ of store.open(descriptor, { signal: controller.signal })) controller.abort();
    };
    await failure('ABORTED', reading());
  });

  test('a manifest that is larger than 8 MiB is not fetched', async () => {
    await using store = await fresh();
    await failure('FORMAT', store.manifest({ ...describeBytes(Buffer.alloc(1)), size: 8 * 1024 * 1024 + 1 }));
  });
}
