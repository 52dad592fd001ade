/** The base of stores in files: a blob is a range of a file, and all these stores read it in the same way. */
import { LacunaError } from '../../errors.ts';
import { digestOf, isDigest } from '../../image/digest.ts';
import { manifestTypeOf, notAnImage } from '../../image/kind.ts';
import { type Descriptor, MAX_MANIFEST_SIZE, parseConfig, parseManifest } from '../../image/manifest.ts';
import { ANNOTATION, isIndex, isManifest, MEDIA } from '../../image/media.ts';
import { platformOfConfig } from '../../image/platform.ts';
import { openRegular, sizeOfRegular, whenMissing } from '../../open-file.ts';
import { type ForeignLayers, isForeign } from '../http/foreign.ts';
import { abortError, isAborted } from '../http/transport.ts';
import { rangeOf, sizeMismatch, Verifier } from '../range.ts';
import { ofType, referrerOf } from '../referrers.ts';
import type { BlobUpload, ImageStore, ReadOptions, SignalOptions } from '../store.ts';

/** Maximum bytes that are read at once. */
const READ_SIZE = 1024 * 1024;

/** The part of a FileHandle that reading needs. */
export interface ReadableFile {
  read(buffer: Buffer, offset: number, length: number, position: number): Promise<{ readonly bytesRead: number }>;
  close(): Promise<void>;
}

/** The location of a blob in a file. */
export interface BlobLocation {
  /** Start of the blob in its file, in bytes. */
  readonly offset: number;
  /** Size of the blob, in bytes. */
  readonly size: number;
  /** Opens the file; `close` it after the read. */
  open(): Promise<ReadableFile>;
}

/** The location of a blob that is a whole file in `folder`; null when the file does not exist. */
export async function fileLocation(path: string, folder: string): Promise<BlobLocation | null> {
  const context = { op: 'read', within: folder };
  const size = await sizeOfRegular(path, context).catch(whenMissing(null));
  return size === null ? null : { offset: 0, size, open: async () => (await openRegular(path, context)).file };
}

/** The ref name of an index entry; null when it has none. */
export const refNameOf = (entry: Descriptor): string | null => entry.annotations?.[ANNOTATION.refName] ?? null;

/** The location of a blob in memory. */
export const inMemory = (bytes: Buffer): BlobLocation => ({
  offset: 0,
  size: bytes.length,
  open: async () => ({
    read: async (target, offset, length, position) => ({
      bytesRead: bytes.copy(target, offset, position, position + length),
    }),
    close: async () => {},
  }),
});

export abstract class FileStore implements ImageStore {
  /** Source of layers that may not be distributed; null: none. */
  foreign: ForeignLayers | null = null;
  /** Digest → an index in memory: see {@link #together}. */
  readonly #made = new Map<string, BlobLocation>();

  abstract readonly subject: string;
  abstract readonly isPinned: boolean;

  abstract resolve(ref: string | null, options?: SignalOptions): Promise<Descriptor>;
  abstract upload(options?: SignalOptions): Promise<BlobUpload>;
  abstract mountFrom(descriptor: Descriptor, from: ImageStore, options?: SignalOptions): Promise<boolean>;
  abstract pushManifest(
    bytes: Buffer,
    mediaType: string,
    ref: string | null,
    options?: SignalOptions,
  ): Promise<Descriptor>;
  abstract referrers(digest: string, artifactType: string | null, options?: SignalOptions): Promise<Descriptor[]>;
  abstract [Symbol.asyncDispose](): Promise<void>;
  /** The entries of the index, in its order. */
  protected abstract entries(options: SignalOptions): Promise<readonly Descriptor[]>;

  async *tags(options: SignalOptions = {}): AsyncGenerator<string> {
    const named = (await this.entries(options)).map(refNameOf);
    yield* new Set(named.filter((name) => name !== null));
  }

  /** The location of a blob; null when there is none. */
  protected abstract find(digest: string, options: SignalOptions): Promise<BlobLocation | null>;

  async manifest(descriptor: Descriptor, options: SignalOptions = {}): Promise<Buffer> {
    if (descriptor.size > MAX_MANIFEST_SIZE) {
      const problem = `${descriptor.size} bytes exceed the limit of ${MAX_MANIFEST_SIZE} for a manifest or config`;
      throw new LacunaError('FORMAT', problem, {
        op: 'read',
        subject: descriptor.digest,
      });
    }
    const pieces: Buffer[] = [];
    for await (const piece of this.open(descriptor, options)) pieces.push(piece);
    return Buffer.concat(pieces, descriptor.size);
  }

  async *open(descriptor: Descriptor, options: ReadOptions = {}): AsyncGenerator<Buffer> {
    const { start, end } = rangeOf(descriptor, options);
    const signal = options.signal ?? null;
    const { partial = false } = options;
    const isWhole = start === 0 && end === descriptor.size && !partial;
    const verifier = isWhole && options.verify !== false ? new Verifier(descriptor) : null;
    const location = this.#made.get(descriptor.digest) ?? (await this.find(descriptor.digest, options));
    if (location === null && this.foreign !== null && isForeign(descriptor)) {
      yield* this.foreign.read(descriptor, options);
      return;
    }
    if (location === null) throw this.#missingBlob(descriptor.digest);
    const fits = partial ? location.size >= descriptor.size : location.size === descriptor.size;
    if (!fits) throw sizeMismatch(descriptor, this.subject, String(location.size));
    const file = await location.open();
    try {
      for (let at = start; at < end; ) {
        if (isAborted(signal)) throw abortError(signal, 'read', this.subject);
        const buffer = Buffer.allocUnsafeSlow(Math.min(READ_SIZE, end - at));
        const { bytesRead } = await file.read(buffer, 0, buffer.length, location.offset + at);
        if (bytesRead === 0) throw sizeMismatch(descriptor, this.subject, String(at));
        const piece = buffer.subarray(0, bytesRead);
        at += bytesRead;
        verifier?.update(piece);
        if (at === end) verifier?.finish(this.subject);
        yield piece;
      }
      if (descriptor.size === 0) verifier?.finish(this.subject);
    } finally {
      await file.close();
    }
  }

  async has(descriptor: Descriptor, options: SignalOptions = {}): Promise<boolean> {
    return (await this.find(descriptor.digest, options))?.size === descriptor.size;
  }

  /** The one of `entries` that `ref` names; a digest may also be that of a manifest which only an index lists. */
  protected async choose(
    entries: readonly Descriptor[],
    ref: string | null,
    options: SignalOptions,
  ): Promise<Descriptor> {
    if (ref === null) return await this.#only(entries, options);
    const named = entries.filter((entry) => refNameOf(entry) === ref);
    if (named.length > 0) return await this.#together(named, ref, options);
    // As for a registry, a name before the digest is ignored: results are printed in this form.
    const digest = ref.slice(ref.indexOf('@') + 1);
    if (!isDigest(digest)) throw this.#notFound(ref, entries);
    const listed = entries.find((entry) => entry.digest === digest);
    if (listed !== undefined) return this.#image(listed);
    const size = (await this.find(digest, options))?.size;
    if (size === undefined) throw this.#notFound(ref, entries);
    const bytes = await this.manifest({ mediaType: 'application/json', digest, size }, options);
    return { mediaType: manifestTypeOf(bytes, '', this.subject), digest, size };
  }

  /** The `entries` whose subject is `digest`. */
  protected async referrersAmong(
    entries: readonly Descriptor[],
    digest: string,
    artifactType: string | null,
    options: SignalOptions,
  ): Promise<Descriptor[]> {
    const referrers: Descriptor[] = [];
    for (const entry of new Map(entries.map((listed) => [listed.digest, listed])).values()) {
      if (!isManifest(entry.mediaType) && !isIndex(entry.mediaType)) continue;
      const referrer = referrerOf(await this.manifest(entry, options), entry, this.subject);
      if (referrer?.subject === digest) referrers.push(referrer.entry);
    }
    return ofType(referrers, artifactType);
  }

  async #only(entries: readonly Descriptor[], options: SignalOptions): Promise<Descriptor> {
    // The index lists referrers and parts of images without a name.
    const named = entries.filter((entry) => refNameOf(entry) !== null);
    const refs = new Set(named.map(refNameOf));
    const [ref] = refs;
    if (refs.size === 1 && ref != null) return await this.#together(named, ref, options);
    const [only, ...others] = named.length > 0 ? named : entries;
    // Several names of one image, as `docker save` writes them, are not ambiguous.
    if (only !== undefined && others.every(({ digest }) => digest === only.digest)) return this.#image(only);
    const context = { op: 'resolve', subject: this.subject };
    if (only === undefined) throw new LacunaError('NOT_FOUND', `${this.subject} has no image`, context);
    throw new LacunaError('REFERENCE', `${this.subject} has ${entries.length} images`, {
      ...context,
      hint: `name one of them: ${names(entries)}`,
    });
  }

  /** The image of one name: its entry, or an index of its entries when they are images of several platforms. */
  async #together(entries: readonly Descriptor[], ref: string, options: SignalOptions): Promise<Descriptor> {
    const [only, ...others] = new Map(entries.map((entry) => [entry.digest, entry])).values();
    if (others.length === 0) return this.#image(only!);
    const manifests: Descriptor[] = [];
    for (const entry of [only!, ...others]) manifests.push(await this.#withPlatform(entry, options));
    const platforms = manifests.map(({ platform }) => JSON.stringify(platform));
    const twice = platforms.find((platform, at) => platforms.indexOf(platform) !== at);
    if (platforms.includes(undefined as never) || twice !== undefined) throw this.#ambiguous(ref, manifests);
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests }));
    const made = { mediaType: MEDIA.ociIndex, digest: digestOf(bytes), size: bytes.length };
    this.#made.set(made.digest, inMemory(bytes));
    return made;
  }

  /** The entry with its platform, which is read from the image's config where the entry has none. */
  async #withPlatform(entry: Descriptor, options: SignalOptions): Promise<Descriptor> {
    if (entry.platform !== undefined || !isManifest(entry.mediaType)) return entry;
    const { config } = parseManifest(await this.manifest(entry, options), entry.digest);
    const platform = platformOfConfig(parseConfig(await this.manifest(config, options), config.digest));
    return platform === null ? entry : { ...entry, platform };
  }

  #image(entry: Descriptor): Descriptor {
    if (isManifest(entry.mediaType) || isIndex(entry.mediaType)) return entry;
    throw notAnImage(entry.mediaType, this.subject);
  }

  #ambiguous(ref: string, entries: readonly Descriptor[]): LacunaError {
    const images = entries.map(({ digest, platform }) =>
      platform === undefined ? digest : `${digest} (${platform.os}/${platform.architecture})`,
    );
    return new LacunaError(
      'REFERENCE',
      `${this.subject}: ${JSON.stringify(ref)} is the name of ${images.join(' and ')}`,
      {
        op: 'resolve',
        subject: this.subject,
        hint: 'name one by its digest: oci:DIR:sha256:…',
      },
    );
  }

  #missingBlob(digest: string): LacunaError {
    return new LacunaError('NOT_FOUND', `${this.subject} has no blob ${digest}`, {
      op: 'read',
      subject: digest,
    });
  }

  #notFound(ref: string, entries: readonly Descriptor[]): LacunaError {
    return new LacunaError('NOT_FOUND', `${this.subject} has no image ${JSON.stringify(ref)}`, {
      op: 'resolve',
      subject: this.subject,
      hint: entries.length === 0 ? 'it is empty' : `it has: ${names(entries)}`,
    });
  }
}

const names = (entries: readonly Descriptor[]): string =>
  entries
    .slice(0, 8)
    .map((entry) => refNameOf(entry) ?? entry.digest)
    .join(', ');
