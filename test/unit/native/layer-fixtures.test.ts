/** Layers that other tools compressed: what comes out has the diffID that their config promises. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { needs } from '../../kit/skip.ts';
import { type LayerCompression, through } from './streams.ts';

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly annotations?: Record<string, string>;
}

const ROOT = fileURLToPath(new URL('../../fixtures/oci', import.meta.url));

const blob = (layout: string, digest: string): Buffer =>
  readFileSync(`${ROOT}/${layout}/blobs/${digest.replace(':', '/')}`);
const json = <T>(bytes: Buffer): T => JSON.parse(bytes.toString('utf8')) as T;
const compressionOf = (mediaType: string): LayerCompression =>
  mediaType.endsWith('gzip') ? 'gzip' : mediaType.endsWith('zstd') ? 'zstd' : 'none';

const images = readdirSync(ROOT).flatMap((layout) => {
  const { manifests } = json<{ manifests: Descriptor[] }>(readFileSync(`${ROOT}/${layout}/index.json`));
  return manifests
    .filter(({ digest }) => existsSync(`${ROOT}/${layout}/blobs/${digest.replace(':', '/')}`))
    .map(({ digest, annotations }) => [annotations!['org.opencontainers.image.ref.name']!, layout, digest] as const);
});

describe.skipIf(needs('addon').reason)('layers of the fixtures', () => {
  it('include gzip in many members, zstd in many frames, and plain tar', () => {
    const names = images.map(([name]) => name).join(' ');
    expect(names).toMatch(/-gzip/);
    expect(names).toMatch(/-zstd-multi/);
  });

  it.each(images)('%s', async (_, layout, digest) => {
    const { layers, config } = json<{ layers: Descriptor[]; config: Descriptor }>(blob(layout, digest));
    const diffIds = json<{ rootfs: { diff_ids: string[] } }>(blob(layout, config.digest)).rootfs.diff_ids;
    expect(layers.length).toBe(diffIds.length);
    for (const [index, layer] of layers.entries()) {
      const input = blob(layout, layer.digest);
      const { digests } = await through(compressionOf(layer.mediaType), input, [9973], [100_000]);
      expect(`sha256:${digests.compressedDigest}`).toBe(layer.digest);
      expect(`sha256:${digests.uncompressedDigest}`).toBe(diffIds[index]);
    }
  });
});
