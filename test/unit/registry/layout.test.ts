/** OCI layouts: several writers, killed writers, damaged files, and what other tools put there. */
import { execFileSync, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseManifest } from '../../../src/image/manifest.ts';
import { MEDIA } from '../../../src/image/media.ts';
import { openStore } from '../../../src/registry/open.ts';
import type { ImageStore } from '../../../src/registry/store.ts';
import { needs } from '../../kit/skip.ts';
import { collect, describeBytes, failure, manifestOf, push, pushImage } from './contract.ts';

const FIXTURES = join(import.meta.dirname, '../../fixtures');

let dir: string;
const open = (ref: string | null = null, path = dir): Promise<ImageStore> =>
  openStore({ transport: 'oci', path, ref }, { create: true });
const index = () => JSON.parse(readFileSync(join(dir, 'index.json'), 'utf8'));
const names = (): string[] =>
  index().manifests.map(
    (entry: { annotations?: Record<string, string> }) => entry.annotations?.['org.opencontainers.image.ref.name'],
  );
const blobFile = (digest: string): string => join(dir, 'blobs', ...digest.split(':'));

beforeEach(() => {
  dir = join(mkdtempSync(join(tmpdir(), 'lacuna-layout-')), 'layout');
});
afterEach(() => rmSync(join(dir, '..'), { recursive: true }));

describe('reading', () => {
  test('what other tools wrote', async () => {
    await using store = await openStore({
      transport: 'oci',
      path: join(FIXTURES, 'oci/tame-mini'),
      ref: 'tame-mini-gzip',
    });
    const descriptor = await store.resolve(null);
    const manifest = parseManifest(await store.manifest(descriptor), descriptor.digest);
    for (const layer of [manifest.config, ...manifest.layers])
      expect((await collect(store.open(layer))).length).toBe(layer.size);
  });

  test('a damaged blob, and a shortened one', async () => {
    await using store = await open('a');
    const blob = await push(store, randomBytes(3_000_000));
    const bytes = readFileSync(blobFile(blob.digest));
    bytes[1_500_000]! ^= 1;
    writeFileSync(blobFile(blob.digest), bytes);
    await failure('DIGEST_MISMATCH', collect(store.open(blob)));
    truncateSync(blobFile(blob.digest), 2_999_999);
    expect((await failure('SIZE_MISMATCH', collect(store.open(blob)))).message).toContain('and has 2999999');
  });

  test('a pipe in a blob’s place does not block', async () => {
    await using store = await open('a');
    const blob = await push(store, randomBytes(10));
    rmSync(blobFile(blob.digest));
    execFileSync('mkfifo', [blobFile(blob.digest)]);
    await failure('FORMAT', collect(store.open(blob)));
  });

  test('no layout, another thing, another version', async () => {
    await failure('NOT_FOUND', openStore({ transport: 'oci', path: dir, ref: null }));
    mkdirSync(dir);
    writeFileSync(join(dir, 'oci-layout'), 'x');
    await failure('FORMAT', open());
    writeFileSync(join(dir, 'oci-layout'), '{"imageLayoutVersion":"2.0.0"}');
    expect((await failure('FORMAT', open())).message).toContain('imageLayoutVersion');
    writeFileSync(join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    await using store = await open();
    expect((await failure('NOT_FOUND', store.resolve(null))).message).toContain('no index.json');
    writeFileSync(join(dir, 'index.json'), '{"schemaVersion":2,"manifests":[{"digest":"x"}]}');
    expect((await failure('FORMAT', store.resolve(null))).message).toContain('manifests[0]');
  });

  test('which image, when there are several', async () => {
    await using store = await open();
    const first = await pushImage(store, 'a');
    expect((await store.resolve(null)).digest).toBe(first.digest);
    await pushImage(store, 'b');
    const error = await failure('REFERENCE', store.resolve(null));
    expect(error.hint).toBe('name one of them: a, b');
    expect((await failure('NOT_FOUND', store.resolve('c'))).hint).toBe('it has: a, b');
    // As results are printed.
    expect(await store.resolve(`a@${first.digest}`)).toMatchObject({ digest: first.digest, size: first.size });
    await failure('NOT_FOUND', store.resolve(`a@sha256:${'0'.repeat(64)}`));
  });

  test('a digest that is a blob, but no manifest', async () => {
    await using store = await open('a');
    await pushImage(store, 'a');
    const blob = await push(store, Buffer.from('{"mediaType":"text/plain"}'));
    await failure('FORMAT', store.resolve(blob.digest));
  });
});

describe('writing', () => {
  test('keeps entries and fields that are not ours, replaces an equal ref', async () => {
    await using store = await open('a');
    await pushImage(store, 'a');
    const foreign = {
      mediaType: 'application/vnd.example.thing+json',
      digest: `sha256:${'1'.repeat(64)}`,
      size: 3,
      annotations: { 'org.opencontainers.image.ref.name': 'theirs', other: 'x' },
      data: 'e30=',
      'x-unknown': [1, { deep: true }],
    };
    const unnamed = { mediaType: MEDIA.ociManifest, digest: `sha256:${'2'.repeat(64)}`, size: 4 };
    const document = index();
    document.manifests.push(foreign, unnamed);
    document.annotations = { of: 'the index' };
    document['x-unknown'] = 1;
    writeFileSync(join(dir, 'index.json'), JSON.stringify(document));
    const second = await pushImage(store, 'a');
    expect(index()).toEqual({
      schemaVersion: 2,
      mediaType: MEDIA.ociIndex,
      annotations: { of: 'the index' },
      'x-unknown': 1,
      manifests: [foreign, unnamed, { ...second, annotations: { 'org.opencontainers.image.ref.name': 'a' } }],
    });
  });

  test('an image without a name is listed once', async () => {
    await using store = await open(null);
    const bytes = manifestOf(await push(store, Buffer.from('{}')), []);
    const descriptor = await store.pushManifest(bytes, MEDIA.ociManifest, null);
    await store.pushManifest(bytes, MEDIA.ociManifest, null);
    expect(index().manifests).toEqual([descriptor]);
  });

  test('an index that is broken is not replaced', async () => {
    await using store = await open('a');
    for (const text of ['{', '{"manifests":1}', '{"manifests":[1]}']) {
      writeFileSync(join(dir, 'index.json'), text);
      await failure('FORMAT', store.pushManifest(Buffer.from('{}'), MEDIA.ociManifest, 'a'));
      expect(readFileSync(join(dir, 'index.json'), 'utf8')).toBe(text);
      expect(existsSync(join(dir, '.lacuna-tmp'))).toBe(false);
    }
  });

  test('a store that is closed in the middle removes what it was writing', async () => {
    const store = await open('a');
    await pushImage(store, 'a');
    const before = readdirSync(dir, { recursive: true }).sort();
    const upload = await store.upload();
    await upload.write(randomBytes(100));
    const other = await store.upload();
    const writing = other.write(randomBytes(100)).catch(() => {});
    expect(readdirSync(join(dir, '.lacuna-tmp')).length).toBeGreaterThan(0);
    await store[Symbol.asyncDispose]();
    await writing;
    expect(readdirSync(dir, { recursive: true }).sort()).toEqual(before);
  });

  test('a mount is only of the same layout', async () => {
    await using store = await open('a');
    await using again = await open('b');
    await using other = await open('a', `${dir}-other`);
    const blob = await push(store, Buffer.from('x'));
    expect(await again.mountFrom(blob, store)).toBe(true);
    expect(await other.mountFrom(blob, store)).toBe(false);
  });

  test('a sha512 is compared with the bytes, and is the name of the blob', async () => {
    await using store = await open('a');
    const bytes = Buffer.from('hello');
    const right = `sha512:${createHash('sha512').update(bytes).digest('hex')}`;
    for (const digest of [`sha512:${'0'.repeat(128)}`, right]) {
      const upload = await store.upload();
      await upload.write(bytes);
      if (digest === right) await upload.commit(digest, bytes.length);
      else await failure('DIGEST_MISMATCH', upload.commit(digest, bytes.length));
    }
    expect(readdirSync(join(dir, 'blobs/sha512'))).toEqual([right.slice('sha512:'.length)]);
    expect(readFileSync(blobFile(right))).toEqual(bytes);
  });

  const skip = needs('skopeo');
  test.skipIf(skip.reason)('skopeo reads it', async () => {
    cpSync(join(FIXTURES, 'oci/tame-mini'), dir, { recursive: true });
    await using store = await open('tame-mini-gzip');
    const descriptor = await store.resolve(null);
    await store.pushManifest(await store.manifest(descriptor), descriptor.mediaType, 'a-new.name:1');
    execFileSync('skopeo', ['copy', '--insecure-policy', `oci:${dir}:a-new.name:1`, `dir:${dir}-copy`], {
      stdio: 'ignore',
    });
    const copied = JSON.parse(readFileSync(join(`${dir}-copy`, 'manifest.json'), 'utf8'));
    expect(copied.layers).toHaveLength(3);
  });
});

describe('several writers', () => {
  test('of one process: every ref is there', async () => {
    const stores = await Promise.all(Array.from({ length: 8 }, (_, i) => open(`ref${i}`)));
    await Promise.all(stores.map((store) => pushImage(store, null)));
    expect(names().sort()).toEqual(Array.from({ length: 8 }, (_, i) => `ref${i}`));
    for (const store of stores) await store[Symbol.asyncDispose]();
  });

  const writer = join(import.meta.dirname, 'layout-writer.mjs');
  const start = (...args: string[]) =>
    spawn(process.execPath, [writer, dir, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });

  test.skipIf(needs('dist').reason)('of several processes: every ref is there', async () => {
    const writers = Array.from({ length: 4 }, (_, i) => start('push', `p${i}`, '10'));
    const codes = await Promise.all(writers.map(async (child) => (await once(child, 'exit'))[0]));
    expect(codes).toEqual([0, 0, 0, 0]);
    expect(new Set(names()).size).toBe(40);
    expect(readdirSync(dir).sort()).toEqual(['blobs', 'index.json', 'oci-layout']);
  });

  test.skipIf(needs('dist').reason)(
    'that are killed leave the index as it was, and their files to the next run',
    async () => {
      await using store = await open('a');
      await pushImage(store, 'a');
      const before = readFileSync(join(dir, 'index.json'), 'utf8');
      const child = start('hang');
      await once(child.stdout!, 'data');
      child.kill('SIGKILL');
      await once(child, 'exit');
      expect(readdirSync(join(dir, '.lacuna-tmp'))).toHaveLength(1);
      expect(readFileSync(join(dir, 'index.json'), 'utf8')).toBe(before);
      await using next = await open('b');
      await pushImage(next, 'b');
      expect(readdirSync(dir).sort()).toEqual(['blobs', 'index.json', 'oci-layout']);
      expect(names()).toEqual(['a', 'b']);
    },
  );

  test('do not see each other’s unfinished files as rubbish', async () => {
    await using first = await open('a');
    const upload = await first.upload();
    const bytes = randomBytes(1000);
    await upload.write(bytes);
    await using second = await open('b');
    await pushImage(second, 'b');
    const blob = describeBytes(bytes);
    await upload.commit(blob.digest, blob.size);
    expect(await first.has(blob)).toBe(true);
  });
});
