/** Whole images to and from registries that behave like known ones, which differ from the specification. */
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestOf } from '../../../src/image/digest.ts';
import type { Descriptor } from '../../../src/image/manifest.ts';
import { MEDIA } from '../../../src/image/media.ts';
import { copyImage } from '../../../src/registry/copy.ts';
import { UPLOAD_WINDOW } from '../../../src/registry/http/upload.ts';
import type { ImageStore } from '../../../src/registry/store.ts';
import { uploadBlob } from '../../../src/registry/upload-blob.ts';
import { startRegistry, type TestRegistry } from '../../kit/registry.ts';
import { PROFILES } from '../../kit/registry-profiles.ts';
import { collect, describeBytes, manifestOf, pushImage, writeAll } from './contract.ts';
import { ada, storeAt, TRANSPORTS } from './kit.ts';

const layer = randomBytes(6 * 1024 * 1024 + 1);
const cases = Object.entries(PROFILES).flatMap(([name, profile]) =>
  TRANSPORTS.map((transport) => ({ name, profile, transport })),
);

describe.each(cases)('$name over $transport', ({ name, profile, transport }) => {
  let registry: TestRegistry;
  let store: ImageStore;
  let base: ImageStore;

  beforeEach(async () => {
    registry = await startRegistry({ auth: 'token', ...profile });
    store = await storeAt(registry, { transport, credentials: ada });
    base = await storeAt(registry, { transport, credentials: ada }, 'test/base');
  });
  afterEach(async () => {
    await store[Symbol.asyncDispose]();
    await base[Symbol.asyncDispose]();
    await registry.close();
  });

  /** An image of two layers in `into`, one of them large. */
  const pushLarge = async (into: ImageStore): Promise<Descriptor> => {
    const parts: Descriptor[] = [];
    for (const bytes of [Buffer.from('{}'), layer, Buffer.from('small')]) {
      parts.push(await uploadBlob(into, (upload) => writeAll(upload, bytes)));
    }
    const [config, ...layers] = parts as [Descriptor, ...Descriptor[]];
    const bytes = manifestOf({ ...config, mediaType: MEDIA.ociConfig }, layers);
    return await into.pushManifest(bytes, MEDIA.ociManifest, null);
  };

  test('an image is pushed and read', async () => {
    const pushed = await pushLarge(store);
    expect(await store.resolve(null)).toEqual(pushed);
    expect(await store.resolve(pushed.digest)).toEqual(pushed);
    const manifest = JSON.parse((await store.manifest(pushed)).toString('utf8'));
    expect(manifest.layers.map(({ digest }: Descriptor) => digest)).toEqual([
      digestOf(layer),
      digestOf(Buffer.from('small')),
    ]);
    expect((await collect(store.open(manifest.layers[0]))).equals(layer)).toBe(true);
    const part = await collect(store.open(manifest.layers[0], { offset: 3_000_000, length: 100_000 }));
    expect(part.equals(layer.subarray(3_000_000, 3_100_000))).toBe(true);
    expect(registry.uploads.open).toBe(0);
  });

  test('an image of another repository is copied, whatever a mount says', async () => {
    const pushed = await pushLarge(base);
    await copyImage(base, store, pushed, null);
    expect(await store.resolve(null)).toEqual(pushed);
    expect(registry.storage.repository('test/image').blobs.get(digestOf(layer))?.equals(layer)).toBe(true);
    expect(registry.uploads.open).toBe(0);
  });

  test('an image that nothing refers to has no referrers', async () => {
    const pushed = await pushImage(store, null);
    expect(await store.referrers(pushed.digest, null)).toEqual([]);
    expect(await store.referrers(pushed.digest, MEDIA.nydusArtifact)).toEqual([]);
  });

  test('a push that is cut arrives whole', async () => {
    let isCut = false;
    registry.fault = (request) => {
      if (isCut || request.method !== 'PATCH') return null;
      isCut = true;
      return { kind: 'cut-request', after: 5_000_000 };
    };
    const long = Buffer.concat([layer, layer, layer]).subarray(0, UPLOAD_WINDOW + 1_000_000);
    await uploadBlob(store, (upload) => writeAll(upload, long, 999_983));
    expect(registry.storage.repository('test/image').blobs.get(describeBytes(long).digest)?.equals(long)).toBe(true);
    expect(isCut, name).toBe(true);
    expect(registry.uploads.open).toBe(0);
  });
});
