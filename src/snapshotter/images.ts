/**
 * The lazy images of a root: each has a folder `<id>/` (the id of its bootstrap's snapshot) with the bootstrap and the
 * mountpoint of its EROFS, whose data the daemon serves. Fetches, mounts and removes images; `snapshotter.ts` keeps records.
 */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { metaFilesOf } from '../cache/metas-beside.ts';
import type { DaemonClient } from '../daemon/client.ts';
import { LacunaError, toLacunaError } from '../errors.ts';
import type { Descriptor } from '../image/manifest.ts';
import { parseManifest } from '../image/manifest.ts';
import { makeDirectory } from '../make-directory.ts';
import { mountErofs, unmount } from '../mount/erofs.ts';
import { mountedAt } from '../mount/mountinfo.ts';
import { removeTree } from '../native/tree.ts';
import { errorRow, type Log } from '../observe/log.ts';
import { readBootstrapLayer } from '../reader/bootstrap.ts';
import { readUnpackedBootstrap } from '../reader/unpacked-bootstrap.ts';
import type { ImageStore } from '../registry/store.ts';
import type { Caller } from './caller.ts';
import type { ManagedDaemon } from './daemon-handle.ts';
import { type CommitAs, Directories } from './directories.ts';
import type { ImageSource, SnapshotRecord, Usage } from './info.ts';
import type { LazyLayer } from './labels.ts';
import type { Pulls } from './pulls.ts';
import type { Registries, RegistryAccess } from './registries.ts';
import { SharedWork } from './shared-work.ts';

/** A stored bootstrap that has no record yet. */
export interface NewImage {
  readonly source: ImageSource;
  readonly usage: Usage;
  /** Digest of the layer's tar. */
  readonly diffId: string;
  /** Commits the image's folder under the record's number; called in the record's transaction. */
  readonly commitAs: CommitAs;
}

interface Fetched {
  readonly bootstrap: Buffer;
  /** Chunk info of the bootstrap's layer, by file name. */
  readonly metas: ReadonlyMap<string, Buffer>;
  readonly diffId: string;
}

/** Milliseconds for which a prefetched bootstrap is kept until its Prepare. */
const EXPECT_MILLISECONDS = 60_000;

type DaemonHandle = Pick<ManagedDaemon, 'client' | 'running' | 'shareCredentials'>;

export interface ImagesOptions {
  readonly folder: string;
  readonly daemon: DaemonHandle;
  readonly registries: Registries;
  readonly pulls: Pick<Pulls, 'announce' | 'assertPulled'>;
  readonly log: Log;
}

export class Images {
  readonly #directories: Directories;
  readonly #daemon: DaemonHandle;
  readonly #registries: Registries;
  readonly #pulls: ImagesOptions['pulls'];
  readonly #log: Log;
  /** Bootstraps that are being fetched, by repository and layer digest. */
  readonly #fetches = new Map<string, SharedWork<Fetched>>();
  readonly #mounting = new Map<number, Promise<string>>();

  private constructor(directories: Directories, options: ImagesOptions) {
    this.#directories = directories;
    this.#daemon = options.daemon;
    this.#registries = options.registries;
    this.#pulls = options.pulls;
    this.#log = options.log;
  }

  static async open(options: ImagesOptions): Promise<Images> {
    return new Images(await Directories.open(options.folder), options);
  }

  /** Sets how a registry is reached from now on, also by the daemon. USAGE without a host. */
  async setRegistry(access: RegistryAccess): Promise<void> {
    this.#registries.set(access);
    const client = this.#daemon.running();
    if (client === null) return;
    const failure = 'could not pass the credentials to the daemon';
    await this.#attempt(failure, access.host, () => this.#daemon.shareCredentials(client, access.host));
  }

  /** Announces a pull of `image`, so that its labels are trusted. REFERENCE when `image` is not a reference. */
  announce(image: string, digest: string): void {
    this.#pulls.announce(this.#registries.sourceOf(image), digest);
  }

  /** FORBIDDEN when the labels of a layer name an image that the caller has not pulled. */
  async assertPulled(layer: LazyLayer, caller: Caller): Promise<void> {
    await this.#pulls.assertPulled(layer, this.#registries.sourceOf(layer.image), caller);
  }

  /** Starts to fetch a bootstrap layer that is going to be prepared soon. REFERENCE when `image` is not a reference. */
  expect(image: string, layer: Pick<Descriptor, 'digest' | 'mediaType' | 'size'>): void {
    const source = this.#registries.sourceOf(image);
    const key = fetchKey(source, layer.digest);
    const fetching = this.#fetch(key, source, async () => layer);
    // Prepare reports a failure; this join only keeps the fetch running until Prepare is called.
    fetching.join(AbortSignal.timeout(EXPECT_MILLISECONDS)).catch(() => {});
    setTimeout(() => this.#forget(key, fetching), EXPECT_MILLISECONDS).unref();
  }

  /** Fetches, verifies and stores the bootstrap; `use` makes its record. `signal`: aborted when the caller is gone. */
  async fetch(layer: LazyLayer, use: (image: NewImage) => void, signal: AbortSignal): Promise<void> {
    const source = this.#registries.sourceOf(layer.image);
    const key = fetchKey(source, layer.digest);
    const fetching = this.#fetch(key, source, (store, stop) => descriptorOf(store, layer, stop));
    try {
      const { bootstrap, metas, diffId } = await fetching.join(signal);
      const sizes = [bootstrap, ...metas.values()].map(({ length }) => length);
      const usage = { size: sizes.reduce((sum, size) => sum + size), inodes: sizes.length };
      await this.#directories.make(
        async (path) => {
          for (const [name, bytes] of metas) await writeDurably(join(path, name), bytes);
          await writeDurably(bootstrapIn(path), bootstrap);
        },
        (commitAs) => use({ source, usage, diffId, commitAs }),
      );
    } finally {
      this.#forget(key, fetching);
    }
  }

  /** Copies the bootstrap from a layer that containerd verified and unpacked into `fs`. FORMAT when there is none. */
  async adopt(fs: string, layer: LazyLayer, use: (image: Omit<NewImage, 'diffId'>) => void): Promise<void> {
    const source = this.#registries.sourceOf(layer.image);
    const bootstrap = await readUnpackedBootstrap(fs, layer.digest);
    const usage = { size: bootstrap.length, inodes: 1 };
    await this.#directories.make(
      (path) => writeDurably(bootstrapIn(path), bootstrap),
      (commitAs) => use({ source, usage, commitAs }),
    );
  }

  /** Returns the mountpoint of the image's EROFS, and mounts it if needed (at first use, or after a reboot). */
  async ensureMounted(image: SnapshotRecord): Promise<string> {
    const running = this.#mounting.get(image.id);
    if (running !== undefined) return running;
    const mounting = this.#mount(image).finally(() => this.#mounting.delete(image.id));
    this.#mounting.set(image.id, mounting);
    return mounting;
  }

  /** Unmounts an image, frees the cache of blobs that no other image uses, and deletes the bootstrap. */
  async remove(id: number): Promise<void> {
    await this.#mounting.get(id)?.catch(() => {});
    await unmount(mountpointIn(this.#directories.path(id)));
    await detach(await this.#daemon.client(), id);
    await this.#directories.remove(id);
  }

  /** Removes images without a record. `ids` returns the ids of all records at the time of its call. */
  async cleanup(ids: () => ReadonlySet<number>): Promise<void> {
    const orphans = this.#directories.orphans(ids());
    for (const path of orphans) {
      await this.#attempt('could not delete an image without a record; the next cleanup retries', path, async () => {
        await unmount(mountpointIn(path));
        await removeTree(path);
      });
    }
    const client = this.#daemon.running();
    if (client === null) return;
    await this.#attempt('could not detach removed images; the next cleanup retries', 'daemon', async () => {
      const { images } = await client.status();
      const numbers = images.map(({ id }) => /^snapshot-(\d+)$/.exec(id)?.[1]).filter((text) => text !== undefined);
      const recorded = ids();
      for (const id of numbers.map(Number)) if (!recorded.has(id)) await detach(client, id);
    });
  }

  #fetch(
    key: string,
    source: ImageSource,
    describe: (store: ImageStore, signal: AbortSignal) => Promise<LayerDescriptor>,
  ): SharedWork<Fetched> {
    const running = this.#fetches.get(key);
    if (running !== undefined && !running.isStopped) return running;
    const fetching = new SharedWork(async (signal): Promise<Fetched> => {
      await using store = await this.#registries.open(source);
      const tar = createHash('sha256');
      const onTar = (piece: Buffer) => void tar.update(piece);
      const layer = await describe(store, signal);
      const read = await readBootstrapLayer(store, layer, { signal, onTar });
      const metas = await metaFilesOf(read, layer.digest);
      return { bootstrap: read.bootstrap, metas, diffId: `sha256:${tar.digest('hex')}` };
    });
    this.#fetches.set(key, fetching);
    return fetching;
  }

  #forget(key: string, fetching: SharedWork<Fetched>): void {
    if (this.#fetches.get(key) === fetching) this.#fetches.delete(key);
  }

  async #mount(image: SnapshotRecord): Promise<string> {
    const path = this.#directories.path(image.id);
    const target = mountpointIn(path);
    if ((await mountedAt(target)) !== null) return target;
    const client = await this.#daemon.client();
    const { host, repository, plainHttp } = image.source!;
    await this.#daemon.shareCredentials(client, host);
    const { devices } = await client.attach({
      id: attachId(image.id),
      bootstrap: bootstrapIn(path),
      sources: [{ registry: { host, repository, plainHttp, ca: this.#registries.ca } }],
    });
    await makeDirectory(target);
    // Containers run with the image's own rights; on the host the mount lies below a folder that only root may enter.
    const rights = { suid: true, dev: true };
    const { driver } = await mountErofs({ bootstrap: bootstrapIn(path), devices, target }, rights);
    this.#log.info({ image: `${host}/${repository}`, id: image.id, driver }, 'image mounted');
    return target;
  }

  async #attempt(failure: string, subject: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#log.warn({ subject, error: errorRow(error) }, failure);
    }
  }
}

type LayerDescriptor = Pick<Descriptor, 'digest' | 'mediaType' | 'size'>;

const fetchKey = (source: ImageSource, digest: string): string => `${source.host}/${source.repository}@${digest}`;
const bootstrapIn = (path: string): string => join(path, 'bootstrap');
const mountpointIn = (path: string): string => join(path, 'mnt');
const attachId = (id: number): string => `snapshot-${id}`;

/** The layer's descriptor: containerd passes only its digest, so its type and size are read from the manifest. */
async function descriptorOf(store: ImageStore, layer: LazyLayer, signal: AbortSignal): Promise<LayerDescriptor> {
  if (layer.manifestDigest === '') {
    throw new LacunaError('PRECONDITION', 'containerd did not name the manifest', { subject: layer.image });
  }
  const bytes = await store.manifest(await store.resolve(layer.manifestDigest, { signal }), { signal });
  const found = parseManifest(bytes, layer.image).layers.find(({ digest }) => digest === layer.digest);
  if (found !== undefined) return found;
  throw new LacunaError('NOT_FOUND', `the manifest has no layer ${layer.digest}`, { subject: layer.image });
}

async function detach(client: DaemonClient, id: number): Promise<void> {
  try {
    await client.detach(attachId(id));
  } catch (error) {
    // The image was never mounted, or detached before.
    if (toLacunaError(error).code !== 'NOT_FOUND') throw error;
  }
}

async function writeDurably(path: string, data: Buffer): Promise<void> {
  await using file = await open(path, 'wx', 0o600);
  await file.writeFile(data);
  await file.sync();
}
