/**
 * An OCI image layout (image-spec image-layout.md): `oci-layout`, `index.json`, `blobs/ALGORITHM/HEX`.
 *
 * Blobs and the index appear by renaming, so a process that is killed leaves a layout that is whole. There is no fsync:
 * after a power cut a blob may be damaged, which every read that verifies notices.
 */
import { mkdir, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { FormatError, LacunaError } from '../errors.ts';
import { digestOf, isDigest } from '../image/digest.ts';
import { parseJson } from '../image/json.ts';
import { type Descriptor, MAX_MANIFEST_SIZE } from '../image/manifest.ts';
import { isIndex, isManifest } from '../image/media.ts';
import { formatReference, type OciReference } from '../image/reference.ts';
import { putEntry, readEntries, refNameOf } from './layout-index.ts';
import { hasCode, replaceFile, sweepTemporary } from './layout-temporary.ts';
import { blobPath, LayoutUpload } from './layout-upload.ts';
import { rangeOf, sizeMismatch, Verifier } from './range.ts';
import { ofType, referrerOf } from './referrers.ts';
import type { BlobUpload, ImageStore, ReadOptions, SignalOptions } from './store.ts';
import { abortError, isAborted } from './transport.ts';

const LAYOUT_VERSION = '1.0.0';
/** Bytes read at once. */
const READ_SIZE = 1024 * 1024;
const MAX_LAYOUT_FILE = 64 * 1024;

export class LayoutStore implements ImageStore {
  readonly subject: string;
  readonly isPinned: boolean;
  readonly #dir: string;
  readonly #reference: OciReference;
  readonly #uploads = new Set<LayoutUpload>();
  #hasSwept = false;

  constructor(reference: OciReference) {
    this.subject = formatReference(reference);
    this.isPinned = reference.ref !== null && isDigest(reference.ref);
    this.#dir = reference.path;
    this.#reference = reference;
  }

  async resolve(ref: string | null, _options: SignalOptions = {}): Promise<Descriptor> {
    const wanted = ref ?? this.#reference.ref;
    const entries = await readEntries(this.#dir);
    if (wanted === null) return this.#only(entries);
    const named = entries.find((entry) => refNameOf(entry) === wanted);
    if (named !== undefined) return named;
    if (!isDigest(wanted)) throw this.#notFound(wanted, entries);
    return entries.find((entry) => entry.digest === wanted) ?? (await this.#unlisted(wanted, entries));
  }

  async manifest(descriptor: Descriptor, options: SignalOptions = {}): Promise<Buffer> {
    if (descriptor.size > MAX_MANIFEST_SIZE) {
      throw new LacunaError(
        'FORMAT',
        `${descriptor.digest} has ${descriptor.size} bytes, more than a manifest or config may have`,
        {
          op: 'read',
          subject: descriptor.digest,
        },
      );
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
    const size = await this.#sizeOf(descriptor.digest);
    if (size === null) throw this.#missingBlob(descriptor.digest);
    const fits = partial ? size >= descriptor.size : size === descriptor.size;
    if (!fits) throw sizeMismatch(descriptor, this.subject, String(size));
    const file = await open(blobPath(this.#dir, descriptor.digest), 'r');
    try {
      for (let at = start; at < end; ) {
        if (isAborted(signal)) throw abortError(signal, 'read', this.subject);
        const buffer = Buffer.allocUnsafeSlow(Math.min(READ_SIZE, end - at));
        const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
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

  async has(descriptor: Descriptor, _options: SignalOptions = {}): Promise<boolean> {
    return (await this.#sizeOf(descriptor.digest)) === descriptor.size;
  }

  async upload(options: SignalOptions = {}): Promise<BlobUpload> {
    await this.#sweepOnce();
    const upload = new LayoutUpload({
      dir: this.#dir,
      signal: options.signal ?? null,
      onEnd: (ended) => this.#uploads.delete(ended),
    });
    this.#uploads.add(upload);
    return upload;
  }

  async mountFrom(descriptor: Descriptor, from: ImageStore, _options: SignalOptions = {}): Promise<boolean> {
    return from instanceof LayoutStore && from.#dir === this.#dir && (await this.has(descriptor));
  }

  async pushManifest(
    bytes: Buffer,
    mediaType: string,
    ref: string | null,
    options: SignalOptions = {},
  ): Promise<Descriptor> {
    const target = ref ?? this.#reference.ref;
    const descriptor = { mediaType, digest: digestOf(bytes), size: bytes.length };
    if (target !== null && isDigest(target) && target !== descriptor.digest) {
      throw new LacunaError(
        'DIGEST_MISMATCH',
        `push ${this.subject}: a manifest should be ${target} and is ${descriptor.digest}`,
        {
          op: 'push',
          subject: this.subject,
        },
      );
    }
    const upload = await this.upload(options);
    await upload.write(bytes);
    await upload.commit(descriptor.digest, descriptor.size);
    const referrer = referrerOf(bytes, descriptor, this.subject);
    if (target === null || !isDigest(target)) await putEntry(this.#dir, descriptor, target);
    // Only what the index lists is found by its subject (image-spec, "Image Layout": index.json is the entry point).
    else if (referrer !== null) await putEntry(this.#dir, referrer.entry, null);
    return descriptor;
  }

  async referrers(digest: string, artifactType: string | null, options: SignalOptions = {}): Promise<Descriptor[]> {
    const found: Descriptor[] = [];
    for (const entry of await readEntries(this.#dir)) {
      if (!isManifest(entry.mediaType) && !isIndex(entry.mediaType)) continue;
      const referrer = referrerOf(await this.manifest(entry, options), entry, this.subject);
      if (referrer?.subject === digest) found.push(referrer.entry);
    }
    return ofType(found, artifactType);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const upload of [...this.#uploads]) await upload.abort();
  }

  #only(entries: readonly Descriptor[]): Descriptor {
    // Referrers and parts of images are listed without a name.
    const named = entries.filter((entry) => refNameOf(entry) !== null);
    const [only, ...others] = named.length === 0 ? entries : named;
    if (only !== undefined && others.length === 0) return only;
    if (entries.length === 0)
      throw new LacunaError('NOT_FOUND', `${this.#dir} has no image`, { op: 'resolve', subject: this.subject });
    throw new LacunaError('REFERENCE', `${this.#dir} has ${entries.length} images`, {
      op: 'resolve',
      subject: this.subject,
      hint: `say which: ${names(entries)}`,
    });
  }

  /** A manifest that only an index of the layout, or nothing, lists: what it is must come from itself. */
  async #unlisted(digest: string, entries: readonly Descriptor[]): Promise<Descriptor> {
    const size = await this.#sizeOf(digest);
    if (size === null) throw this.#notFound(digest, entries);
    const bytes = await this.manifest({ mediaType: 'application/json', digest, size });
    const document = parseJson(bytes, { op: 'resolve', subject: digest, limit: MAX_MANIFEST_SIZE });
    const mediaType =
      typeof document === 'object' && document !== null && 'mediaType' in document ? document.mediaType : null;
    if (typeof mediaType !== 'string' || !(isManifest(mediaType) || isIndex(mediaType))) {
      throw new FormatError('mediaType', 'not a manifest or index', { op: 'resolve', subject: digest });
    }
    return { mediaType, digest, size };
  }

  /** Bytes of a blob, null when there is none. */
  async #sizeOf(digest: string): Promise<number | null> {
    const path = blobPath(this.#dir, digest);
    try {
      const found = await stat(path);
      // A pipe or device would block or never end.
      if (!found.isFile()) throw new FormatError('blob', 'not a regular file', { op: 'read', subject: path });
      return found.size;
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return null;
      throw error;
    }
  }

  async #sweepOnce(): Promise<void> {
    if (this.#hasSwept) return;
    this.#hasSwept = true;
    await sweepTemporary(this.#dir);
  }

  #missingBlob(digest: string): LacunaError {
    return new LacunaError('NOT_FOUND', `read ${this.subject}: the layout has no blob ${digest}`, {
      op: 'read',
      subject: digest,
    });
  }

  #notFound(ref: string, entries: readonly Descriptor[]): LacunaError {
    return new LacunaError('NOT_FOUND', `${this.#dir} has no image ${JSON.stringify(ref)}`, {
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

/** Opens a layout. NOT_FOUND when it is missing and `create` is not set; FORMAT when the directory is something else. */
export async function openLayout(reference: OciReference, create: boolean): Promise<LayoutStore> {
  const dir = reference.path;
  const marker = join(dir, 'oci-layout');
  try {
    await checkMarker(marker);
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
    if (!create) {
      throw new LacunaError('NOT_FOUND', `${dir} is not an OCI layout: it has no oci-layout file`, {
        op: 'open',
        subject: dir,
        cause: error,
      });
    }
    await mkdir(join(dir, 'blobs', 'sha256'), { recursive: true });
    await replaceFile(dir, marker, JSON.stringify({ imageLayoutVersion: LAYOUT_VERSION }));
  }
  return new LayoutStore(reference);
}

async function checkMarker(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_LAYOUT_FILE), 0, MAX_LAYOUT_FILE, 0);
    const document = parseJson(buffer.subarray(0, bytesRead), { op: 'open', subject: path, limit: MAX_LAYOUT_FILE });
    const version =
      typeof document === 'object' && document !== null && 'imageLayoutVersion' in document
        ? document.imageLayoutVersion
        : null;
    if (typeof version === 'string' && version.startsWith('1.')) return;
    throw new FormatError('imageLayoutVersion', `not ${LAYOUT_VERSION}`, { op: 'open', subject: path });
  } finally {
    await file.close();
  }
}
