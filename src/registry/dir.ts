/**
 * One image in a directory as skopeo's `dir:` has it (containers/image directory/): `manifest.json`, `version`, every
 * blob under its hex; of an index also `HEX.manifest.json` for each of its manifests.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { FormatError, LacunaError, toLacunaError } from '../errors.ts';
import { digestOf, hexOf, isDigest } from '../image/digest.ts';
import { manifestTypeOf } from '../image/kind.ts';
import { type Descriptor, MAX_MANIFEST_SIZE } from '../image/manifest.ts';
import { type DirReference, formatReference } from '../image/reference.ts';
import { makeDirectory } from '../make-directory.ts';
import { type BlobPlace, FileStore, filePlace } from './file-store.ts';
import { describeManifest, FileUpload } from './file-upload.ts';
import { hasCode, replaceFile, sweepTemporary } from './layout-temporary.ts';
import type { BlobUpload, ImageStore, SignalOptions } from './store.ts';

const MANIFEST = 'manifest.json';
const VERSION_FILE = 'version';
const VERSION = 'Directory Transport Version: ';

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
      throw new LacunaError('UNSUPPORTED', 'the image of a directory has no name', {
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

  /** None: nothing lists what lies in the directory beside its image. */
  async referrers(): Promise<Descriptor[]> {
    return [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const upload of [...this.#uploads]) await upload.abort();
  }

  /** The image of a directory has no name. */
  protected async entries(): Promise<Descriptor[]> {
    return [];
  }

  protected async find(digest: string): Promise<BlobPlace | null> {
    const path = join(this.#dir, hexOf(digest));
    const found = (await filePlace(path)) ?? (await filePlace(`${path}.${MANIFEST}`));
    if (found !== null || (await this.#image())?.digest !== digest) return found;
    return await filePlace(join(this.#dir, MANIFEST));
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

  /** The image of the directory, null while it has none. */
  async #image(): Promise<Descriptor | null> {
    const path = join(this.#dir, MANIFEST);
    const place = await filePlace(path);
    if (place === null) return null;
    if (place.size > MAX_MANIFEST_SIZE) {
      throw new FormatError(MANIFEST, `${place.size} bytes are too many`, { op: 'resolve', subject: this.#dir });
    }
    const bytes = await readFile(path);
    return { mediaType: manifestTypeOf(bytes, '', path), digest: digestOf(bytes), size: bytes.length };
  }
}

/** Opens a directory with an image. NOT_FOUND without `create`; an empty or missing one is made one with it. */
export async function openDir(reference: DirReference, create: boolean): Promise<DirStore> {
  const { path } = reference;
  if (create) {
    await makeDirectory(path).catch((cause: unknown) => {
      throw toLacunaError(cause, { op: 'open', subject: path });
    });
    await claim(path);
  } else if (!(await isThere(join(path, MANIFEST)))) {
    throw new LacunaError('NOT_FOUND', `${path} is no directory with an image: it has no ${MANIFEST}`, {
      op: 'open',
      subject: path,
    });
  }
  return new DirStore(reference);
}

/** Nothing is written between files that are not an image's. */
async function claim(path: string): Promise<void> {
  const version = join(path, VERSION_FILE);
  if (await isThere(version)) {
    const text = await readFile(version, 'latin1');
    if (!text.startsWith(VERSION)) throw new FormatError(VERSION_FILE, `not "${VERSION}1.1"`, { subject: path });
    await sweepTemporary(path);
    return;
  }
  if ((await readdir(path)).length > 0) {
    throw new LacunaError('PRECONDITION', 'the directory has something in it that is no image', {
      op: 'open',
      subject: path,
      hint: 'name an empty or new one',
    });
  }
  await replaceFile(path, version, `${VERSION}1.1\n`);
}

async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false;
    throw toLacunaError(error, { op: 'open', subject: path });
  }
}
