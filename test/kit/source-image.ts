/** OCI layouts made of tars, right or wrong: the sources of conversions. Shares no code with `src`. */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';

export interface SourceLayer {
  readonly tar: Buffer;
  /** Default gzip. */
  readonly how?: 'gzip' | 'zstd' | 'none';
  /** What is stored instead of the compressed tar; digest and size are of this. */
  readonly stored?: Buffer;
  /** What lies under the layer's name instead: a blob that is not what it is called. */
  readonly lie?: Buffer;
  /** Fields of the descriptor to overwrite. */
  readonly descriptor?: Readonly<Record<string, unknown>>;
  readonly diffId?: string;
  /** Of its digest and diff ID. Default sha256. */
  readonly algorithm?: Algorithm;
}

export type Algorithm = 'sha256' | 'sha512';

export interface SourceImage {
  readonly layers: readonly SourceLayer[];
  /** Docker's media types instead of OCI's. */
  readonly docker?: boolean;
  /** Fields of config and manifest to add or overwrite. */
  readonly config?: Readonly<Record<string, unknown>>;
  readonly manifest?: Readonly<Record<string, unknown>>;
  /** Of the digests of config and manifest. Default sha256. */
  readonly algorithm?: Algorithm;
}

export interface SourceEntry {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly platform?: { readonly os: string; readonly architecture: string; readonly variant?: string };
  readonly annotations?: Readonly<Record<string, string>>;
  readonly artifactType?: string;
}

const OCI = 'application/vnd.oci.image';
const DOCKER = 'application/vnd.docker';
const TYPES = {
  oci: {
    manifest: `${OCI}.manifest.v1+json`,
    config: `${OCI}.config.v1+json`,
    gzip: `${OCI}.layer.v1.tar+gzip`,
    zstd: `${OCI}.layer.v1.tar+zstd`,
    none: `${OCI}.layer.v1.tar`,
  },
  docker: {
    manifest: `${DOCKER}.distribution.manifest.v2+json`,
    config: `${DOCKER}.container.image.v1+json`,
    gzip: `${DOCKER}.image.rootfs.diff.tar.gzip`,
    zstd: `${DOCKER}.image.rootfs.diff.tar.zstd`,
    none: `${DOCKER}.image.rootfs.diff.tar`,
  },
} as const;

export const digestOf = (data: Buffer, algorithm: Algorithm = 'sha256'): string =>
  `${algorithm}:${createHash(algorithm).update(data).digest('hex')}`;

const zstd = (data: Buffer): Buffer =>
  (createRequire(import.meta.url)('zstd-napi') as { compress(data: Buffer): Buffer }).compress(data);

const COMPRESS = { gzip: (tar: Buffer) => gzipSync(tar, { level: 1 }), zstd, none: (tar: Buffer) => tar };

function putBlob(dir: string, data: Buffer, digest = digestOf(data)): { digest: string; size: number } {
  const path = join(dir, 'blobs', ...digest.split(':'));
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, data);
  return { digest, size: data.length };
}

/** Writes a blob, or a document as JSON. Returns its descriptor. */
export function putData(dir: string, mediaType: string, data: unknown, algorithm: Algorithm = 'sha256'): SourceEntry {
  const bytes = Buffer.isBuffer(data) ? data : Buffer.from(JSON.stringify(data));
  return { mediaType, ...putBlob(dir, bytes, digestOf(bytes, algorithm)) };
}

/** Writes an image's blobs. Returns its entry for {@link putIndex} or {@link putLayout}. */
export function putImage(dir: string, image: SourceImage): SourceEntry {
  const types = TYPES[image.docker === true ? 'docker' : 'oci'];
  const layers = image.layers.map(({ tar, how = 'gzip', stored = COMPRESS[how](tar), lie, descriptor, algorithm }) => {
    const blob = putBlob(dir, stored, digestOf(stored, algorithm));
    if (lie !== undefined) putBlob(dir, lie, blob.digest);
    return { mediaType: types[how], ...blob, ...descriptor };
  });
  const diffIds = image.layers.map(({ tar, algorithm, diffId = digestOf(tar, algorithm) }) => diffId);
  const rootfs = { type: 'layers', diff_ids: diffIds };
  const config = { architecture: 'amd64', os: 'linux', rootfs, ...image.config };
  const manifest = {
    schemaVersion: 2,
    mediaType: types.manifest,
    config: putData(dir, types.config, config, image.algorithm),
    layers,
    ...image.manifest,
  };
  return putData(dir, types.manifest, manifest, image.algorithm);
}

/** Writes an image index. Returns its own entry. */
export function putIndex(dir: string, manifests: readonly SourceEntry[]): SourceEntry {
  const mediaType = `${OCI}.index.v1+json`;
  return putData(dir, mediaType, { schemaVersion: 2, mediaType, manifests });
}

/** Makes `dir` a layout with one entry, `image`. Returns the reference. */
export function putLayout(dir: string, entry: SourceEntry, ref = 'image'): string {
  putEntries(dir, [[ref, entry]]);
  return `oci:${dir}:${ref}`;
}

/** Makes `dir` a layout with these names and what they stand for. */
export function putEntries(dir: string, entries: ReadonlyArray<readonly [ref: string, entry: SourceEntry]>): void {
  writeFileSync(join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const manifests = entries.map(([ref, entry]) => ({
    ...entry,
    annotations: { 'org.opencontainers.image.ref.name': ref },
  }));
  writeFileSync(join(dir, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
}

/** A layout with one image. Returns its reference. */
export const sourceLayout = (dir: string, image: SourceImage): string => putLayout(dir, putImage(dir, image));
