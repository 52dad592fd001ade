/** Images in a tar file: `oci-archive:` is an OCI layout in a tar, `docker-archive:` an archive of `docker save`. */
import { LacunaError } from '../../errors.ts';
import { isDigest, parseDigest } from '../../image/digest.ts';
import { type Descriptor, parseIndex } from '../../image/manifest.ts';
import { type ArchiveReference, formatReference } from '../../image/reference.ts';
import type { BlobUpload, SignalOptions } from '../store.ts';
import { readDockerArchive } from './archive-docker.ts';
import { type ArchiveContent, ArchiveFile } from './archive-file.ts';
import { type BlobLocation, FileStore } from './file-store.ts';

/** An existing archive, which is only read: an ArchiveWriter replaces it. */
export class ArchiveStore extends FileStore {
  readonly subject: string;
  readonly isPinned: boolean;
  readonly #reference: ArchiveReference;
  #opened: Promise<{ readonly file: ArchiveFile; readonly content: ArchiveContent }> | null = null;

  constructor(reference: ArchiveReference) {
    super();
    this.subject = formatReference(reference);
    this.isPinned = reference.ref !== null && isDigest(reference.ref);
    this.#reference = reference;
  }

  async resolve(ref: string | null, options: SignalOptions = {}): Promise<Descriptor> {
    const { content } = await this.#open(options);
    const name = ref ?? this.#reference.ref;
    const numbered = name === null ? null : /^@([0-9]+)$/.exec(name);
    if (numbered === null) return await this.choose(content.entries, name, options);
    const images = [...new Map(content.entries.map((entry) => [entry.digest, entry])).values()];
    const entry = images[Number(numbered[1])];
    if (entry !== undefined) return entry;
    throw new LacunaError(
      'NOT_FOUND',
      `there is no image ${name}: the archive has ${images.length} images, and the first is @0`,
      {
        op: 'resolve',
        subject: this.subject,
      },
    );
  }

  upload(): Promise<BlobUpload> {
    return Promise.reject(this.#readOnly());
  }

  async mountFrom(): Promise<boolean> {
    return false;
  }

  pushManifest(): Promise<Descriptor> {
    return Promise.reject(this.#readOnly());
  }

  async referrers(digest: string, artifactType: string | null, options: SignalOptions = {}): Promise<Descriptor[]> {
    const { content } = await this.#open(options);
    return await this.referrersAmong(content.entries, digest, artifactType, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const opened = await this.#opened?.catch(() => null);
    await opened?.file.close();
  }

  protected async entries(options: SignalOptions): Promise<readonly Descriptor[]> {
    return (await this.#open(options)).content.entries;
  }

  protected async find(digest: string, options: SignalOptions): Promise<BlobLocation | null> {
    return (await this.#open(options)).content.find(digest);
  }

  /** Opens the archive with the first call, so that its signal can abort a long copy. */
  #open(options: SignalOptions) {
    this.#opened ??= this.#read(options.signal ?? null);
    return this.#opened;
  }

  async #read(signal: AbortSignal | null) {
    const file = await ArchiveFile.open(this.#reference.path, signal);
    try {
      const isDocker = this.#reference.transport === 'docker-archive';
      return { file, content: await (isDocker ? readDockerArchive(file, signal) : readOciArchive(file)) };
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  #readOnly(): LacunaError {
    return new LacunaError('UNSUPPORTED', 'cannot add to an existing archive', {
      op: 'push',
      subject: this.subject,
      hint: 'name it as the target: a new archive replaces it',
    });
  }
}

async function readOciArchive(file: ArchiveFile): Promise<ArchiveContent> {
  const index = await file.read('index.json');
  if (index === null) {
    throw new LacunaError('FORMAT', 'not an OCI archive: it has no index.json', {
      op: 'open',
      subject: file.subject,
      ...(file.find('manifest.json') === null
        ? {}
        : { hint: `docker-archive:${file.subject} reads what docker save writes` }),
    });
  }
  const find = (digest: string) => {
    const { algorithm, hex } = parseDigest(digest);
    return file.find(`blobs/${algorithm}/${hex}`);
  };
  return { entries: parseIndex(index, `${file.subject}, index.json`).manifests, find };
}
