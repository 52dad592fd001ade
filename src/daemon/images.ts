/**
 * The attached images and their blob devices. Each image has devices of its own, which ask its own sources and take of its
 * own budgets; devices of a blob share its store, and those whose tables agree also the tables. All changes run one after
 * another; bootstraps are read meanwhile.
 */
import { join } from 'node:path';
import type { Fetcher } from '../blob/fetcher.ts';
import { LacunaError, toLacunaError } from '../errors.ts';
import type { BlobFs } from '../native/addon.ts';
import type { Log } from '../observe/log.ts';
import type { AttachRequest, DeviceStatus, ImageStatus } from './api.ts';
import { makeStores, newName, parseDevice, sweep } from './cache.ts';
import { assertOpenFiles } from './open-files.ts';
import type { ReadTables } from './read-tables.ts';
import {
  type ImageRecord,
  type RecordedDevice,
  readRecords,
  recordOf,
  removeRecord,
  verdictPath,
  writeRecord,
} from './record.ts';
import type { RootPaths } from './root.ts';
import type { Sources } from './sources.ts';
import { type BlobView, ensureView, loadView, readViews } from './view.ts';

interface Device {
  /** Of one image, and no other image's. */
  readonly name: string;
  readonly view: BlobView;
  readonly handle: number;
}

interface Attached {
  readonly record: ImageRecord;
  /** Null when it could not be attached after a restart; then `problem` says why. */
  readonly devices: readonly Device[] | null;
  readonly problem: string;
}

export interface ImagesOptions {
  readonly paths: RootPaths;
  readonly blobFs: BlobFs;
  readonly fetcher: Fetcher;
  readonly sources: Sources;
  readonly log: Log;
  /** How bootstraps are read; default: in this thread. */
  readonly readTables?: ReadTables;
  /** Milliseconds after which a source counts as silent. */
  readonly silence?: number;
}

export class Images {
  readonly #options: ImagesOptions;
  readonly #images = new Map<string, Attached>();
  /** All images' devices, by name. */
  readonly #devices = new Map<string, Device>();
  #last: Promise<unknown> = Promise.resolve();
  /** By image. */
  readonly #lastOf = new Map<string, Promise<void>>();

  constructor(options: ImagesOptions) {
    this.#options = options;
  }

  /** Attaches what the records say. An image that fails keeps its cache and tells its problem. */
  async restore(): Promise<void> {
    const { paths, log } = this.#options;
    for (const record of await readRecords(paths.images)) {
      try {
        const devices = await this.#open(record, await this.#restoreViews(record));
        this.#images.set(record.id, { record, devices, problem: '' });
      } catch (error) {
        const problem = toLacunaError(error);
        log.error({ image: record.id, error: problem.toJSON() }, 'an image could not be attached again');
        this.#images.set(record.id, { record, devices: null, problem: problem.message });
      }
    }
    // Readers wait; what cannot be deleted now is deleted with the next image.
    await this.#sweep().catch((error: unknown) => {
      log.warn({ error: toLacunaError(error).toJSON() }, 'the cache could not be swept');
    });
  }

  /** Paths of the device files, in blob table order. */
  async attach(request: AttachRequest, signal?: AbortSignal): Promise<string[]> {
    const asked = recordOf(request);
    return await this.#inTurnOf(asked.id, async () => {
      try {
        // Others need not wait for a large bootstrap.
        const views = await this.#readViews(asked, signal);
        return await this.#inTurn(() => this.#attach(asked, views));
      } catch (error) {
        if (!this.#images.has(asked.id)) await removeRecord(this.#options.paths.images, asked.id);
        await this.#closeUnused(asked.id);
        throw error;
      }
    });
  }

  async #attach(asked: ImageRecord, views: readonly BlobView[]): Promise<string[]> {
    const { paths, log } = this.#options;
    const known = this.#images.get(asked.id);
    const before = known?.devices ?? [];
    await assertOpenFiles([...this.#devices.keys(), ...views.map(({ name }) => name)], asked.id);
    const devices = await this.#open(asked, views);
    const record = { ...asked, devices: devices.map(recordedOf) };
    try {
      await writeRecord(paths.images, record);
    } catch (error) {
      this.#releaseAll(devices, before);
      // What stays asks the places that are recorded, as before.
      if (known !== undefined) for (const device of before) this.#tellFetcher(known.record, device);
      throw error;
    }
    this.#images.set(record.id, { record, devices, problem: '' });
    const released = this.#releaseAll(before, devices);
    await this.#closeUnused(record.id);
    if (released > 0) await this.#sweep();
    log.info({ image: record.id, devices: devices.length }, 'attached');
    return devices.map((device) => join(paths.fuse, device.name));
  }

  /** NOT_FOUND for an unknown id. */
  detach(id: string): Promise<void> {
    return this.#inTurnOf(id, () => this.#inTurn(() => this.#detach(id)));
  }

  async #detach(id: string): Promise<void> {
    const image = this.#images.get(id);
    if (image === undefined) throw new LacunaError('NOT_FOUND', `no image ${id}`, { op: 'detach', subject: id });
    await removeRecord(this.#options.paths.images, id);
    this.#images.delete(id);
    this.#releaseAll(image.devices ?? [], []);
    await this.#closeUnused(id);
    await this.#sweep();
    this.#options.log.info({ image: id }, 'detached');
  }

  status(): { images: ImageStatus[]; devices: DeviceStatus[] } {
    const { paths, blobFs } = this.#options;
    const images = [...this.#images.values()].map(({ record, devices, problem }) => ({
      id: record.id,
      bootstrap: record.bootstrap,
      devices: (devices ?? []).map(({ name }) => join(paths.fuse, name)),
      problem,
    }));
    const devicesOf = ({ record, devices }: Attached): DeviceStatus[] =>
      [...new Set(devices ?? [])].map(({ name, handle, view: { id, size, table } }) => ({
        name,
        blob: id,
        size,
        chunks: table.length,
        missing: blobFs.missing(handle, 0, table.length).length,
        images: [record.id],
      }));
    return { images, devices: [...this.#images.values()].flatMap(devicesOf) };
  }

  /** From the tables that lie in the cache; where one is lost or damaged, from the bootstrap. */
  async #restoreViews(record: ImageRecord): Promise<BlobView[]> {
    try {
      return await Promise.all(record.devices.map((device) => loadView(this.#options.paths.cache, device)));
    } catch (error) {
      const problem = toLacunaError(error).toJSON();
      this.#options.log.warn({ image: record.id, error: problem }, 'a chunk table is lost, reading the bootstrap');
      return await this.#readViews(record);
    }
  }

  #readViews(record: ImageRecord, signal?: AbortSignal): Promise<BlobView[]> {
    const { paths, sources, readTables, silence } = this.#options;
    return readViews(record, sources, {
      verdict: verdictPath(paths.images, record.id),
      ...(readTables === undefined ? {} : { read: readTables }),
      ...(silence === undefined ? {} : { silence }),
      ...(signal === undefined ? {} : { signal }),
    });
  }

  async #open(record: ImageRecord, views: readonly BlobView[]): Promise<Device[]> {
    const known = this.#images.get(record.id);
    const before = known?.devices ?? [];
    const recorded = [...record.devices, ...(known?.record.devices ?? [])].map(({ name }) => name);
    const devices: Device[] = [];
    try {
      for (const view of views) {
        const { name: tables } = view;
        // A blob table may name one blob twice.
        const mine = [...devices, ...before].find(({ name }) => hasTables(name, tables));
        // The kernel may know the device by the name that was recorded.
        const name = recorded.find((old) => hasTables(old, tables)) ?? newName(tables, this.#devices.keys());
        const device = mine ?? (await this.#add(record.id, name, view));
        // Before anything else is waited for: readers may miss chunks of it from now on.
        this.#tellFetcher(record, device);
        devices.push(device);
      }
    } catch (error) {
      this.#releaseAll(devices, before);
      throw error;
    }
    return devices;
  }

  async #add(image: string, name: string, view: BlobView): Promise<Device> {
    const { paths, blobFs } = this.#options;
    const stores = await makeStores(paths.cache, name);
    await ensureView(paths.cache, view);
    const twin = [...this.#devices.values()].find((device) => hasTables(device.name, view.name));
    const { table, units } = twin?.view ?? view;
    const { size } = view;
    const { node } = parseDevice(name);
    const handle = blobFs.addDevice({
      ...{ name, node, image, size, table: table.bytes, units: units?.bytes ?? null },
      ...stores,
    });
    const device = { name, view: { ...view, table, units }, handle };
    this.#devices.set(name, device);
    return device;
  }

  #tellFetcher({ id: image, sources }: ImageRecord, { handle, view }: Device): void {
    const { id: blob, storedSize, table, units } = view;
    const places = this.#options.sources.of({ id: image, sources }, blob, storedSize);
    this.#options.fetcher.addDevice(handle, { image, blob, table, units, sources: places });
  }

  /** Says how many there were that are not `kept`. */
  #releaseAll(devices: readonly Device[], kept: readonly Device[]): number {
    // A set, since a blob table may name one blob twice.
    const released = new Set(devices.filter((device) => !kept.includes(device)));
    for (const { name, handle } of released) {
      this.#devices.delete(name);
      this.#options.fetcher.removeDevice(handle);
      this.#options.blobFs.removeDevice(handle);
    }
    return released.size;
  }

  /** Connections to places that the image does not name, or no longer, are closed. */
  #closeUnused(image: string): Promise<void> {
    return this.#options.sources.retain(image, this.#images.get(image)?.record.sources ?? []);
  }

  async #sweep(): Promise<void> {
    const recorded = [...this.#images.values()].flatMap(({ record }) => record.devices.map(({ name }) => name));
    await sweep(this.#options.paths.cache, [...this.#devices.keys(), ...recorded]);
  }

  /** What is asked of one image is done in the order in which it is asked. */
  #inTurnOf<T>(id: string, work: () => Promise<T>): Promise<T> {
    const result = (this.#lastOf.get(id) ?? Promise.resolve()).then(work);
    const last = result.then(
      () => {},
      () => {},
    );
    this.#lastOf.set(id, last);
    void last.then(() => this.#lastOf.get(id) === last && this.#lastOf.delete(id));
    return result;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => {});
    return result;
  }
}

const recordedOf = ({ name, view: { size, storedSize } }: Device): RecordedDevice => ({ name, size, storedSize });

/** Whether the device `name` has the tables that are called so. */
const hasTables = (name: string, tables: string): boolean => name.startsWith(`${tables}-`);
