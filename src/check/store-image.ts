/** Checks of one image manifest in a store, with its config, layers and blobs. */
import { storeSource } from '../blob/source.ts';
import { FEATURE } from '../formats/rafs/layout.ts';
import { isSha256Hex } from '../image/digest.ts';
import { parseJson } from '../image/json.ts';
import { artifactTypeOf } from '../image/kind.ts';
import { type Descriptor, examineConfig, examineManifest, type ImageConfig, type Manifest } from '../image/manifest.ts';
import { ANNOTATION, isManifest, layerCompression, MEDIA } from '../image/media.ts';
import type { Platform } from '../image/platform.ts';
import { reportingStore } from '../reader/progress.ts';
import { bootstrapLayerOf } from '../reader/select-manifest.ts';
import type { ImageStore } from '../registry/store.ts';
import type { BlobLocation, BlobLocations, BlobOptions } from './blob-location.ts';
import type { CheckedBlob } from './blob-table.ts';
import { checkBlobs } from './blobs.ts';
import { checkBootstrap } from './bootstrap.ts';
import { readDocument } from './documents.ts';
import type { Findings } from './findings.ts';
import { type BootstrapMembers, checkBootstrapLayer, checkPresence, checkTar } from './layer.ts';
import { checkConfig, checkManifest, isNydusBlob } from './manifest.ts';
import type { CheckedImage } from './report.ts';

/** Checks the manifest of the descriptor `listed`; `platform`: that of the index entry, null when there is none. */
export async function checkStoreImage(
  store: ImageStore,
  listed: Descriptor,
  platform: Platform | null,
  findings: Findings,
  options: BlobOptions,
): Promise<CheckedImage> {
  const manifestFindings = findings.forSubject(`manifest ${listed.digest}`);
  const image = {
    digest: listed.digest,
    kind: 'unknown',
    layers: 0,
    layersSize: 0,
    inodes: 0,
    names: 0,
    chunks: 0,
    blobs: [],
  } as const;
  if (!isManifest(listed.mediaType)) {
    await checkBlob(store, listed, 'manifest', manifestFindings, options);
    return { ...image, kind: 'artifact' };
  }
  const manifest = await readDocument(store, listed, examineManifest, manifestFindings, options);
  if (manifest === null) return image;
  if (artifactTypeOf(manifest) !== null) {
    const parts = [manifest.config, ...manifest.layers];
    for (const part of parts) await checkBlob(store, part, part.digest, manifestFindings, options);
    return { ...image, kind: 'artifact', layers: manifest.layers.length };
  }
  checkManifest(manifest, listed, manifestFindings);
  const config = await readConfig(store, manifest, platform, findings, options);
  await checkLayers(store, manifest, config, findings, manifestFindings, options);
  const layer = bootstrapLayerOf(manifest);
  const layersSize = manifest.layers.reduce((sum, { size }) => sum + size, 0);
  const facts = { ...image, layers: manifest.layers.length, layersSize } as const;
  if (layer === null) return { ...facts, kind: 'layers' };
  const diffId = config?.rootfs.diff_ids[manifest.layers.length - 1] ?? null;
  const members = await checkBootstrapLayer(
    store,
    layer,
    diffId,
    findings.forSubject(`layer ${layer.digest}`),
    options,
  );
  if (members.bootstrap === null) return { ...facts, kind: 'lazy' };
  const bootstrap = checkBootstrap(members.bootstrap, findings.forSubject(`bootstrap of ${listed.digest}`));
  if (bootstrap === null) return { ...facts, kind: 'lazy' };
  const places = new StoreLocations(store, manifest, members, findings, manifestFindings, options);
  const blobs = await checkBlobs(bootstrap, places, findings, options);
  const { inodes, names, chunks } = bootstrap;
  return { ...facts, kind: 'lazy', inodes, names, chunks: chunks.entries.length, blobs };
}

/** Checks presence and size of a blob that is not an image layer; with `deep` also its digest. */
async function checkBlob(
  store: ImageStore,
  blob: Descriptor,
  field: string,
  manifestFindings: Findings,
  options: BlobOptions,
): Promise<void> {
  if (!(await checkPresence(store, blob, field, manifestFindings, options)) || !options.deep) return;
  try {
    for await (const _ of store.open(blob, { signal: options.signal }));
  } catch (error) {
    manifestFindings.recordError(error, field);
  }
}

async function readConfig(
  store: ImageStore,
  manifest: Manifest,
  platform: Platform | null,
  findings: Findings,
  options: BlobOptions,
): Promise<ImageConfig | null> {
  // Some converters write no platform.
  if (manifest.config.mediaType === MEDIA.ociEmpty) return null;
  const configFindings = findings.forSubject(`config ${manifest.config.digest}`);
  const config = await readDocument(store, manifest.config, examineConfig, configFindings, options);
  if (config !== null) checkConfig(config, manifest, platform, configFindings);
  return config;
}

/**
 * Checks presence and sizes of all layers, and with `deep` the content of tar layers. Data blobs are read later, with their
 * chunks.
 */
async function checkLayers(
  store: ImageStore,
  manifest: Manifest,
  config: ImageConfig | null,
  findings: Findings,
  manifestFindings: Findings,
  options: BlobOptions,
): Promise<void> {
  const bootstrap = bootstrapLayerOf(manifest);
  for (const [i, layer] of manifest.layers.entries()) {
    const isThere = await checkPresence(store, layer, `layers[${i}]`, manifestFindings, options);
    if (!isThere || !options.deep || layer === bootstrap) continue;
    if (isNydusBlob(layer) || layerCompression(layer.mediaType) === null) continue;
    const diffId = config?.rootfs.diff_ids[i] ?? null;
    await checkTar(
      reportingStore(store, 'check', options.onProgress),
      layer,
      diffId,
      null,
      findings.forSubject(`layer ${layer.digest}`),
      options,
    );
  }
}

/** Locations of the blobs of an image: its own layers, and layers of other images that it refers to. */
class StoreLocations implements BlobLocations {
  readonly #store: ImageStore;
  readonly #layers: ReadonlyMap<string, Descriptor>;
  /** Digest of an ordinary layer → the layer with the chunk info for it. */
  readonly #refs: ReadonlyMap<string, Descriptor>;
  readonly #members: BootstrapMembers;
  readonly #findings: Findings;
  readonly #referred: ReadonlySet<string>;
  readonly #options: BlobOptions;

  constructor(
    store: ImageStore,
    manifest: Manifest,
    members: BootstrapMembers,
    findings: Findings,
    manifestFindings: Findings,
    options: BlobOptions,
  ) {
    this.#store = store;
    this.#layers = new Map(manifest.layers.map((layer) => [layer.digest, layer]));
    this.#refs = new Map(
      manifest.layers.flatMap((layer) => {
        const ref = layer.annotations?.[ANNOTATION.nydusRef];
        return ref === undefined ? [] : [[ref, layer] as const];
      }),
    );
    this.#members = members;
    this.#findings = findings;
    this.#referred = referredBlobs(manifest, manifestFindings);
    this.#options = options;
  }

  async data(blob: CheckedBlob): Promise<BlobLocation | null> {
    const digest = SHA256 + blob.id;
    const blobFindings = this.#findings.forSubject(`blob ${blob.id}`);
    const layer = this.#layers.get(digest);
    // A missing layer was recorded with the layers.
    if (layer !== undefined) {
      if (!(await this.#store.has(layer, this.#options))) return null;
      if (blob.compressedSize > layer.size) {
        const problem = `${blob.compressedSize} bytes, but ${layer.size} in the manifest`;
        blobFindings.error('compressed_size', null, problem, { code: 'SIZE_MISMATCH' });
      }
      return { source: storeSource(this.#store, blob.id, layer.size), size: layer.size };
    }
    if (!this.#referred.has(blob.id) && !this.#refs.has(digest)) {
      const hint = `list layers of other images in ${ANNOTATION.nydusReferenceBlobIds}, or the registry may delete them`;
      blobFindings.error(
        'blob_id',
        null,
        'the blob is neither a layer of the manifest nor listed as a layer of another image',
        { hint },
      );
    }
    return await this.#elsewhere(blob, blobFindings);
  }

  /** Location of a blob of another image. No descriptor has its size, so the size in the blob table is used. */
  async #elsewhere(blob: CheckedBlob, blobFindings: Findings): Promise<BlobLocation | null> {
    const size = blob.compressedSize;
    const source = storeSource(this.#store, blob.id, size);
    try {
      for await (const _ of source.read(Math.max(size - 1, 0), Math.min(size, 1), this.#options.signal));
      return { source, size };
    } catch (error) {
      blobFindings.recordError(error, 'blob_id');
      return null;
    }
  }

  async meta(blob: CheckedBlob): Promise<BlobLocation | null> {
    const layer = this.#metaLayer(blob);
    if (layer === null) {
      const blobFindings = this.#findings.forSubject(`blob ${blob.id}`);
      blobFindings.error('blob_meta_digest', null, 'no layer of the manifest has its chunk info', {
        code: 'NOT_FOUND',
      });
      return null;
    }
    // A missing layer was recorded with the layers.
    if (!(await this.#store.has(layer, this.#options))) return null;
    return { source: storeSource(this.#store, layer.digest.slice(SHA256.length), layer.size), size: layer.size };
  }

  packedMeta(blob: CheckedBlob): Buffer | null {
    const names = [this.#metaLayer(blob)?.digest.slice(SHA256.length), blob.id];
    for (const name of names) {
      const meta = name === undefined ? undefined : this.#members.metas.get(name);
      if (meta !== undefined) return meta;
    }
    return null;
  }

  /** The layer with the separate chunk info of a blob, found by its digest or by its reference to the blob. */
  #metaLayer(blob: CheckedBlob): Descriptor | null {
    if ((blob.features & FEATURE.SEPARATE) === 0) return null;
    const named = blob.metaDigest === null ? undefined : this.#layers.get(SHA256 + blob.metaDigest.toString('hex'));
    return named ?? this.#refs.get(SHA256 + blob.id) ?? null;
  }
}

const SHA256 = 'sha256:';
const MAX_LIST = 64 * 1024;

/** Ids in the annotation that protects blobs of other images from garbage collection. */
function referredBlobs(manifest: Manifest, findings: Findings): ReadonlySet<string> {
  const found = new Set<string>();
  const holders = [
    { where: 'annotations', annotations: manifest.annotations },
    ...manifest.layers.map(({ annotations }, i) => ({ where: `layers[${i}].annotations`, annotations })),
  ];
  for (const { where, annotations } of holders) {
    const text = annotations?.[ANNOTATION.nydusReferenceBlobIds];
    if (text === undefined) continue;
    const field = `${where}.${ANNOTATION.nydusReferenceBlobIds}`;
    try {
      const options = { op: 'parse annotation', subject: findings.subject, limit: MAX_LIST };
      const value = parseJson(Buffer.from(text), options);
      const ids = Array.isArray(value) ? (value as unknown[]) : [];
      if (!Array.isArray(value) || !ids.every((id) => typeof id === 'string' && isSha256Hex(id))) {
        findings.error(field, null, 'must be a list of blob ids');
      }
      for (const id of ids) if (typeof id === 'string') found.add(id);
    } catch (error) {
      findings.recordError(error, field);
    }
  }
  return found;
}
