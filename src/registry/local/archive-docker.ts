/**
 * Archives of `docker save`, read as images with manifests. `manifest.json` lists configs and layers by member name; a
 * layer is a plain tar, whose digest is its diffID, or (from other tools) a compressed one. Since Docker 25 the tar is
 * an OCI layout, too; its manifest, which is the registry's, is used where there is one.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { FormatError, LacunaError } from '../../errors.ts';
import { type Compression, detectCompression, MAGIC_SIZE } from '../../image/compression.ts';
import { digestOf, hasDigest, isDigest } from '../../image/digest.ts';
import { type Descriptor, type Manifest, parseConfig, parseIndex, parseManifest } from '../../image/manifest.ts';
import { ANNOTATION, isIndex, isManifest, MEDIA } from '../../image/media.ts';
import { dockerArchiveName } from '../../image/reference.ts';
import { abortError, isAborted } from '../http/transport.ts';
import type { ArchiveContent, ArchiveFile } from './archive-file.ts';
import { type BlobLocation, inMemory } from './file-store.ts';

const MAX_IMAGES = 4096;
const MAX_LAYERS = 1024;
/** Maximum depth of indexes within indexes. */
const MAX_NESTING = 3;
/** Maximum bytes that are hashed at once. */
const PIECE = 1024 * 1024;

const images = z
  .array(
    z.object({
      Config: z.string().max(512),
      RepoTags: z.array(z.string().max(512)).max(MAX_IMAGES).optional(),
      Layers: z.array(z.string().max(512)).max(MAX_LAYERS).optional(),
    }),
  )
  .max(MAX_IMAGES);

type SavedImage = z.infer<typeof images>[number];

/** Reads `manifest.json` and every config. FORMAT, with the wrong member. */
export async function readDockerArchive(file: ArchiveFile, signal: AbortSignal | null): Promise<ArchiveContent> {
  const document = await file.json('manifest.json');
  if (document === null) throw notSaved(file);
  const parsed = images.safeParse(document, { jitless: true });
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw bad(file, `manifest.json ${issue?.path.join('.') ?? ''}`.trim(), issue?.message ?? 'invalid');
  }
  const reader = new SavedImages(file, signal);
  await reader.findManifests();
  for (const image of parsed.data) await reader.add(image);
  return reader;
}

interface Config {
  readonly name: string;
  readonly digest: string;
  readonly size: number;
}

interface Layer {
  readonly location: BlobLocation;
  readonly mediaType: string;
  /** Digest of a compressed layer; absent for a plain tar, whose digest is its diffID. */
  readonly digest?: string;
}

class SavedImages implements ArchiveContent {
  readonly entries: Descriptor[] = [];
  readonly #file: ArchiveFile;
  readonly #signal: AbortSignal | null;
  readonly #locations = new Map<string, BlobLocation>();
  /** Config digest → the manifest in the OCI layout that names it, and the number of its layers. */
  readonly #manifests = new Map<string, { readonly descriptor: Descriptor; readonly layers: number }>();
  /** Configs by member name: each is read once, even when several images name it. */
  readonly #configs = new Map<string, Config>();
  readonly #diffIds = new Map<string, readonly string[]>();
  readonly #layers = new Map<string, Layer>();

  constructor(file: ArchiveFile, signal: AbortSignal | null) {
    this.#file = file;
    this.#signal = signal;
  }

  find(digest: string): BlobLocation | null {
    return (
      this.#locations.get(digest) ?? (isDigest(digest) ? this.#file.find(`blobs/${digest.replace(':', '/')}`) : null)
    );
  }

  /** Collects the manifests of the OCI layout in the archive. Its index may list platforms that were not saved. */
  async findManifests(): Promise<void> {
    const index = await this.#file.read('index.json');
    if (index === null || this.#file.find('oci-layout') === null) return;
    const seen = new Set<string>();
    let level = parseIndex(index, `${this.#file.subject}, index.json`).manifests;
    for (let depth = 0; depth < MAX_NESTING && level.length > 0; depth++) {
      const next: Descriptor[] = [];
      for (const descriptor of level) {
        if (seen.has(descriptor.digest)) continue;
        seen.add(descriptor.digest);
        const bytes = await this.#file.read(`blobs/${descriptor.digest.replace(':', '/')}`);
        if (bytes === null || !hasDigest(bytes, descriptor.digest)) continue;
        if (isIndex(descriptor.mediaType)) next.push(...parseIndex(bytes, descriptor.digest).manifests);
        else if (isManifest(descriptor.mediaType)) this.#keep(descriptor, parseManifest(bytes, descriptor.digest));
      }
      level = next.slice(0, MAX_IMAGES);
    }
  }

  async add({ Config, RepoTags, Layers }: SavedImage): Promise<void> {
    const config = this.#configs.get(Config) ?? (await this.#readConfig(Config));
    this.#configs.set(Config, config);
    const layers = Layers ?? [];
    const kept = this.#manifests.get(config.digest);
    // Docker 25.0.0 wrote OCI manifests without layers.
    const isComplete = kept !== undefined && kept.layers === layers.length;
    const descriptor = isComplete ? kept.descriptor : await this.#describe(config, layers);
    const { mediaType, size } = descriptor;
    const names = (RepoTags ?? []).flatMap(normalName);
    const plain = { mediaType, digest: descriptor.digest, size };
    if (names.length === 0) this.entries.push(plain);
    for (const name of names) this.entries.push({ ...plain, annotations: { [ANNOTATION.refName]: name } });
  }

  async #readConfig(name: string): Promise<Config> {
    const bytes = await this.#file.read(memberName(name));
    if (bytes === null) throw bad(this.#file, name, 'missing: manifest.json names it as a config');
    const digest = digestOf(bytes);
    // Docker and other tools name a config after its digest.
    const named = /(?:^|\/)([0-9a-f]{64})(?:\.json)?$/.exec(name)?.[1];
    if (named !== undefined && `sha256:${named}` !== digest) {
      throw new LacunaError('DIGEST_MISMATCH', `the config ${name} hashes to ${digest}`, {
        op: 'read archive',
        subject: this.#file.subject,
      });
    }
    this.#locations.set(digest, this.#file.find(memberName(name))!);
    return { name, digest, size: bytes.length };
  }

  async #readDiffIds(name: string, digest: string): Promise<readonly string[]> {
    const bytes = (await this.#file.read(memberName(name)))!;
    return parseConfig(bytes, `${this.#file.subject}, config ${digest}`).rootfs.diff_ids;
  }

  #keep(descriptor: Descriptor, manifest: Manifest): void {
    // Blobs that were not saved are in the registry only; manifest.json lists those in the archive.
    if (![manifest.config, ...manifest.layers].every(({ digest }) => this.find(digest) !== null)) return;
    if (!this.#manifests.has(manifest.config.digest))
      this.#manifests.set(manifest.config.digest, { descriptor, layers: manifest.layers.length });
  }

  /** Makes the manifest that `docker push` would make of uncompressed layers. */
  async #describe({ name: configName, digest, size }: Config, names: readonly string[]): Promise<Descriptor> {
    const diffIds = this.#diffIds.get(configName) ?? (await this.#readDiffIds(configName, digest));
    this.#diffIds.set(configName, diffIds);
    if (diffIds.length !== names.length) {
      throw bad(
        this.#file,
        'manifest.json Layers',
        `it has ${names.length} layers, and the config has ${diffIds.length} diff_ids`,
      );
    }
    const layers: Descriptor[] = [];
    for (const [i, name] of names.entries()) layers.push(await this.#layer(name, diffIds[i]!));
    const manifest: Manifest = {
      schemaVersion: 2,
      mediaType: MEDIA.dockerManifest,
      config: { mediaType: MEDIA.dockerConfig, digest, size },
      layers,
    };
    const bytes = Buffer.from(JSON.stringify(manifest));
    const made = { mediaType: MEDIA.dockerManifest, digest: digestOf(bytes), size: bytes.length };
    this.#locations.set(made.digest, inMemory(bytes));
    return made;
  }

  async #layer(name: string, diffId: string): Promise<Descriptor> {
    const layer = this.#layers.get(name) ?? (await this.#readLayer(name));
    this.#layers.set(name, layer);
    const { location, mediaType, digest = diffId } = layer;
    this.#locations.set(digest, location);
    return { mediaType, digest, size: location.size };
  }

  async #readLayer(name: string): Promise<Layer> {
    const location = this.#file.find(memberName(name));
    if (location === null) throw bad(this.#file, name, 'missing: manifest.json names it as a layer');
    const compression = await compressionOf(location);
    const mediaType = LAYER_TYPES[compression] ?? MEDIA.dockerLayer;
    return compression === 'none'
      ? { location, mediaType }
      : { location, mediaType, digest: await this.#hash(location) };
  }

  async #hash(location: BlobLocation): Promise<string> {
    const hash = createHash('sha256');
    const file = await location.open();
    const buffer = Buffer.allocUnsafe(PIECE);
    for (let at = 0; at < location.size; ) {
      if (isAborted(this.#signal)) throw abortError(this.#signal, 'read archive', this.#file.subject);
      const { bytesRead } = await file.read(buffer, 0, Math.min(PIECE, location.size - at), location.offset + at);
      if (bytesRead === 0) throw bad(this.#file, 'layer', 'truncated');
      hash.update(buffer.subarray(0, bytesRead));
      at += bytesRead;
    }
    await file.close();
    return `sha256:${hash.digest('hex')}`;
  }
}

/** The name without leading `./` and `/`, as members are indexed. */
const memberName = (name: string): string => name.replace(/^(?:\.?\/)+/, '');

function normalName(name: string): string[] {
  try {
    return [dockerArchiveName(name)];
  } catch {
    // No reference can have this name, so it is left out.
    return [];
  }
}

async function compressionOf(location: BlobLocation): Promise<Compression> {
  const file = await location.open();
  const buffer = Buffer.alloc(MAGIC_SIZE);
  const { bytesRead } = await file.read(buffer, 0, Math.min(MAGIC_SIZE, location.size), location.offset);
  await file.close();
  return detectCompression(buffer.subarray(0, bytesRead));
}

/** Media types of compressed layers. Docker has none for other compressions, which readers of layers detect. */
const LAYER_TYPES: Readonly<Partial<Record<Compression, string>>> = {
  gzip: MEDIA.dockerLayerGzip,
  zstd: MEDIA.dockerLayerZstd,
};

const bad = (file: ArchiveFile, field: string, problem: string): FormatError =>
  new FormatError(field, problem, { op: 'read archive', subject: file.subject });

function notSaved(file: ArchiveFile): LacunaError {
  const context = { op: 'open', subject: file.subject };
  if (file.find('repositories') !== null) {
    return new LacunaError('UNSUPPORTED', 'the archive was saved by a Docker older than 1.10', {
      ...context,
      hint: 'load it with docker load, and save it again with a recent Docker',
    });
  }
  return new LacunaError('FORMAT', 'not a docker archive: it has no manifest.json', {
    ...context,
    ...(file.find('index.json') === null ? {} : { hint: `oci-archive:${file.subject} reads an OCI layout in a tar` }),
  });
}
