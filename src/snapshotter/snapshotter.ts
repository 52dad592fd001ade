/**
 * The ten operations of containerd's snapshots service. Plain layers behave exactly as with containerd's own overlayfs
 * snapshotter; layers of a lazy image are committed at once, and containers stand on the image's EROFS mount.
 * Records are in `records.ts`, lazy images in `images.ts`, gRPC in `service.ts`.
 */
import { chmod, chown, lstat, mkdir, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { LacunaError, toLacunaError } from '../errors.ts';
import { makeDirectory } from '../make-directory.ts';
import { removeTree, usageOf, type WalkOptions } from '../native/tree.ts';
import { errorRow, type Log } from '../observe/log.ts';
import type { Caller } from './caller.ts';
import { Directories } from './directories.ts';
import { parseFilters } from './filters.ts';
import type { Images, NewImage } from './images.ts';
import type { Kind, Labels, Mount, SnapshotInfo, SnapshotRecord, Usage } from './info.ts';
import { assertChainId, LABEL, type LazyLayer, lazyLayerOf } from './labels.ts';
import { assertMountable, mountsOf, type OverlayOptions, probeOverlay, stackOf } from './overlay.ts';
import { Records } from './records.ts';

/** The part of {@link Images} that the snapshotter uses. */
export type LazyImages = Pick<Images, 'assertPulled' | 'fetch' | 'adopt' | 'ensureMounted' | 'remove' | 'cleanup'>;

export interface SnapshotterOptions {
  /** The snapshotter's folder: `<root>/snapshotter`. Only its owner may write there. */
  readonly folder: string;
  readonly images: LazyImages;
  readonly log: Log;
  /** Default: probed on this host. */
  readonly overlay?: OverlayOptions;
}

const NEVER = new AbortController().signal;
const NO_USAGE: Usage = { size: 0, inodes: 0 };

/** A request to commit a layer of a lazy image. */
interface LazyRequest {
  readonly parent: string;
  readonly labels: Labels;
  readonly caller: Caller;
  readonly signal: AbortSignal;
}

export class Snapshotter implements Disposable {
  readonly #records: Records;
  readonly #directories: Directories;
  readonly #images: LazyImages;
  readonly #overlay: OverlayOptions;
  readonly #log: Log;
  /** Running counts of active snapshots' usage, by snapshot. */
  readonly #counts = new Map<number, Promise<Usage>>();
  readonly #closing = new AbortController();
  /** Options of tree walks, which may take long. */
  readonly #walk: WalkOptions = { signal: this.#closing.signal };

  private constructor(records: Records, directories: Directories, options: SnapshotterOptions) {
    this.#records = records;
    this.#directories = directories;
    this.#images = options.images;
    this.#overlay = options.overlay ?? probeOverlay();
    this.#log = options.log;
  }

  /** Opens the records, and starts to delete directories that a crash left without one. */
  static async open(options: SnapshotterOptions): Promise<Snapshotter> {
    assertMountable(options.folder);
    await makeDirectory(options.folder, 0o700);
    const directories = await Directories.open(join(options.folder, 'snapshots'));
    const records = await Records.open(join(options.folder, 'metadata.db'));
    const snapshotter = new Snapshotter(records, directories, options);
    // The start does not wait for the cleanup: a container may have left a tree of any size.
    void snapshotter.#forget(() => snapshotter.cleanup(), options.folder);
    return snapshotter;
  }

  /**
   * Makes an active snapshot and returns its mounts. Commits a layer of a lazy image instead, and throws ALREADY_EXISTS.
   * `signal`: aborted when the caller is gone.
   */
  async prepare(
    key: string,
    parent: string,
    labels: Labels,
    caller: Caller,
    signal: AbortSignal = NEVER,
  ): Promise<Mount[]> {
    const layer = lazyLayerOf(labels);
    if (layer !== null) await this.#commitLazily(layer, { parent, labels, caller, signal });
    return this.#create('active', key, parent, labels, layer !== null);
  }

  async view(key: string, parent: string, labels: Labels): Promise<Mount[]> {
    return this.#create('view', key, parent, labels, false);
  }

  async mounts(key: string): Promise<Mount[]> {
    const [record, ...parents] = this.#records.chain(key);
    if (record!.kind === 'committed') {
      throw new LacunaError('PRECONDITION', 'the snapshot is committed, only active ones and views have mounts', {
        subject: key,
      });
    }
    return this.#mountsOf(record!, await this.#lowersOf(isLazyUnpack(record!) ? [] : parents));
  }

  /** `parent`: optional, sent by containerd 2; it must be the parent that the snapshot was prepared on. */
  async commit(name: string, key: string, labels: Labels, parent: string, caller: Caller): Promise<void> {
    const record = this.#records.get(key);
    if (parent !== '' && parent !== record.parent) {
      throw new LacunaError('UNSUPPORTED', 'a snapshot cannot be committed on top of another parent', { subject: key });
    }
    const layer = lazyLayerOf({ ...record.labels, ...labels });
    if (record.kind === 'active' && layer?.kind === 'bootstrap') {
      await this.#images.assertPulled(layer, caller);
      await this.#images.adopt(this.#fs(record.id), layer, (image) =>
        this.#records.commit(key, name, { labels, content: 'bootstrap', ...image }, image.commitAs),
      );
      await this.#forget(() => this.#directories.remove(record.id, this.#walk), name);
      return;
    }
    const usage = record.kind === 'active' ? await usageOf(this.#fs(record.id), this.#walk) : NO_USAGE;
    this.#records.commit(key, name, { labels, usage }, () => {});
  }

  /** Frees the key at once. The next {@link cleanup} retries files that cannot be deleted now. */
  async remove(key: string): Promise<void> {
    const { id, content } = this.#records.remove(key);
    if (content === 'bootstrap') await this.#forget(() => this.#images.remove(id), key);
    else if (content === 'directory') await this.#forget(() => this.#directories.remove(id, this.#walk), key);
  }

  stat(key: string): SnapshotInfo {
    return this.#records.get(key);
  }

  update(name: string, labels: Labels, mask: readonly string[]): SnapshotInfo {
    return this.#records.update(name, labels, mask);
  }

  list(filters: readonly string[]): SnapshotInfo[] {
    return this.#records.list().filter(parseFilters(filters));
  }

  /** Whether a snapshot has the bootstrap layer of this digest. */
  hasBootstrap(digest: string): boolean {
    const layers = this.#records.list().filter(({ content }) => content === 'bootstrap');
    return layers.some(({ labels }) => labels[LABEL.layerDigest] === digest);
  }

  async usage(key: string): Promise<Usage> {
    const record = this.#records.get(key);
    return record.kind === 'active' ? this.#count(record.id) : record.usage;
  }

  /** Deletes directories and images without a record, as failed removals and crashes leave them. */
  async cleanup(): Promise<void> {
    const orphans = this.#directories.orphans(this.#records.idsOf('directory'));
    for (const path of orphans) await this.#forget(() => removeTree(path, this.#walk), path);
    await this.#images.cleanup(() => this.#records.idsOf('bootstrap'));
  }

  close(): void {
    this.#closing.abort();
    this.#records.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Commits a layer of a lazy image under its chain ID and throws ALREADY_EXISTS, which tells containerd that nothing
   * is to be downloaded. Returns when a bootstrap could not be fetched: containerd then downloads and unpacks it, and
   * commit finds it among the files.
   */
  async #commitLazily(layer: LazyLayer, { parent, labels, caller, signal }: LazyRequest): Promise<void> {
    const exists = () => new LacunaError('ALREADY_EXISTS', 'the layer is lazy', { subject: layer.chainId });
    if (this.#records.findLazy(layer.chainId, parent) !== null) throw exists();
    const parentLabels = parent === '' ? null : this.#records.get(parent).labels;
    // Nothing is fetched for data layers, so their labels need no check.
    if (layer.kind === 'bootstrap') await this.#images.assertPulled(layer, caller);
    try {
      if (layer.kind === 'blob') {
        // A data layer is not compressed as a whole: its digest is its diffID.
        assertChainId(layer, parentLabels, layer.digest);
        const name = this.#freeName(layer.chainId, parent);
        this.#records.create({ name, parent, kind: 'committed', labels, content: 'blob' }, () => {});
      } else {
        const use = (image: NewImage): void => {
          assertChainId(layer, parentLabels, image.diffId);
          const name = this.#freeName(layer.chainId, parent);
          const { commitAs, ...rest } = image;
          const record = { name, parent, kind: 'committed', labels, content: 'bootstrap', ...rest } as const;
          this.#warm(this.#records.create(record, commitAs));
        };
        await this.#images.fetch(layer, use, signal);
      }
    } catch (error) {
      // Another caller prepared the same layer meanwhile.
      if (this.#records.findLazy(layer.chainId, parent) !== null) throw exists();
      const failure = toLacunaError(error);
      if (layer.kind === 'blob' || signal.aborted || !canFallBack(failure)) throw failure;
      this.#log.warn(
        { image: layer.image, layer: layer.digest, error: errorRow(failure) },
        'could not fetch the bootstrap: containerd downloads the layer instead',
      );
      return;
    }
    throw exists();
  }

  /** Mounts an image ahead of its first container, which reports the error if the mount still fails. */
  #warm(image: SnapshotRecord): void {
    this.#images.ensureMounted(image).catch((error: unknown) => {
      this.#log.warn(
        { image: image.name, error: errorRow(error) },
        'could not mount the image yet; its first container retries',
      );
    });
  }

  /** The chain ID; with the parent when the name is taken: one layer may lie on top of parents of two namespaces. */
  #freeName(chainId: string, parent: string): string {
    return this.#records.has(chainId) ? `${chainId} on ${parent}` : chainId;
  }

  async #create(kind: Kind, key: string, parent: string, labels: Labels, unpacksLazy: boolean): Promise<Mount[]> {
    const lowers = await this.#lowersOf(parent === '' || unpacksLazy ? [] : this.#records.chain(parent));
    const record = await this.#directories.make(
      (path) => fillDirectory(path, kind, lowers[0] ?? null),
      (commitAs) => this.#records.create({ name: key, parent, kind, labels, content: 'directory' }, commitAs),
    );
    return this.#mountsOf(record, lowers);
  }

  /** Counts a tree once for all concurrent callers, as large trees take long. */
  #count(id: number): Promise<Usage> {
    const running = this.#counts.get(id);
    if (running !== undefined) return running;
    const counting = usageOf(this.#fs(id), this.#walk).finally(() => this.#counts.delete(id));
    this.#counts.set(id, counting);
    return counting;
  }

  /** The directories below a snapshot, newest first; a lazy image is mounted if needed. */
  async #lowersOf(chain: readonly SnapshotRecord[]): Promise<string[]> {
    const { layers, image } = stackOf(chain);
    const mountpoint = image === null ? '' : await this.#images.ensureMounted(image);
    return layers.map((layer) => (layer === image ? mountpoint : this.#fs(layer.id)));
  }

  #mountsOf(record: SnapshotRecord, lowers: readonly string[]): Mount[] {
    const path = this.#directories.path(record.id);
    return mountsOf({ kind: record.kind, fs: join(path, 'fs'), work: join(path, 'work') }, lowers, this.#overlay);
  }

  #fs(id: number): string {
    return join(this.#directories.path(id), 'fs');
  }

  /** Deletes files after their record is gone. A failure is logged, not thrown: the next cleanup retries. */
  async #forget(removal: () => Promise<void>, subject: string): Promise<void> {
    try {
      await removal();
    } catch (error) {
      this.#log.warn(
        { subject, error: errorRow(error) },
        'could not delete files of a removed snapshot; the next cleanup retries',
      );
    }
  }
}

/** Whether a download of the layer by containerd may succeed where ours failed. */
function canFallBack(error: LacunaError): boolean {
  return error.code !== 'DIGEST_MISMATCH' && error.code !== 'FORMAT' && error.code !== 'NOT_FOUND';
}

/** Whether containerd unpacks a bootstrap layer into this active snapshot, which has no lower layers. */
const isLazyUnpack = (record: SnapshotRecord): boolean =>
  record.labels[LABEL.ref] !== undefined && record.labels[LABEL.bootstrap] === 'true';

/**
 * Makes `fs`, and `work` for overlayfs. overlayfs takes the attributes of the merged root directory from `fs`, so `fs` gets
 * those of the root below.
 */
async function fillDirectory(path: string, kind: Kind, below: string | null): Promise<void> {
  const fs = join(path, 'fs');
  await mkdir(fs, { mode: 0o755 });
  if (kind === 'active') await mkdir(join(path, 'work'), { mode: 0o711 });
  if (below === null) {
    await chmod(fs, 0o755);
    return;
  }
  const { uid, gid, mode, atime, mtime } = await lstat(below);
  await chown(fs, uid, gid);
  await chmod(fs, mode & 0o7777);
  await utimes(fs, atime, mtime);
}
