/** What stores made of files have in common: a blob is a range of a file, and reading one is the same everywhere. */
import { open, stat } from 'node:fs/promises';
import { FormatError, LacunaError } from '../errors.ts';
import { isDigest } from '../image/digest.ts';
import { parseJson } from '../image/json.ts';
import { type Descriptor, MAX_MANIFEST_SIZE } from '../image/manifest.ts';
import { ANNOTATION, isIndex, isManifest, MEDIA } from '../image/media.ts';
import { hasCode } from './layout-temporary.ts';
import { rangeOf, sizeMismatch, Verifier } from './range.ts';
import { ofType, referrerOf } from './referrers.ts';
import type { BlobUpload, ImageStore, ReadOptions, SignalOptions } from './store.ts';
import { abortError, isAborted } from './transport.ts';

/** Bytes read at once. */
const READ_SIZE = 1024 * 1024;

/** As much of a FileHandle as reading takes. */
export interface ReadableFile {
  read(buffer: Buffer, offset: number, length: number, position: number): Promise<{ readonly bytesRead: number }>;
  close(): Promise<void>;
}

/** Where a blob lies. */
export interface BlobPlace {
  /** Bytes from the start of its file, and of the blob. */
  readonly offset: number;
  readonly size: number;
  /** The file; `close` it after the read. */
  open(): Promise<ReadableFile>;
}

/** A blob that is a file of its own, null when there is none. */
export async function filePlace(path: string): Promise<BlobPlace | null> {
  try {
    const found = await stat(path);
    // A pipe or device would block or never end.
    if (!found.isFile()) throw new FormatError('blob', 'not a regular file', { op: 'read', subject: path });
    return { offset: 0, size: found.size, open: () => open(path, 'r') };
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return null;
    throw error;
  }
}

/** The ref name of an entry of an index. */
export const refNameOf = (entry: Descriptor): string | null => entry.annotations?.[ANNOTATION.refName] ?? null;

export abstract class FileStore implements ImageStore {
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
  /** What the index lists, in its order. */
  protected abstract entries(options: SignalOptions): Promise<readonly Descriptor[]>;

  async *tags(options: SignalOptions = {}): AsyncGenerator<string> {
    const named = (await this.entries(options)).map(refNameOf);
    yield* new Set(named.filter((name) => name !== null));
  }

  /** Where the blob is, null when there is none. */
  protected abstract find(digest: string, options: SignalOptions): Promise<BlobPlace | null>;

  async manifest(descriptor: Descriptor, options: SignalOptions = {}): Promise<Buffer> {
    if (descriptor.size > MAX_MANIFEST_SIZE) {
      const problem = `${descriptor.size} bytes, more than a manifest or config may have`;
      throw new LacunaError('FORMAT', `${descriptor.digest} has ${problem}`, {
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
    const place = await this.find(descriptor.digest, options);
    if (place === null) throw this.#missingBlob(descriptor.digest);
    const fits = partial ? place.size >= descriptor.size : place.size === descriptor.size;
    if (!fits) throw sizeMismatch(descriptor, this.subject, String(place.size));
    const file = await place.open();
    try {
      for (let at = start; at < end; ) {
        if (isAborted(signal)) throw abortError(signal, 'read', this.subject);
        const buffer = Buffer.allocUnsafeSlow(Math.min(READ_SIZE, end - at));
        const { bytesRead } = await file.read(buffer, 0, buffer.length, place.offset + at);
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

  /** Which of `entries` is meant; a digest may also be that of a manifest that no entry, only an index, lists. */
  protected async choose(
    entries: readonly Descriptor[],
    wanted: string | null,
    options: SignalOptions,
  ): Promise<Descriptor> {
    if (wanted === null) return this.#only(entries);
    const named = entries.find((entry) => refNameOf(entry) === wanted);
    if (named !== undefined) return named;
    if (!isDigest(wanted)) throw this.#notFound(wanted, entries);
    const listed = entries.find((entry) => entry.digest === wanted);
    if (listed !== undefined) return listed;
    const size = (await this.find(wanted, options))?.size;
    if (size === undefined) throw this.#notFound(wanted, entries);
    const bytes = await this.manifest({ mediaType: 'application/json', digest: wanted, size }, options);
    return { mediaType: mediaTypeOf(bytes, wanted), digest: wanted, size };
  }

  /** Those of `entries` that point at `digest`. */
  protected async referrersAmong(
    entries: readonly Descriptor[],
    digest: string,
    artifactType: string | null,
    options: SignalOptions,
  ): Promise<Descriptor[]> {
    const found: Descriptor[] = [];
    for (const entry of entries) {
      if (!isManifest(entry.mediaType) && !isIndex(entry.mediaType)) continue;
      const referrer = referrerOf(await this.manifest(entry, options), entry, this.subject);
      if (referrer?.subject === digest) found.push(referrer.entry);
    }
    return ofType(found, artifactType);
  }

  #only(entries: readonly Descriptor[]): Descriptor {
    // Referrers and parts of images are listed without a name.
    const named = entries.filter((entry) => refNameOf(entry) !== null);
    const [only, ...others] = named.length === 0 ? entries : named;
    if (only !== undefined && others.length === 0) return only;
    const purpose = { op: 'resolve', subject: this.subject };
    if (entries.length === 0) throw new LacunaError('NOT_FOUND', `${this.subject} has no image`, purpose);
    throw new LacunaError('REFERENCE', `${this.subject} has ${entries.length} images`, {
      ...purpose,
      hint: `say which: ${names(entries)}`,
    });
  }

  #missingBlob(digest: string): LacunaError {
    return new LacunaError('NOT_FOUND', `read ${this.subject}: it has no blob ${digest}`, {
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

/** What a document is, by its own word; where it has none, by what it holds (as containers/image guesses). */
export function mediaTypeOf(bytes: Buffer, subject: string): string {
  const document = parseJson(bytes, { op: 'resolve', subject, limit: MAX_MANIFEST_SIZE });
  const fields = typeof document === 'object' && document !== null ? document : {};
  if ('mediaType' in fields) {
    const { mediaType } = fields;
    if (typeof mediaType === 'string' && (isManifest(mediaType) || isIndex(mediaType))) return mediaType;
  } else if ('config' in fields && 'layers' in fields) {
    return MEDIA.ociManifest;
  } else if ('manifests' in fields) {
    return MEDIA.ociIndex;
  }
  throw new FormatError('mediaType', 'not a manifest or index', { op: 'resolve', subject });
}

const names = (entries: readonly Descriptor[]): string =>
  entries
    .slice(0, 8)
    .map((entry) => refNameOf(entry) ?? entry.digest)
    .join(', ');
