/**
 * Writer of a new archive of images. Pushed images are staged in a layout until the store is closed; then the layout is
 * written as a tar, sorted and without owners and times, so that the same images give the same bytes, and renamed into
 * place. A process that is killed before leaves the previous file.
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

/** Name of the layout within the temporary directory. */
const LAYOUT = 'layout';

/** A member of the archive: its content, or the descriptor of the blob with its content. */
type OutputMember = readonly [name: string, content: Buffer | Descriptor];

export class ArchiveWriter implements ImageStore {
  readonly subject: string;
  readonly isPinned: boolean;
  readonly #reference: ArchiveReference;
  /** Signal of the last push. */
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

  /** Writes the archive, if its index lists an image. */
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

/** A layout and its temporary directory. */
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

/** Members of an OCI archive. `index.json` is last, so that a reader of a stream has seen all blobs before it. */
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

/** Members as `docker save` and skopeo write them: layers and configs by their hex, then `manifest.json`. */
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

/** Throws UNSUPPORTED for an image that `docker load` refuses: it loads ordinary images of one platform. */
function refuseUnloadable(bytes: Buffer, mediaType: string, subject: string): void {
  const refused = (problem: string, hint: string) =>
    new LacunaError('UNSUPPORTED', problem, { op: 'push', subject, hint });
  if (isIndex(mediaType)) {
    throw refused(
      'a docker archive must not contain an index, only images of one platform',
      'choose one with --platform',
    );
  }
  const manifest: Manifest = parseManifest(bytes, subject);
  if (!manifest.layers.some(({ annotations }) => annotations?.[ANNOTATION.nydusBootstrap] === 'true')) return;
  throw refused(
    'docker cannot load a lazy image',
    'write an oci-archive:, or make an ordinary image of it with `lacuna unpack`',
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

/** Writes `pieces` to `temporary`, and renames it to `path` when it is complete. */
async function writeFile(path: string, temporary: string, pieces: AsyncIterable<Buffer>): Promise<void> {
  try {
    await writeWhole(path, temporary, pieces);
  } catch (cause) {
    throw toLacunaError(cause, { op: 'write archive', subject: path });
  }
}

/** Writes `pieces` to standard output at the rate at which it is read. USAGE for a terminal. */
export async function writeToStdout(pieces: AsyncIterable<Buffer>): Promise<void> {
  if (process.stdout.isTTY) {
    throw new LacunaError('USAGE', 'refusing to write an archive to a terminal', {
      op: 'write archive',
      hint: 'redirect standard output to a file or pipe',
    });
  }
  for await (const piece of pieces) {
    await new Promise<void>((resolve, reject) => {
      process.stdout.write(piece, (error) => (error ? reject(error) : resolve()));
    });
  }
}

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
