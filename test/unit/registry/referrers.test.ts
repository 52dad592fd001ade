/** What registries without (or with) the referrers API answer: there are none, and reading an image does not depend on it. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestOf } from '../../../src/image/digest.ts';
import type { Descriptor } from '../../../src/image/manifest.ts';
import { MEDIA } from '../../../src/image/media.ts';
import { parsePlatform } from '../../../src/image/platform.ts';
import { chooseManifest } from '../../../src/reader/select-manifest.ts';
import { referrersTag } from '../../../src/registry/referrers.ts';
import type { ImageStore } from '../../../src/registry/store.ts';
import { type FaultHook, type RegistryOptions, startRegistry, type TestRegistry } from '../../kit/registry.ts';
import type { Fault } from '../../kit/registry-faults.ts';
import { failure, manifestOf, pushImage } from './contract.ts';
import { storeAt, TRANSPORTS } from './kit.ts';

const HTML = { 'content-type': 'text/html; charset=utf-8' };
const list = (manifests: unknown): string => JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests });

describe.each(TRANSPORTS)('over %s', (transport) => {
  let registry: TestRegistry;
  let store: ImageStore;
  let image: Descriptor;
  const setUp = async (options: RegistryOptions = {}): Promise<void> => {
    registry = await startRegistry(options);
    store = await storeAt(registry, { transport });
    image = await pushImage(store, null);
  };
  const close = async (): Promise<void> => {
    await store[Symbol.asyncDispose]();
    await registry.close();
  };
  const toReferrers =
    (fault: Fault): FaultHook =>
    (request) =>
      request.path.includes('/referrers/') ? fault : null;
  /** What is read of the image, its referrers asked for. */
  const read = async () =>
    (await chooseManifest(store, parsePlatform('linux/amd64'), { referrers: true })).descriptor.digest;
  const refer = async (note: string): Promise<Descriptor> => {
    const config = { ...image, mediaType: MEDIA.ociEmpty };
    const document = JSON.parse(manifestOf(config, [], note).toString('utf8'));
    const bytes = Buffer.from(JSON.stringify({ ...document, artifactType: 'a/a', subject: image }));
    return await store.pushManifest(bytes, MEDIA.ociManifest, digestOf(bytes));
  };

  beforeEach(() => setUp());
  afterEach(close);

  test.each<[name: string, fault: Fault]>([
    ['400', { kind: 'status', status: 400 }],
    ['401 without a challenge', { kind: 'status', status: 401 }],
    ['401 with one', { kind: 'status', status: 401, headers: { 'www-authenticate': 'Basic realm="x"' } }],
    ['403', { kind: 'status', status: 403 }],
    ['404', { kind: 'status', status: 404, body: '404 page not found' }],
    ['405', { kind: 'status', status: 405 }],
    ['406', { kind: 'status', status: 406 }],
    ['410', { kind: 'status', status: 410 }],
    ['501', { kind: 'status', status: 501 }],
    ['a web page', { kind: 'status', status: 200, headers: HTML, body: '<!doctype html>' }],
    ['nothing', { kind: 'status', status: 200 }],
    ['null', { kind: 'status', status: 200, body: 'null' }],
    [
      'a list that is null',
      { kind: 'status', status: 200, headers: { 'content-type': MEDIA.ociIndex }, body: list(null) },
    ],
    ['a list of nothing', { kind: 'status', status: 200, headers: { 'content-type': MEDIA.ociIndex }, body: list([]) }],
    ['another document', { kind: 'status', status: 200, body: '{"errors":[]}' }],
    ['a redirect without an aim', { kind: 'status', status: 302 }],
    ['a redirect to a foreign scheme', { kind: 'status', status: 302, headers: { location: 'ftp://x/' } }],
  ])('%s: none, and the image is read', async (_name, fault) => {
    registry.fault = toReferrers(fault);
    expect(await store.referrers(image.digest, null)).toEqual([]);
    expect(await read()).toBe(image.digest);
  });

  test('a redirect to a login page', async () => {
    const page: Fault = { kind: 'status', status: 200, headers: HTML, body: '<!doctype html>' };
    const redirect: Fault = { kind: 'status', status: 302, headers: { location: '/ui/login' } };
    registry.fault = (request) => (request.path === '/ui/login' ? page : toReferrers(redirect)(request));
    expect(await store.referrers(image.digest, null)).toEqual([]);
    expect(await read()).toBe(image.digest);
  });

  test.each([500, 502, 503, 504, 429])(
    '%d is an error of the list, and the image is read all the same',
    async (status) => {
      registry.fault = toReferrers({ kind: 'status', status });
      expect(
        (await failure(status === 429 ? 'RATE_LIMITED' : 'UNAVAILABLE', store.referrers(image.digest, null))).op,
      ).toBe('list referrers');
      expect(await read()).toBe(image.digest);
    },
  );

  test('a list without a content type of its own', async () => {
    await close();
    await setUp({ referrers: { perPage: 5 } });
    const referrer = await refer('one');
    registry.fault = toReferrers({ kind: 'headers', headers: { 'content-type': 'application/json' } });
    expect((await store.referrers(image.digest, null)).map(({ digest }) => digest)).toEqual([referrer.digest]);
  });

  test('the tag that is the subject lists nothing, and nothing is written over it', async () => {
    await close();
    await setUp({ tagsAreDigests: true });
    expect(await store.referrers(image.digest, null)).toEqual([]);
    expect(await read()).toBe(image.digest);
    const error = await failure('UNSUPPORTED', refer('x'));
    expect(error.message).toContain(referrersTag(image.digest));
    expect(registry.storage.repository('test/image').tags.has(referrersTag(image.digest))).toBe(false);
  });

  test('of an index of platforms, too', async () => {
    await close();
    await setUp({ tagsAreDigests: true });
    const entry = { ...image, platform: { os: 'linux', architecture: 'amd64' } };
    const bytes = Buffer.from(list([entry]));
    const index = await store.pushManifest(bytes, MEDIA.ociIndex, 'latest');
    expect(await store.referrers(index.digest, null)).toEqual([]);
    expect(await read()).toBe(image.digest);
  });

  test('without a list no referrer is lost when the tag cannot be read', async () => {
    await refer('one');
    registry.fault = (request) =>
      request.path.includes('/manifests/sha256-') ? { kind: 'status', status: 403 } : null;
    await failure('FORBIDDEN', refer('two'));
    registry.fault = () => null;
    await refer('three');
    expect(await store.referrers(image.digest, null)).toHaveLength(2);
  });
});
