/**
 * A lazy image → an ordinary one: one layer with all of its content, or the layers of the original where it still
 * exists.
 */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { createGzip } from 'node:zlib';
import { LacunaError } from '../errors.ts';
import { digestOf } from '../image/digest.ts';
import { type Descriptor, type ImageConfig, type ImageHistory, type Manifest, parseConfig } from '../image/manifest.ts';
import { ANNOTATION, MEDIA } from '../image/media.ts';
import { hostPlatform, parsePlatform } from '../image/platform.ts';
import type { OpenedImage } from '../reader/image.ts';
import { bootstrapLayerOf, chooseManifest } from '../reader/select-manifest.ts';
import { copyImage } from '../registry/copy.ts';
import type { BlobUpload, ImageStore } from '../registry/store.ts';
import { uploadBlob } from '../registry/upload-blob.ts';
import type { UnpackOptions, UnpackPlan } from './options.ts';
import { layerTarOf, refuseWhiteouts } from './tar.ts';
import type { TreePlan } from './tree.ts';

/** gzip level: its output is a third of the input, in a fourth of the time of the best level. */
const GZIP_LEVEL = 6;

/** Pushes the merged content as an image of one layer. `config`: the bytes of the lazy image's, null for bare files. */
export async function pushMerged(
  image: OpenedImage,
  tree: TreePlan,
  config: Buffer | null,
  to: ImageStore,
  compress: 'gzip' | 'none',
  plan: UnpackPlan,
): Promise<Descriptor> {
  refuseWhiteouts(tree, image.subject);
  const signal = { signal: plan.signal };
  const { layer, diffId } = await uploadBlob(
    to,
    (upload) => writeLayer(layerTarOf(image, tree, plan), upload, compress),
    signal,
  );
  const configBytes = json(ordinaryConfig(config === null ? null : parseConfig(config, image.subject), diffId));
  const described = { mediaType: MEDIA.ociConfig, digest: digestOf(configBytes), size: configBytes.length };
  const write = async (upload: BlobUpload): Promise<void> => {
    await upload.write(configBytes);
    await upload.commit(described.digest, described.size);
  };
  await uploadBlob(to, write, signal);
  const manifest: Manifest = {
    schemaVersion: 2,
    mediaType: MEDIA.ociManifest,
    config: described,
    layers: [layer],
    ...annotationsOf(image.manifest?.manifest ?? null),
  };
  return await to.pushManifest(json(manifest), MEDIA.ociManifest, null, signal);
}

async function writeLayer(
  tar: AsyncIterable<Buffer>,
  upload: BlobUpload,
  compress: 'gzip' | 'none',
): Promise<{ layer: Descriptor; diffId: string }> {
  const plain = createHash('sha256');
  const stored = createHash('sha256');
  let size = 0;
  async function* hashed() {
    for await (const piece of tar) {
      plain.update(piece);
      yield piece;
    }
  }
  for await (const piece of compress === 'gzip' ? gzipped(hashed()) : hashed()) {
    stored.update(piece);
    size += piece.length;
    await upload.write(piece);
  }
  const digest = `sha256:${stored.digest('hex')}`;
  await upload.commit(digest, size);
  const mediaType = compress === 'gzip' ? MEDIA.ociLayerGzip : MEDIA.ociLayer;
  return { layer: { mediaType, digest, size }, diffId: `sha256:${plain.digest('hex')}` };
}

async function* gzipped(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const gzip = createGzip({ level: GZIP_LEVEL });
  const source = Readable.from(pieces, { objectMode: true });
  // The error has to reach the reader of the other end.
  source.once('error', (error) => gzip.destroy(error));
  source.pipe(gzip);
  try {
    for await (const piece of gzip) yield piece as Buffer;
  } finally {
    source.destroy();
  }
}

/** The lazy image's config with the one layer there is now. Its history stays, as steps that left no layer of their own. */
function ordinaryConfig(config: ImageConfig | null, diffId: string): ImageConfig {
  const rootfs = { type: 'layers' as const, diff_ids: [diffId] };
  if (config === null) {
    const { os, architecture, variant } = hostPlatform();
    return { os, architecture, ...(variant === null ? {} : { variant }), rootfs };
  }
  const before = (config.history ?? []).filter(({ comment }) => comment !== 'Nydus Bootstrap Layer');
  const merged: ImageHistory = { created_by: 'lacuna unpack', comment: 'the merged content of the image' };
  const history = [...before.map((entry) => ({ ...entry, empty_layer: true })), merged];
  return { ...config, rootfs, history };
}

/** The annotations of the image, without those that made it a lazy one. */
function annotationsOf(manifest: Manifest | null): Pick<Manifest, 'annotations'> {
  const kept = Object.entries(manifest?.annotations ?? {}).filter(
    ([key]) => !key.startsWith('containerd.io/snapshot/'),
  );
  return kept.length === 0 ? {} : { annotations: Object.fromEntries(kept) };
}

/**
 * Copies the original image, byte for byte. A lazy image names it by digest, and it is looked for where the lazy image
 * is; of an ordinary image it is itself.
 */
export async function copyOriginal(from: ImageStore, to: ImageStore, options: UnpackOptions): Promise<Descriptor> {
  const signal = options.signal === undefined ? {} : { signal: options.signal };
  const platform = options.platform === undefined ? hostPlatform() : parsePlatform(options.platform);
  const { descriptor, manifest } = await chooseManifest(from, platform, options);
  const copy = async (found: Descriptor): Promise<Descriptor> => {
    await copyImage(from, to, found, null, signal);
    return found;
  };
  if (bootstrapLayerOf(manifest) === null) return await copy(descriptor);
  const named = manifest.annotations?.[ANNOTATION.nydusSourceDigest] ?? manifest.subject?.digest;
  const original = named === undefined ? null : await findOriginal(from, named, options);
  if (original !== null) return await copy(original);
  throw new LacunaError('NOT_FOUND', originalMissing(named), {
    op: 'unpack',
    subject: from.subject,
    hint: 'a lazy image keeps its content merged: without --layers it becomes one layer',
  });
}

const originalMissing = (digest: string | undefined): string =>
  digest === undefined ? 'the image does not name its original' : `the original image ${digest} was not found`;

async function findOriginal(from: ImageStore, digest: string, options: UnpackOptions): Promise<Descriptor | null> {
  try {
    return await from.resolve(digest, options.signal === undefined ? {} : { signal: options.signal });
  } catch (error) {
    if (error instanceof LacunaError && error.code === 'NOT_FOUND') return null;
    throw error;
  }
}

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
