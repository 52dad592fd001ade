/** Layers that their store does not have, fetched from the urls of their descriptors. */

import { mkdtempSync, rmSync } from 'node:fs';
import type { LookupFunction } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { check } from '../../../src/check/check.ts';
import { convert } from '../../../src/convert/convert.ts';
import type { Descriptor } from '../../../src/image/manifest.ts';
import { parseReference } from '../../../src/image/reference.ts';
import { ls } from '../../../src/inspect/ls.ts';
import { silentLog } from '../../../src/observe/log.ts';
import { ForeignLayers, isLocalAddress } from '../../../src/registry/http/foreign.ts';
import { DEFAULT_RETRY } from '../../../src/registry/http/retry.ts';
import type { TransportRequest } from '../../../src/registry/http/transport.ts';
import { openStore } from '../../../src/registry/open.ts';
import type { StoreOptions } from '../../../src/registry/store.ts';
import { layoutBlobPath, readLayoutBlob, readLayoutJson } from '../../kit/converted.ts';
import { failure } from '../../kit/failure.ts';
import { startRegistry, type TestRegistry } from '../../kit/registry.ts';
import { PASSWORD, USER } from '../../kit/registry-auth.ts';
import { needs } from '../../kit/skip.ts';
import { digestOf, putImage, putLayout } from '../../kit/source-image.ts';
import { END, member } from '../../kit/tar.ts';

const skip = needs('addon');
const root = mkdtempSync(join(tmpdir(), 'foreign-'));
afterAll(() => rmSync(root, { recursive: true }));
const fresh = (): string => mkdtempSync(join(root, 't-'));

const FOREIGN = 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip';
const DOCKER = 'application/vnd.docker.distribution.manifest.v2+json';
const tar = Buffer.concat([member({ name: 'f', data: 'f'.repeat(200_000) }), END]);
const stored = gzipSync(tar);
const digest = digestOf(stored);
const ALWAYS: StoreOptions = { foreignLayers: 'always', retry: { attempts: 1 } };

async function pathsIn(reference: string, store: StoreOptions): Promise<string[]> {
  const paths: string[] = [];
  for await (const row of ls(reference, { platform: 'linux/amd64', recursive: true, digests: true, store })) {
    paths.push(row.path!);
  }
  return paths;
}

/** A layout whose layer is only at `urls`. */
function layoutWith(urls: readonly string[] | undefined): { dir: string; reference: string; image: string } {
  const dir = fresh();
  const descriptor = { mediaType: FOREIGN, ...(urls === undefined ? {} : { urls }) };
  const entry = putImage(dir, { docker: true, layers: [{ tar, stored, descriptor }] });
  const reference = putLayout(dir, entry);
  rmSync(layoutBlobPath(dir, digest));
  return { dir, reference, image: entry.digest };
}

describe.skipIf(skip.reason).each(['undici', 'node-fetch'] as const)('over %s', (transport) => {
  const always: StoreOptions = { ...ALWAYS, transport };
  let elsewhere: TestRegistry;
  beforeEach(async () => {
    elsewhere = await startRegistry();
    elsewhere.storage.putBlob('foreign', stored);
  });
  afterEach(() => elsewhere.close());
  const url = (): string => `${elsewhere.origin}/v2/foreign/blobs/${digest}`;

  test('from the first url that has it', async () => {
    const { reference } = layoutWith([`${elsewhere.origin}/nothing/here`, url()]);
    expect(await pathsIn(reference, always)).toEqual(['/', '/f']);
    const target = `oci:${fresh()}/layout:lazy`;
    await convert(reference, target, { source: always });
    expect(await pathsIn(target, {})).toEqual(['/', '/f']);
  });

  test('not at all when the store has it', async () => {
    const dir = fresh();
    const descriptor = { mediaType: FOREIGN, urls: [url()] };
    const reference = putLayout(dir, putImage(dir, { docker: true, layers: [{ tar, stored, descriptor }] }));
    expect(await pathsIn(reference, always)).toEqual(['/', '/f']);
    await using registry = await startRegistry();
    registry.storage.putLayout('app', dir);
    expect(await pathsIn(`docker://${registry.host}/app:image`, always)).toEqual(['/', '/f']);
    expect(elsewhere.requests).toEqual([]);
  });

  test('through a redirect, and in a range', async () => {
    await using mirror = await startRegistry();
    elsewhere.fault = () => ({ kind: 'redirect', to: mirror.origin });
    mirror.storage.putBlob('foreign', stored);
    const { reference, dir, image } = layoutWith([url()]);
    await using store = await openStore(parseReference(reference), always);
    const [layer] = readLayoutJson(dir, image).layers as Descriptor[];
    const pieces: Buffer[] = [];
    for await (const piece of store.open(layer!, { offset: 10, length: 100 })) pieces.push(piece);
    expect(Buffer.concat(pieces)).toEqual(stored.subarray(10, 110));
  });

  test('is not left out of the original that is kept', async () => {
    const { reference, dir, image } = layoutWith([url()]);
    const target = join(fresh(), 'layout');
    await convert(reference, `oci:${target}:both`, { as: 'index', source: always });
    expect(readLayoutJson(target, image)).toEqual(readLayoutJson(dir, image));
    expect(await check(reference)).toMatchObject({ ok: true, problems: [] });
  });

  test('other bytes are a wrong digest', async () => {
    const other = Buffer.from(stored);
    other[4] = 1;
    elsewhere.storage.repository('foreign').blobs.set(digest, other);
    const { reference } = layoutWith([url()]);
    expect((await failure(pathsIn(reference, always))).code).toBe('DIGEST_MISMATCH');
    expect((await failure(convert(reference, `oci:${fresh()}/layout:lazy`, { source: always }))).code).toBe(
      'DIGEST_MISMATCH',
    );
  });

  test('a local address is not asked for an image that is not from a registry', async () => {
    const { reference } = layoutWith([url()]);
    const error = await failure(pathsIn(reference, { transport }));
    expect(error).toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining(elsewhere.host) });
    expect(elsewhere.requests).toEqual([]);
  });

  test('a local registry’s image may name local addresses, which get none of its credentials', async () => {
    const { dir, image } = layoutWith([url()]);
    await using registry = await startRegistry({ auth: 'basic' });
    registry.storage.putManifest('app', DOCKER, readLayoutBlob(dir, image), 'image');
    registry.storage.putBlob('app', readLayoutBlob(dir, readLayoutJson(dir, image).config.digest));
    const credentials = async () => ({ username: USER, password: PASSWORD });
    const options: StoreOptions = { transport, credentials, retry: { attempts: 1 } };
    expect(await pathsIn(`docker://${registry.host}/app:image`, options)).toEqual(['/', '/f']);
    expect(elsewhere.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
    const error = await failure(pathsIn(`docker://${registry.host}/app:image`, { ...options, foreignLayers: 'never' }));
    expect(error).toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining(elsewhere.host) });
  });

  test('a url that nobody answers, or that is not HTTP', async () => {
    for (const bad of ['http://127.0.0.1:1/layer', 'ftp://example.invalid/layer', `${elsewhere.origin}/nothing`, 'x']) {
      const { reference } = layoutWith([bad]);
      const error = await failure(pathsIn(reference, always));
      expect(error).toMatchObject({ code: 'UNSUPPORTED' });
      if (URL.canParse(bad)) expect(error.message).toContain(new URL(bad).host);
    }
    expect((await failure(pathsIn(layoutWith(undefined).reference, always))).code).toBe('UNSUPPORTED');
  });
});

describe('what is asked', () => {
  const descriptor = (url: string): Descriptor => ({ mediaType: FOREIGN, digest, size: stored.length, urls: [url] });

  /** Where requests went, and the error, when everything answers with a redirect to `location`. */
  async function ask(url: string, location: string, registry: string | null = null) {
    const requests: TransportRequest[] = [];
    const resolvers: Array<LookupFunction | null> = [];
    const foreign = new ForeignLayers({
      policy: 'public',
      registry,
      connect: async (resolver) => {
        resolvers.push(resolver);
        return {
          async request(request) {
            requests.push(request);
            return { status: 307, header: (name) => (name === 'location' ? location : null), body: nothing() };
          },
          close: async () => {},
        };
      },
      retry: { ...DEFAULT_RETRY, attempts: 1 },
      log: silentLog,
    });
    const error = await failure(foreign.read(descriptor(url), {}).next());
    return {
      asked: requests.map((one) => one.url.href),
      headers: requests.map((one) => one.headers),
      error,
      lookup: resolvers[0] ?? null,
    };
  }
  async function* nothing(): AsyncGenerator<Buffer> {}
  const HOST = '93.184.216.34';

  test.each([
    'http://127.0.0.1/x',
    'http://localhost:5000/x',
    'http://2130706433/x',
    'http://0/x',
    'https://[::1]/x',
    'https://[::ffff:127.0.0.1]/x',
    'http://169.254.169.254/latest/meta-data',
    'http://[fe80::1]/x',
    'http://[fd00:ec2::254]/x',
    'http://10.0.0.1/x',
  ])('never %s', async (url) => {
    const { asked, error } = await ask(url, '');
    expect(asked).toEqual([]);
    expect(error).toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining(new URL(url).host) });
  });

  test.each(['http://169.254.169.254/x', 'http://localhost/x'])('nor where a redirect leads: %s', async (location) => {
    const { asked, error } = await ask(`http://${HOST}/x`, location);
    expect(asked).toEqual([`http://${HOST}/x`]);
    expect(error.message).toContain(new URL(location).host);
  });

  test('nor a name that has come to mean such an address', async () => {
    const { lookup } = await ask(`http://${HOST}/x`, 'http://localhost/x');
    const error = await new Promise((resolve) => lookup!('localhost', { all: true }, resolve));
    expect(error).toMatchObject({ code: 'EACCES' });
  });

  test('without what a url says of its user', async () => {
    const { asked, headers } = await ask(`http://me:secret@${HOST}/x?token=1`, 'http://localhost/x');
    expect(asked).toEqual([`http://${HOST}/x?token=1`]);
    expect(headers[0]).not.toHaveProperty('authorization');
  });

  test('what the registry is beside', async () => {
    const { asked, lookup } = await ask('http://10.0.0.1/x', 'http://10.0.0.1/y', '192.168.1.1:5000');
    expect(asked).toContain('http://10.0.0.1/x');
    expect(lookup).toBeNull();
  });

  test.each([
    ['8.8.8.8', false],
    ['2606:4700::1111', false],
    ['::ffff:8.8.8.8', false],
    ['::ffff:10.0.0.1', true],
    ['100.64.0.1', true],
    ['172.31.255.255', true],
    ['172.32.0.0', false],
    ['255.255.255.255', true],
    ['::', true],
  ])('%s is local: %j', (address, isLocal) => {
    expect(isLocalAddress(address)).toBe(isLocal);
  });
});
