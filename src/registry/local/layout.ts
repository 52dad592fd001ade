/**
 * An OCI image layout (image-spec image-layout.md): `oci-layout`, `index.json`, `blobs/ALGORITHM/HEX`.
 *
 * Blobs and the index are renamed into place, so a killed process leaves a valid layout. There is no fsync: after a
 * power cut a blob may be damaged, which every verified read detects.
 */
import { join } from 'node:path';
import { FormatError, isLacunaError, LacunaError } from '../../errors.ts';
import { isDigest, parseDigest } from '../../image/digest.ts';
import { parseJson } from '../../image/json.ts';
import type { Descriptor } from '../../image/manifest.ts';
import { formatReference, type OciReference } from '../../image/reference.ts';
import { makeDirectory } from '../../make-directory.ts';
import { readRegular } from '../../open-file.ts';
import { referrerOf } from '../referrers.ts';
import type { BlobUpload, ImageStore, SignalOptions } from '../store.ts';
import { type BlobLocation, FileStore, fileLocation } from './file-store.ts';
import { describeManifest, FileUpload } from './file-upload.ts';
import { putEntry, readEntries } from './layout-index.ts';
import { replaceFile, sweepTemporary } from './layout-temporary.ts';

const LAYOUT_VERSION = '1.0.0';
export const MAX_LAYOUT_FILE = 64 * 1024;

/** The path of a blob in a layout. */
function blobPath(dir: string, digest: string): string {
  const { algorithm, hex } = parseDigest(digest);
  return join(dir, 'blobs', algorithm, hex);
}

export class LayoutStore extends FileStore {
  readonly subject: string;
  readonly isPinned: boolean;
  readonly #dir: string;
  readonly #reference: OciReference;
  readonly #uploads = new Set<FileUpload>();
  #hasSwept = false;

  constructor(reference: OciReference) {
    super();
    this.subject = formatReference(reference);
    this.isPinned = reference.ref !== null && isDigest(reference.ref);
    this.#dir = reference.path;
    this.#reference = reference;
  }

  async resolve(ref: string | null, options: SignalOptions = {}): Promise<Descriptor> {
    return await this.choose(await readEntries(this.#dir), ref ?? this.#reference.ref, options);
  }

  async upload(options: SignalOptions = {}): Promise<BlobUpload> {
    await this.#sweepOnce();
    const upload = new FileUpload({
      dir: this.#dir,
      pathOf: (digest) => blobPath(this.#dir, digest),
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
    const descriptor = describeManifest(bytes, mediaType, target, this.subject);
    const upload = await this.upload(options);
    await upload.write(bytes);
    await upload.commit(descriptor.digest, descriptor.size);
    const referrer = referrerOf(bytes, descriptor, this.subject);
    if (target === null || !isDigest(target)) await putEntry(this.#dir, descriptor, target);
    // Referrers are searched among the index's entries (image-spec, "Image Layout": index.json is the entry point).
    else if (referrer !== null) await putEntry(this.#dir, referrer.entry, null);
    return descriptor;
  }

  async referrers(digest: string, artifactType: string | null, options: SignalOptions = {}): Promise<Descriptor[]> {
    return await this.referrersAmong(await readEntries(this.#dir), digest, artifactType, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const upload of [...this.#uploads]) await upload.abort();
  }

  protected async entries(): Promise<Descriptor[]> {
    return await readEntries(this.#dir);
  }

  protected async find(digest: string): Promise<BlobLocation | null> {
    return await fileLocation(blobPath(this.#dir, digest), this.#dir);
  }

  async #sweepOnce(): Promise<void> {
    if (this.#hasSwept) return;
    this.#hasSwept = true;
    await sweepTemporary(this.#dir);
  }
}

/**
 * Opens a layout. NOT_FOUND when it does not exist and `create` is not set; FORMAT when its `oci-layout` file is
 * invalid.
 */
export async function openLayout(reference: OciReference, create: boolean): Promise<LayoutStore> {
  const dir = reference.path;
  const marker = join(dir, 'oci-layout');
  try {
    await checkMarker(marker, dir);
  } catch (error) {
    if (!isLacunaError(error) || error.code !== 'NOT_FOUND') throw error;
    if (!create) {
      throw new LacunaError('NOT_FOUND', `${dir} is not an OCI layout: it has no oci-layout file`, {
        op: 'open',
        subject: dir,
        cause: error,
      });
    }
    await makeDirectory(join(dir, 'blobs', 'sha256'));
    await replaceFile(dir, marker, JSON.stringify({ imageLayoutVersion: LAYOUT_VERSION }));
  }
  return new LayoutStore(reference);
}

async function checkMarker(path: string, dir: string): Promise<void> {
  const bytes = await readRegular(path, MAX_LAYOUT_FILE, { op: 'open', within: dir });
  const document = parseJson(bytes, { op: 'open', subject: path, limit: MAX_LAYOUT_FILE });
  const version =
    typeof document === 'object' && document !== null && 'imageLayoutVersion' in document
      ? document.imageLayoutVersion
      : null;
  if (typeof version === 'string' && version.startsWith('1.')) return;
  throw new FormatError('imageLayoutVersion', `must be ${LAYOUT_VERSION}`, { op: 'open', subject: path });
}
