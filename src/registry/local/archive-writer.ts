/**
 * A new archive of images. What is pushed lies in a layout of its own until the store is closed; then it is written as a
 * tar in one go, sorted and without owners and times, so that the same images are the same bytes, and renamed into
 * place. Whoever is killed before leaves what was there.
 */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { LacunaError, toLacunaError } from '../../errors.ts';
import { hexOf, isDigest } from '../../image/digest.ts';
import { type Descriptor, type Manifest, parseManifest } from '../../image/manifest.ts';
import { ANNOTATION, isIndex, MEDIA } from '../../image/media.ts';
import { type ArchiveReference, formatReference, STREAM } from '../../image/reference.ts';
import { plainFile, TAR_END, tarHeader, tarPadding } from '../../tree/tarwriter.ts';
import { abortError, isAborted } from '../http/transport.ts';
import { withOwnErrors } from '../own-errors.ts';
import type { BlobUpload, ImageStore, ReadOptions, SignalOptions } from '../store.ts';
import { makeScratch, type Scratch } from './archive-scratch.ts';
import { fileLocation, refNameOf } from './file-store.ts';
import { writeWhole } from './file-target.ts';
import { type LayoutStore, openLayout } from './layout.ts';
import { readEntries } from './layout-index.ts';

/** The layout's name within the temporary directory. */
const LAYOUT = 'layout';

/** A member: its content, or the blob that is its content. */
type OutputMember = readonly [name: string, content: Buffer | Descriptor];

export class ArchiveWriter implements ImageStore {
  readonly subject: string;
  readonly isPinned: boolean;
  readonly #reference: ArchiveReference;
  /** Of the last push. */
  #signal: AbortSignal | null = null;
  #staged: Promise<StagedLayout> | null = null;

  constructor(reference: ArchiveReference) {
    this.subject = formatReference(reference);
    this.isPinned = reference.ref !== null && isDigest(reference.ref);
    this.#reference = reference;
  }

  async resolve(ref: string | null, options?: SignalOptions): Promise<Descriptor> {
    return (await this.#layout()).resolve(ref ?? this.#reference.ref, options);
  }

  async manifest(descriptor: Descriptor, options?: SignalOptions): Promise<Buffer> {
    return (await this.#layout()).manifest(descriptor, options);
  }

  async *open(descriptor: Descriptor, options?: ReadOptions): AsyncGenerator<Buffer> {
    yield* (await this.#layout()).open(descriptor, options);
  }

  async *tags(): AsyncGenerator<string> {
    yield* (await this.#layout()).tags();
  }

  async has(descriptor: Descriptor): Promise<boolean> {
    return (await this.#layout()).has(descriptor);
  }

  async upload(options?: SignalOptions): Promise<BlobUpload> {
    return (await this.#layout()).upload(options);
  }

  async mountFrom(descriptor: Descriptor, from: ImageStore): Promise<boolean> {
    return from === this && (await this.has(descriptor));
  }

  async pushManifest(
    bytes: Buffer,
    mediaType: string,
    ref: string | null,
    options: SignalOptions = {},
  ): Promise<Descriptor> {
    if (this.#reference.transport === 'docker-archive') refuseUnloadable(bytes, mediaType, this.subject);
    const descriptor = await (await this.#layout()).pushManifest(bytes, mediaType, ref ?? this.#reference.ref, options);
    this.#signal = options.signal ?? null;
    return descriptor;
  }

  async referrers(digest: string, artifactType: string | null, options?: SignalOptions): Promise<Descriptor[]> {
    return (await this.#layout()).referrers(digest, artifactType, options);
  }

  /** Writes the archive, when there is an image to be found in it. */
  async [Symbol.asyncDispose](): Promise<void> {
    const staged = await this.#staged?.catch(() => null);
    if (staged === null || staged === undefined) return;
    const { scratch, layout } = staged;
    try {
      await layout[Symbol.asyncDispose]();
      const dir = join(scratch.path, LAYOUT);
      if ((await fileLocation(join(dir, 'index.json'), dir)) !== null) await this.#write(staged, this.#signal);
    } catch (error) {
      throw scratch.explain(error);
    } finally {
      await scratch.remove();
    }
  }

  async #layout(): Promise<LayoutStore> {
    this.#staged ??= stageLayout(this.#reference.path);
    return (await this.#staged).layout;
  }

  async #write({ scratch, layout }: StagedLayout, signal: AbortSignal | null): Promise<void> {
    const dir = join(scratch.path, LAYOUT);
    const entries = await readEntries(dir);
    const isDocker = this.#reference.transport === 'docker-archive';
    const members = await (isDocker ? dockerMembers(layout, entries) : layoutMembers(dir, entries));
    const tar = tarOf(members, layout, signal, this.subject);
    if (this.#reference.path === STREAM) await writeToStdout(tar);
    else await writeFile(this.#reference.path, join(scratch.path, 'archive.tar'), tar);
  }
}

/** A layout, with the directory that it lies in. */
interface StagedLayout {
  readonly scratch: Scratch;
  readonly layout: LayoutStore;
}

async function stageLayout(path: string): Promise<StagedLayout> {
  const scratch = await makeScratch(path);
  const dir = join(scratch.path, LAYOUT);
  try {
    const layout = await openLayout({ transport: 'oci', path: dir, ref: null }, true);
    return { scratch, layout: withOwnErrors(layout, (error, about) => scratch.explain(toLacunaError(error, about))) };
  } catch (error) {
    await scratch.remove();
    throw scratch.explain(error);
  }
}

/** `index.json` last: what comes before it is there when it is read. */
async function layoutMembers(dir: string, entries: readonly Descriptor[]): Promise<OutputMember[]> {
  const blobs: OutputMember[] = [];
  for (const algorithm of (await readdir(join(dir, 'blobs'))).sort()) {
    for (const hex of (await readdir(join(dir, 'blobs', algorithm))).sort()) {
      const { size } = await stat(join(dir, 'blobs', algorithm, hex));
      const digest = `${algorithm}:${hex}`;
      blobs.push([`blobs/${algorithm}/${hex}`, { mediaType: 'application/octet-stream', digest, size }]);
    }
  }
  return [
    ['oci-layout', Buffer.from('{"imageLayoutVersion":"1.0.0"}')],
    ...blobs,
    ['index.json', json({ schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: entries })],
  ];
}

/** As `docker save` and skopeo: layers and configs by their hex, then what they are. */
async function dockerMembers(layout: LayoutStore, entries: readonly Descriptor[]): Promise<OutputMember[]> {
  const members = new Map<string, Descriptor>();
  const saved = new Map<string, { Config: string; RepoTags: string[]; Layers: string[] }>();
  for (const entry of entries) {
    const { config, layers } = parseManifest(await layout.manifest(entry), entry.digest);
    const Config = `${hexOf(config.digest)}.json`;
    const Layers = layers.map(({ digest }) => `${hexOf(digest)}.tar`);
    members.set(Config, config);
    for (const [i, layer] of layers.entries()) members.set(Layers[i]!, layer);
    const image = saved.get(entry.digest) ?? { Config, RepoTags: [], Layers };
    const name = refNameOf(entry);
    if (name !== null) image.RepoTags.push(name);
    saved.set(entry.digest, image);
  }
  const sorted = [...members].sort(([a], [b]) => (a < b ? -1 : 1));
  return [...sorted, ['manifest.json', json([...saved.values()])]];
}

/** Docker loads ordinary images, one platform each. */
function refuseUnloadable(bytes: Buffer, mediaType: string, subject: string): void {
  const refused = (problem: string, hint: string) =>
    new LacunaError('UNSUPPORTED', problem, { op: 'push', subject, hint });
  if (isIndex(mediaType)) {
    throw refused('a docker archive holds images of one platform, not an index', 'choose one with --platform');
  }
  const manifest: Manifest = parseManifest(bytes, subject);
  if (!manifest.layers.some(({ annotations }) => annotations?.[ANNOTATION.nydusBootstrap] === 'true')) return;
  throw refused(
    'docker cannot load a lazy image',
    'write an oci-archive:, or let `lacuna unpack` make an ordinary image of it',
  );
}

async function* tarOf(
  members: readonly OutputMember[],
  layout: LayoutStore,
  signal: AbortSignal | null,
  subject: string,
): AsyncGenerator<Buffer> {
  for (const [name, content] of members) {
    if (isAborted(signal)) throw abortError(signal, 'write archive', subject);
    const size = Buffer.isBuffer(content) ? content.length : content.size;
    yield tarHeader(plainFile(name, size));
    if (Buffer.isBuffer(content)) yield content;
    else yield* layout.open(content, signal === null ? {} : { signal });
    yield tarPadding(size);
  }
  yield TAR_END;
}

/** `temporary` becomes `path` when it is whole. */
async function writeFile(path: string, temporary: string, pieces: AsyncIterable<Buffer>): Promise<void> {
  try {
    await writeWhole(path, temporary, pieces);
  } catch (cause) {
    throw toLacunaError(cause, { op: 'write archive', subject: path });
  }
}

/** All of `pieces` on standard output, no faster than it is read. USAGE for a terminal. */
export async function writeToStdout(pieces: AsyncIterable<Buffer>): Promise<void> {
  if (process.stdout.isTTY) {
    throw new LacunaError('USAGE', 'refusing to write an archive to a terminal', {
      op: 'write archive',
      hint: 'redirect it',
    });
  }
  for await (const piece of pieces) {
    await new Promise<void>((resolve, reject) => {
      process.stdout.write(piece, (error) => (error ? reject(error) : resolve()));
    });
  }
}

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
