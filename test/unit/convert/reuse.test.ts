/** What an earlier conversion left in the target is not made again, and is what a conversion from nothing gives. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { convert } from '../../../src/convert/convert.ts';
import type { ConvertOptions } from '../../../src/convert/options.ts';
import { layoutBlobPath, readConverted, readLayoutBlob, readLayoutJson, refDigest } from '../../kit/converted.ts';

import { noise } from '../../kit/random.ts';
import { type LoggedRequest, startRegistry, type TestRegistry } from '../../kit/registry.ts';
import { needs } from '../../kit/skip.ts';
import { putImage, putIndex, putLayout, type SourceLayer } from '../../kit/source-image.ts';
import { END, member, pax } from '../../kit/tar.ts';

const MIB = 1024 * 1024;
const layer = (...members: Buffer[]): SourceLayer => ({ tar: Buffer.concat([...members, END]) });

/** Everything that a layer can do to those below it. */
const BASE = [
  layer(
    member({ name: 'd/', type: '5', mode: 0o755 }),
    member({ name: 'd/big', data: noise(700_000, 1) }),
    member({ name: 'd/gone', data: 'gone' }),
    member({ name: 'l', type: '2', link: 'd/big' }),
    pax({ 'SCHILY.xattr.user.k': 'v', mtime: '1234567890.123456789' }),
    member({ name: 'x', data: 'x' }),
    member({ name: 'zeros', data: '\0'.repeat(5 * MIB + 100) }),
    member({ name: 'twice', data: noise(131_072, 9).repeat(2) + noise(131_072, 8) }),
  ),
  layer(
    member({ name: 'd/.wh.gone' }),
    member({ name: 'implicit/deep/file', data: noise(3000, 2) }),
    member({ name: 'joined', type: '1', link: 'd/big' }),
    member({ name: 'two', data: 'two' }),
    member({ name: 'two-too', type: '1', link: 'two' }),
    member({ name: 'opaque/.wh..wh..opq' }),
  ),
  layer(member({ name: 'empty', data: '' })),
];
const TOP = layer(member({ name: 'top', data: noise(100_000, 3) }));

const CHOICES: Readonly<Record<string, ConvertOptions>> = {
  default: {},
  'chunk 4 KiB, sha256': { chunkSize: 4096, digester: 'sha256' },
  'level 9': { level: 9 },
  lz4: { compressor: 'lz4' },
  batch: { batchSize: 128 * 1024, chunkSize: MIB },
  'batch, separate': { batchSize: MIB, compressor: 'lz4', blob: 'separate' },
  separate: { blob: 'separate' },
  'prefetch, align': { prefetch: ['/top', '/x'], align: 2 * MIB },
  'oci-ref': { ociRef: true, chunkSize: MIB },
};

describe.skipIf(needs('addon').reason)('a conversion into a target that has an earlier one', () => {
  const dir = mkdtempSync(join(tmpdir(), 'convert-reuse-'));
  afterAll(() => rmSync(dir, { recursive: true }));
  const fresh = (): string => join(mkdtempSync(join(dir, 'r-')), 'layout');
  const source = (layers: readonly SourceLayer[]): string => {
    const path = fresh();
    return putLayout(path, putImage(path, { layers }));
  };
  const first = source(BASE);
  const second = source([...BASE, TOP]);

  const bodies = ({ requests }: TestRegistry) =>
    requests.filter(({ method, path }: LoggedRequest) => method === 'GET' && path.includes('/blobs/'));
  const writes = ({ requests }: TestRegistry) =>
    requests.filter(({ method }: LoggedRequest) => ['POST', 'PATCH', 'PUT', 'DELETE'].includes(method));
  const pathOf = (reference: string): string => reference.split(':')[1]!;

  describe.each(Object.entries(CHOICES))('with %s', (_, options) => {
    it('in a layout: unchanged layers are not read, and the image is the same', async () => {
      const target = fresh();
      await convert(first, `oci:${target}:one`, options);
      const { digest, images } = await convert(second, `oci:${target}:two`, options);
      const plain = await convert(second, `oci:${fresh()}:two`, options);
      expect(digest).toBe(plain.digest);
      expect(images[0]!.layers.map(({ isReused }) => isReused)).toEqual([true, true, true, false]);
      const facts = ({ images: [image] }: typeof plain) =>
        image!.layers.map(({ transfer, isReused, duration, ...same }) => same);
      expect(facts({ ...plain, images })).toEqual(facts(plain));
    });

    it('at registries: no layer that is there is asked for or sent', async () => {
      await using from = await startRegistry();
      await using to = await startRegistry();
      from.storage.putLayout('app', pathOf(second));
      const target = `docker://${to.host}/team/app`;
      const made = await convert(first, `${target}:one`, options);
      to.requests.length = 0;
      const { digest, images } = await convert(`docker://${from.host}/app:image`, `${target}:two`, options);
      const known = new Set(made.images[0]!.layers.map(({ source: layerDigest }) => layerDigest));
      expect(bodies(from).filter(({ path }) => [...known].some((name) => path.endsWith(name)))).toEqual([]);
      const sent = images[0]!.transfer;
      expect(images[0]!.layers.slice(0, 3).map(({ transfer }) => transfer.uploaded)).toEqual([0, 0, 0]);
      expect(sent.reused).toBe(
        images[0]!.layers.slice(0, 3).reduce((sum, { blobSize, metaSize }) => sum + blobSize + metaSize, 0),
      );
      const plain = await convert(`docker://${from.host}/app:image`, `oci:${fresh()}:two`, options);
      expect(digest).toBe(plain.digest);
    });
  });

  const forms: Array<['lazy' | 'index' | 'referrer', boolean]> = [
    ['lazy', false],
    ['lazy', true],
    ['index', true],
    ['referrer', true],
  ];
  it.each(forms)('once more, as %s (of several platforms: %s), costs manifest requests only', async (as, isMany) => {
    const path = fresh();
    const entries = (isMany ? ['amd64', 'arm64'] : ['amd64']).map((architecture) => ({
      ...putImage(path, { layers: [...BASE, layer(member({ name: architecture, data: architecture }))] }),
      platform: { os: 'linux', architecture },
    }));
    putLayout(path, isMany ? putIndex(path, entries) : entries[0]!);
    await using from = await startRegistry();
    await using to = await startRegistry({ referrers: { perPage: 9 } });
    from.storage.putLayout('app', path);
    const run = () => convert(`docker://${from.host}/app:image`, `docker://${to.host}/team/app:lazy`, { as });
    const before = await run();
    for (const { requests } of [from, to]) requests.length = 0;
    const again = await run();
    expect(again.digest).toBe(before.digest);
    expect(again.images.map(({ digest }) => digest)).toEqual(before.images.map(({ digest }) => digest));
    expect([...from.requests, ...to.requests].filter(({ path: url }) => !url.includes('/manifests/'))).toEqual([]);
    expect(again.transfer.uploaded + again.transfer.copied + again.transfer.mounted).toBe(0);
    expect(again.images.every(({ isReused }) => isReused)).toBe(true);
    if (as === 'lazy' && !isMany) expect(writes(to)).toEqual([]);
  });

  it('under another tag is named, nothing else', async () => {
    await using to = await startRegistry();
    const target = `docker://${to.host}/team/app`;
    const { digest } = await convert(first, `${target}:one`);
    to.requests.length = 0;
    expect((await convert(first, `${target}:other`)).digest).toBe(digest);
    expect(writes(to).map(({ method, path }) => [method, path])).toEqual([['PUT', '/v2/team/app/manifests/other']]);
  });

  it('with force is converted again', async () => {
    const target = fresh();
    const { digest } = await convert(first, `oci:${target}:one`);
    const again = await convert(first, `oci:${target}:one`, { force: true });
    expect(again.digest).toBe(digest);
    expect(again.images[0]!.isReused).toBe(false);
    expect(again.images[0]!.layers.map(({ isReused }) => isReused)).toEqual([false, false, false]);
    // The target had all of it, and says so.
    expect(again.images[0]!.transfer).toMatchObject({ uploaded: 0, reused: 0 });
  });

  it('with other options reuses nothing', async () => {
    const target = fresh();
    await convert(first, `oci:${target}:one`);
    for (const options of Object.values(CHOICES).slice(1)) {
      const { digest } = await convert(first, `oci:${target}:x`, options);
      expect(digest).toBe((await convert(first, `oci:${fresh()}:x`, options)).digest);
    }
  });

  it('with dedup image takes whole images only', async () => {
    const target = fresh();
    const options: ConvertOptions = { dedup: 'image' };
    const one = await convert(first, `oci:${target}:one`, options);
    expect((await convert(first, `oci:${target}:one`, options)).images[0]).toMatchObject({
      digest: one.digest,
      isReused: true,
    });
    const two = await convert(second, `oci:${target}:two`, options);
    expect(two.images[0]!.layers.some(({ isReused }) => isReused)).toBe(false);
  });

  it('that left no records is not found', async () => {
    const target = fresh();
    await convert(first, `oci:${target}:one`, { records: false });
    expect((await convert(first, `oci:${target}:one`)).images[0]!.isReused).toBe(false);
  });

  it('leaves the names of a layout alone', async () => {
    const target = fresh();
    const { digest } = await convert(first, `oci:${target}:one`);
    expect(readLayoutJson(target, digest).schemaVersion).toBe(2);
    const index = JSON.parse(readFileSync(join(target, 'index.json'), 'utf8'));
    expect(index.manifests).toHaveLength(1);
    expect(refDigest(target, 'one')).toBe(digest);
  });

  it('whose blob is gone makes it again', async () => {
    const target = fresh();
    const one = await convert(first, `oci:${target}:one`);
    rmSync(layoutBlobPath(target, one.images[0]!.layers[0]!.blob!));
    const { digest, images } = await convert(second, `oci:${target}:two`);
    expect(images[0]!.layers.map(({ isReused }) => isReused)).toEqual([false, true, true, false]);
    expect(digest).toBe((await convert(second, `oci:${fresh()}:two`)).digest);
    expect(readLayoutBlob(target, one.images[0]!.layers[0]!.blob!).length).toBeGreaterThan(700_000);
  });

  it('whose records are damaged, or are somebody else’s, converts', async () => {
    await using to = await startRegistry();
    const target = `docker://${to.host}/team/app`;
    const plain = await convert(second, `oci:${fresh()}:two`);
    await convert(first, `${target}:one`);
    const { blobs, tags, manifests } = to.storage.repository('team/app');
    const listed = JSON.parse(manifests.get(tags.get('lacuna-layers')!)!.bytes.toString()).layers;
    expect(listed).toHaveLength(3);
    for (const { digest } of listed) blobs.delete(digest);
    expect((await convert(second, `${target}:two`)).digest).toBe(plain.digest);
    for (const bytes of ['{}', '{"schemaVersion":2', 'null']) {
      manifests.set(tags.get('lacuna-layers')!, {
        mediaType: 'application/vnd.oci.image.manifest.v1+json',
        bytes: Buffer.from(bytes),
      });
      expect((await convert(second, `${target}:three`, { force: false })).digest).toBe(plain.digest);
    }
    tags.set('lacuna-layers', tags.get('one')!);
    const { digest } = await convert(second, `${target}:four`);
    expect([digest, tags.get('lacuna-layers')]).toEqual([plain.digest, tags.get('one')]);
  });

  it('pushes the image even if the registry refuses the artifact of records', async () => {
    await using to = await startRegistry();
    to.fault = ({ method, path }) =>
      method === 'PUT' && path.endsWith('/lacuna-layers') ? { kind: 'status', status: 400 } : null;
    const warnings: string[] = [];
    const log = {
      debug() {},
      info() {},
      error() {},
      warn: (_: object, message: string) => void warnings.push(message),
    };
    const target = `docker://${to.host}/team/app:one`;
    const { digest } = await convert(first, target, { log });
    expect(to.storage.repository('team/app').tags.get('one')).toBe(digest);
    expect(warnings).toEqual(['could not record this conversion; the next one converts every layer again']);
  });

  it('reports each layer’s bytes by how they came there', async () => {
    const target = fresh();
    const { images, transfer, duration } = await convert(second, `oci:${target}:two`);
    const [image] = images;
    const { manifest } = readConverted(target, image!.digest);
    const size = [manifest.config, ...manifest.layers].reduce((sum, part) => sum + part.size, 0);
    expect(image!.transfer).toEqual({ uploaded: size, there: 0, reused: 0, mounted: 0, copied: 0 });
    expect(transfer).toEqual(image!.transfer);
    for (const { blobSize, transfer: own } of image!.layers) expect(own.uploaded).toBe(blobSize);
    expect(duration).toBeGreaterThanOrEqual(image!.duration);
  });
});
