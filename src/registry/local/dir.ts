/**
 * One image in a directory in the form of skopeo's `dir:` (containers/image directory/): `manifest.json`, `version`,
 * every blob under its hex; for an index also `HEX.manifest.json` for each of its manifests.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { FormatError, LacunaError, toLacunaError } from '../../errors.ts';
import { digestOf, hexOf, isDigest } from '../../image/digest.ts';
import { manifestTypeOf } from '../../image/kind.ts';
import { type Descriptor, MAX_MANIFEST_SIZE } from '../../image/manifest.ts';
import { type DirReference, formatReference } from '../../image/reference.ts';
import { makeDirectory } from '../../make-directory.ts';
import { readRegular, sizeOfRegular, whenMissing } from '../../open-file.ts';
import type { BlobUpload, ImageStore, SignalOptions } from '../store.ts';
import { type BlobLocation, FileStore, fileLocation } from './file-store.ts';
import { describeManifest, FileUpload } from './file-upload.ts';
import { replaceFile, sweepTemporary } from './layout-temporary.ts';

const MANIFEST = 'manifest.json';
const VERSION_FILE = 'version';
const VERSION = 'Directory Transport Version: ';
export const MAX_VERSION_FILE = 4096;

export class DirStore extends FileStore {
  readonly subject: string;
  readonly isPinned = false;
  readonly #dir: string;
  readonly #uploads = new Set<FileUpload>();

  constructor(reference: DirReference) {
    super();
    this.subject = formatReference(reference);
    this.#dir = reference.path;
  }

  async resolve(ref: string | null, options: SignalOptions = {}): Promise<Descriptor> {
    const image = await this.#image();
    return await this.choose(image === null ? [] : [image], ref, options);
  }

  async upload(options: SignalOptions = {}): Promise<BlobUpload> {
    return this.#upload((digest) => join(this.#dir, hexOf(digest)), options);
  }

  async mountFrom(descriptor: Descriptor, from: ImageStore): Promise<boolean> {
    return from instanceof DirStore && from.#dir === this.#dir && (await this.has(descriptor));
  }

  async pushManifest(
    bytes: Buffer,
    mediaType: string,
    ref: string | null,
    options: SignalOptions = {},
  ): Promise<Descriptor> {
    const descriptor = describeManifest(bytes, mediaType, ref, this.subject);
    if (ref !== null && !isDigest(ref)) {
      throw new LacunaError('UNSUPPORTED', 'an image in a directory cannot have a name', {
        op: 'push',
        subject: this.subject,
        hint: 'an oci: directory holds several images by name',
      });
    }
    if (ref === null) {
      await replaceFile(this.#dir, join(this.#dir, MANIFEST), bytes);
    } else {
      const upload = this.#upload((digest) => join(this.#dir, `${hexOf(digest)}.${MANIFEST}`), options);
      await upload.write(bytes);
      await upload.commit(descriptor.digest, descriptor.size);
    }
    return descriptor;
  }

  /** Always empty: the directory has no list of referrers. */
  async referrers(): Promise<Descriptor[]> {
    return [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const upload of [...this.#uploads]) await upload.abort();
  }

  /** Always empty: the image of a directory has no name. */
  protected async entries(): Promise<Descriptor[]> {
    return [];
  }

  protected async find(digest: string): Promise<BlobLocation | null> {
    const path = join(this.#dir, hexOf(digest));
    const location = (await this.#locate(path)) ?? (await this.#locate(`${path}.${MANIFEST}`));
    if (location !== null || (await this.#image())?.digest !== digest) return location;
    return await this.#locate(join(this.#dir, MANIFEST));
  }

  #locate(path: string): Promise<BlobLocation | null> {
    return fileLocation(path, this.#dir);
  }

  #upload(pathOf: (digest: string) => string, options: SignalOptions): FileUpload {
    const upload = new FileUpload({
      dir: this.#dir,
      pathOf,
      signal: options.signal ?? null,
      onEnd: (ended) => this.#uploads.delete(ended),
    });
    this.#uploads.add(upload);
    return upload;
  }

  /** The image of the directory; null while it has none. */
  async #image(): Promise<Descriptor | null> {
    const path = join(this.#dir, MANIFEST);
    const context = { op: 'resolve', within: this.#dir };
    const bytes = await readRegular(path, MAX_MANIFEST_SIZE, context).catch(whenMissing(null));
    if (bytes === null) return null;
    return { mediaType: manifestTypeOf(bytes, '', path), digest: digestOf(bytes), size: bytes.length };
  }
}

/** Opens a directory with an image. NOT_FOUND when there is none; `create` accepts an empty or missing directory. */
export async function openDir(reference: DirReference, create: boolean): Promise<DirStore> {
  const { path } = reference;
  if (create) {
    await makeDirectory(path).catch((cause: unknown) => {
      throw toLacunaError(cause, { op: 'open', subject: path });
    });
    await claim(path);
  } else if (!(await hasFile(path, MANIFEST))) {
    throw new LacunaError('NOT_FOUND', `${path} is not a directory with an image: it has no ${MANIFEST}`, {
      op: 'open',
      subject: path,
    });
  }
  return new DirStore(reference);
}

/** Prepares a directory for an image. PRECONDITION when it contains other files. */
async function claim(path: string): Promise<void> {
  const version = join(path, VERSION_FILE);
  const context = { op: 'open', within: path };
  const text = await readRegular(version, MAX_VERSION_FILE, context).catch(whenMissing(null));
  if (text !== null) {
    if (!text.toString('latin1').startsWith(VERSION))
      throw new FormatError(VERSION_FILE, `not "${VERSION}1.1"`, { subject: path });
    await sweepTemporary(path);
    return;
  }
  if ((await readdir(path)).length > 0) {
    throw new LacunaError('PRECONDITION', 'the directory is not empty and does not contain an image', {
      op: 'open',
      subject: path,
      hint: 'name an empty or a new directory',
    });
  }
  await replaceFile(path, version, `${VERSION}1.1\n`);
}

const hasFile = async (folder: string, name: string): Promise<boolean> =>
  (await sizeOfRegular(join(folder, name), { op: 'open', within: folder }).catch(whenMissing(null))) !== null;
