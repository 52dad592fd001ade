/** One contract for every place that blobs come from: exactly the range, or an error that says where. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type BlobSource, fileSource, storeSource } from '../../../src/blob/source.ts';
import { openStore } from '../../../src/registry/open.ts';
import type { ImageStore } from '../../../src/registry/store.ts';
import { startRegistry, type TestRegistry } from '../../kit/registry.ts';

const blob = Buffer.from(Array.from({ length: 700_001 }, (_, index) => (index * 13 + (index >> 9)) & 0xff));
const dir = mkdtempSync(join(tmpdir(), 'lacuna-source-'));
let registry: TestRegistry;
let store: ImageStore;
let hex: string;

beforeAll(async () => {
  registry = await startRegistry();
  hex = registry.storage.putBlob('some/image', blob).digest.slice('sha256:'.length);
  const reference = { transport: 'docker', host: registry.host, repository: 'some/image', tag: null, digest: null };
  store = await openStore(reference as Parameters<typeof openStore>[0], { retry: { attempts: 1 } });
  mkdirSync(join(dir, 'blobs'));
  writeFileSync(join(dir, 'blobs', hex), blob);
});
afterAll(async () => {
  await store[Symbol.asyncDispose]();
  await registry.close();
  rmSync(dir, { recursive: true });
});

/** A table counts a blob only as far as its chunks go: `used` bytes. */
const kinds: [string, (id: string, used: number) => BlobSource][] = [
  ['a file', (id) => fileSource(join(dir, 'blobs', id))],
  ['a repository', (id, used) => storeSource(store, id, used)],
];

async function read(source: BlobSource, offset: number, length: number, signal = new AbortController().signal) {
  const pieces: Buffer[] = [];
  for await (const piece of source.read(offset, length, signal)) pieces.push(piece);
  return Buffer.concat(pieces);
}

describe.each(kinds)('%s', (_name, open) => {
  it.each([
    [0, 1],
    [5, 300_000],
    [262_143, 2],
    [699_999, 2],
    [0, blob.length],
  ])('gives %i+%i', async (offset, length) => {
    expect((await read(open(hex, blob.length), offset, length)).equals(blob.subarray(offset, offset + length))).toBe(
      true,
    );
  });

  it('gives what a table uses of a blob that goes on behind it', async () => {
    expect((await read(open(hex, 1000), 10, 990)).equals(blob.subarray(10, 1000))).toBe(true);
  });

  it('says where nothing is', async () => {
    const source = open('0'.repeat(64), 1000);
    await expect(read(source, 0, 10)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(source.subject).not.toBe('');
  });

  it('gives an error, and not less, when the blob is shorter than it should be', async () => {
    await expect(read(open(hex, blob.length + 100), blob.length - 5, 10)).rejects.toMatchObject({
      name: 'LacunaError',
    });
  });

  it('stops when it is told to', async () => {
    const stop = new AbortController();
    const reading = (async () => {
      for await (const _piece of open(hex, blob.length).read(0, blob.length, stop.signal)) stop.abort();
    })();
    await expect(reading).rejects.toMatchObject({ name: expect.stringMatching(/Abort|Lacuna/) });
  });
});
