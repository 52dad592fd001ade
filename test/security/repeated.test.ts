/** A small document that names one large thing again and again: it is read once, and kept once. */
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { digestOf } from '../../src/image/digest.ts';
import type { Descriptor } from '../../src/image/manifest.ts';
import { MEDIA } from '../../src/image/media.ts';
import { imagesOf, listManifests, MAX_LISTED_SIZE } from '../../src/reader/index-images.ts';
import { readDockerArchive } from '../../src/registry/local/archive-docker.ts';
import type { ArchiveFile } from '../../src/registry/local/archive-file.ts';
import { inMemory } from '../../src/registry/local/file-store.ts';
import type { ImageStore } from '../../src/registry/store.ts';

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const describeBytes = (bytes: Buffer, mediaType: string): Descriptor => ({
  mediaType,
  digest: digestOf(bytes),
  size: bytes.length,
});
const DIGEST = digestOf(Buffer.from('x'));
const COUNT = 1000;
const repeated = <T>(value: T): T[] => Array.from({ length: COUNT }, () => value);

describe('an index', () => {
  const reads: string[] = [];
  const contents = new Map<string, Buffer>();
  const store = {
    subject: 'test',
    manifest: async ({ digest }: Descriptor) => {
      reads.push(digest);
      return contents.get(digest)!;
    },
  } as unknown as ImageStore;
  const put = (value: unknown, mediaType: string): Descriptor => {
    const bytes = json(value);
    contents.set(digestOf(bytes), bytes);
    return describeBytes(bytes, mediaType);
  };
  const config = { mediaType: MEDIA.ociConfig, digest: DIGEST, size: 1 };
  const manifest = put({ schemaVersion: 2, config, layers: [], annotations: { note: 'large' } }, MEDIA.ociManifest);
  const indexOf = (manifests: readonly Descriptor[]) => put({ schemaVersion: 2, manifests }, MEDIA.ociIndex);

  it('that lists one manifest a thousand times has it read once', async () => {
    const index = indexOf(
      repeated(manifest).map((entry, i) => ({ ...entry, platform: { os: 'linux', architecture: `a${i}` } })),
    );
    reads.length = 0;
    const images = await imagesOf(store, index, null, {});
    expect(images).toHaveLength(COUNT);
    expect(new Set(images.map(({ bytes }) => bytes)).size).toBe(1);
    expect(images[7]!.descriptor.platform).toMatchObject({ architecture: 'a7' });
    expect(reads).toEqual([index.digest, manifest.digest]);
  });

  it('that lists one index a thousand times has it read once', async () => {
    const index = indexOf(repeated(indexOf([manifest])));
    reads.length = 0;
    expect(await listManifests(store, index, {})).toHaveLength(COUNT);
    expect(reads).toHaveLength(2);
  });

  it('lists no more bytes of manifests than are bounded, before any is read', async () => {
    const size = 8 * 1024 * 1024;
    const entry = (i: number) => ({ ...manifest, digest: digestOf(Buffer.from(`${i}`)), size });
    const index = indexOf(Array.from({ length: MAX_LISTED_SIZE / size + 1 }, (_, i) => entry(i)));
    reads.length = 0;
    await expect(imagesOf(store, index, null, {})).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    expect(reads).toEqual([index.digest]);
  });
});

describe('an archive of docker save', () => {
  it('whose images name one config and one layer a thousand times has them read once', async () => {
    const layer = gzipSync(Buffer.alloc(1000));
    const diffIds = repeated(DIGEST);
    const config = json({ os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: diffIds } });
    const images = Array.from({ length: 4 }, (_, i) => ({ Config: 'c', RepoTags: [`a:${i}`], Layers: repeated('l') }));
    const members: Record<string, Buffer> = { 'manifest.json': json(images), c: config, l: layer };
    const reads: Record<string, number> = {};
    const count = (name: string): void => {
      reads[name] = (reads[name] ?? 0) + 1;
    };
    const file = {
      subject: 'test.tar',
      find: (name: string) => {
        const bytes = members[name];
        if (bytes === undefined) return null;
        const place = inMemory(bytes);
        return {
          ...place,
          open: async () => {
            count(name);
            return await place.open();
          },
        };
      },
      read: async (name: string) => {
        count(name);
        return members[name] ?? null;
      },
      json: async (name: string) => JSON.parse(String(members[name])),
    } as unknown as ArchiveFile;
    const { entries } = await readDockerArchive(file, null);
    expect(entries).toHaveLength(4);
    // The layer: what it is compressed with, and its hash; the config: its digest, and its diffIDs.
    expect(reads).toMatchObject({ l: 2, c: 2 });
  });

  it('whose index names one manifest a thousand times has it read once', async () => {
    const config = json({ os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: [] } });
    const manifest = json({ schemaVersion: 2, config: describeBytes(config, MEDIA.ociConfig), layers: [] });
    const pathOf = (bytes: Buffer): string => `blobs/${digestOf(bytes).replace(':', '/')}`;
    const index = json({ schemaVersion: 2, manifests: repeated(describeBytes(manifest, MEDIA.ociManifest)) });
    const members: Record<string, Buffer> = {
      'manifest.json': json([{ Config: 'c', RepoTags: ['a:v'], Layers: [] }]),
      c: config,
      'oci-layout': Buffer.from('{}'),
      'index.json': index,
      [pathOf(manifest)]: manifest,
      [pathOf(config)]: config,
    };
    const reads: string[] = [];
    const file = {
      subject: 'test.tar',
      find: (name: string) => (members[name] === undefined ? null : inMemory(members[name])),
      read: async (name: string) => {
        reads.push(name);
        return members[name] ?? null;
      },
      json: async (name: string) => JSON.parse(String(members[name])),
    } as unknown as ArchiveFile;
    const { entries } = await readDockerArchive(file, null);
    expect(entries[0]).toMatchObject({ digest: digestOf(manifest), mediaType: MEDIA.ociManifest });
    expect(reads.filter((name) => name === pathOf(manifest))).toHaveLength(1);
  });
});
