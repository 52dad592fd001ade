/** Damaged images, read without mounting: the error says what is wrong, and no wrong byte comes out. */
import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Descriptor, parseManifest } from '../../../src/image/manifest.ts';
import { cat } from '../../../src/inspect/cat.ts';
import { ls } from '../../../src/inspect/ls.ts';
import { readBootstrapLayer } from '../../../src/reader/bootstrap.ts';
import { bootstrapLayerOf } from '../../../src/reader/select-manifest.ts';
import type { ImageStore } from '../../../src/registry/store.ts';
import { fixture } from '../../kit/layers.ts';
import { needs } from '../../kit/skip.ts';
import { END, member } from '../../kit/tar.ts';

const ID = '6460fc9d15236ff110701f48e4a1ed35255ed3d42ea456051bfffea51899d5b7';
const skip = needs('addon');

describe.skipIf(skip.reason)('a damaged image', () => {
  const dir = mkdtempSync(join(tmpdir(), 'damaged-'));
  const image = `rafs:${dir}/bootstrap`;
  beforeAll(() => cpSync(fixture('rafs/default'), dir, { recursive: true }));
  afterAll(() => rmSync(dir, { recursive: true }));

  const read = async (path: string): Promise<number> => {
    let bytes = 0;
    for await (const piece of cat(image, [path])) bytes += piece.length;
    return bytes;
  };
  /** Reads every file with `damage` done to the blob; gives what it threw. */
  const damaged = async (damage: (blob: Buffer) => Buffer): Promise<unknown> => {
    const original = readFileSync(join(dir, ID));
    writeFileSync(join(dir, ID), damage(Buffer.from(original)));
    try {
      for await (const _ of ls(image, { recursive: true, digests: true }));
      return null;
    } catch (error) {
      return error;
    } finally {
      writeFileSync(join(dir, ID), original);
    }
  };

  it('is fine before', async () => {
    expect(await damaged((blob) => blob)).toBeNull();
    expect(await read('/bin/box')).toBe(39_001);
  });

  it('a changed byte in a chunk', async () => {
    for (const at of [0, 5, 20_000, 80_000]) {
      const error = await damaged((blob) => {
        blob[at]! ^= 0x10;
        return blob;
      });
      expect(['FORMAT', 'DIGEST_MISMATCH']).toContain((error as { code: string }).code);
    }
  });

  it('a blob of other bytes, a short one, and none', async () => {
    expect(await damaged((blob) => Buffer.alloc(blob.length))).toMatchObject({
      code: expect.stringMatching(/FORMAT|DIGEST/),
    });
    expect(await damaged((blob) => blob.subarray(0, 1000))).toMatchObject({ code: 'SIZE_MISMATCH' });
    await expect(read('/bin/box')).resolves.toBeGreaterThan(0);
    rmSync(join(dir, ID));
    await expect(read('/bin/box')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    cpSync(fixture('rafs/default', ID), join(dir, ID));
  });

  it('a bootstrap that is cut, or missing', async () => {
    const list = async () => {
      for await (const _ of ls(image));
    };
    truncateSync(join(dir, 'bootstrap'), 5000);
    await expect(list()).rejects.toMatchObject({ code: 'FORMAT', field: 'bootstrap' });
    rmSync(join(dir, 'bootstrap'));
    await expect(list()).rejects.toMatchObject({ code: 'NOT_FOUND' });
    cpSync(fixture('rafs/default/bootstrap'), join(dir, 'bootstrap'));
  });
});

describe('the bootstrap layer', () => {
  const layer: Descriptor = {
    mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
    digest: `sha256:${'0'.repeat(64)}`,
    size: 1,
  };
  /** A store whose only blob is this. */
  const storeOf = (data: Buffer): ImageStore => {
    async function* open() {
      yield data;
    }
    return { subject: 'test', open } as unknown as ImageStore;
  };
  const unpack = (...members: Buffer[]) =>
    readBootstrapLayer(storeOf(gzipSync(Buffer.concat([...members, END]))), layer);

  it('is unpacked', async () => {
    const boot = member({ name: 'image/image.boot', data: 'bootstrap' });
    expect((await unpack(member({ name: 'image/', type: '5' }), boot)).bootstrap.toString()).toBe('bootstrap');
    const last = member({ name: './image/image.boot', data: 'later' });
    expect((await unpack(boot, member({ name: 'image/x.blob.meta', data: 'y' }), last)).bootstrap.toString()).toBe(
      'later',
    );
  });

  it('is refused without a bootstrap, or with one that claims to be enormous', async () => {
    const missing = { code: 'FORMAT', field: 'image/image.boot', message: expect.stringMatching(/missing/) };
    await expect(unpack(member({ name: 'image/other', data: 'x' }))).rejects.toMatchObject(missing);
    const huge = member({ name: 'image/image.boot', size: 600 * 1024 * 1024 });
    await expect(unpack(huge)).rejects.toMatchObject({
      code: 'FORMAT',
      message: expect.stringMatching(/exceed the limit/),
    });
  });

  it('is refused when it is no gzip, cut, or of another type', async () => {
    const format = { code: 'FORMAT' };
    await expect(readBootstrapLayer(storeOf(Buffer.from('no gzip at all')), layer)).rejects.toMatchObject(format);
    const whole = gzipSync(Buffer.concat([member({ name: 'image/image.boot', data: 'x'.repeat(5000) }), END]));
    await expect(readBootstrapLayer(storeOf(whole.subarray(0, 60)), layer)).rejects.toMatchObject(format);
    const other = { ...layer, mediaType: 'application/octet-stream' };
    await expect(readBootstrapLayer(storeOf(whole), other)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  it('passes on the error of the store', async () => {
    async function* open(): AsyncGenerator<Buffer> {
      yield gzipSync(member({ name: 'a' })).subarray(0, 20);
      throw Object.assign(new Error('cut'), { code: 'UNAVAILABLE' });
    }
    const store = { subject: 'test', open } as unknown as ImageStore;
    await expect(readBootstrapLayer(store, layer)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  });
});

describe('bootstrapLayerOf', () => {
  const descriptor = (mediaType: string, annotations?: Record<string, string>) => ({
    mediaType,
    digest: `sha256:${'1'.repeat(64)}`,
    size: 1,
    ...(annotations === undefined ? {} : { annotations }),
  });
  const blob = descriptor('application/vnd.oci.image.layer.nydus.blob.v1');
  const tar = descriptor('application/vnd.oci.image.layer.v1.tar+gzip');
  const marked = descriptor(tar.mediaType, { 'containerd.io/snapshot/nydus-bootstrap': 'true' });
  const isLazy = (config: string, layers: object[], more: object = {}) => {
    const manifest = { schemaVersion: 2, config: descriptor(config), layers, ...more };
    return bootstrapLayerOf(parseManifest(Buffer.from(JSON.stringify(manifest)), 'test')) !== null;
  };
  const oci = 'application/vnd.oci.image.config.v1+json';
  const nydus = 'application/vnd.nydus.image.config.v1+json';

  it('knows a lazy image by its last layer, its config, or its artifact type', () => {
    expect(isLazy(oci, [blob, marked])).toBe(true);
    expect(isLazy(nydus, [blob, tar])).toBe(true);
    expect(isLazy(oci, [blob, tar], { artifactType: 'application/vnd.nydus.image.manifest.v1+json' })).toBe(true);
    expect(isLazy(oci, [tar, tar])).toBe(false);
    expect(isLazy(oci, [marked, tar])).toBe(false);
    expect(isLazy(nydus, [blob])).toBe(false);
    expect(isLazy(oci, [])).toBe(false);
  });
});
