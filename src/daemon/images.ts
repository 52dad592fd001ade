/**
 * The attached images and their blob devices. Images whose tables agree on a blob share its device; images whose
 * tables differ have one each, over one shared store. All changes run one after another.
 */
import { join } from 'node:path';
import type { Fetcher } from '../blob/fetcher.ts';
import type { BlobSource } from '../blob/source.ts';
import type { ChunkTable } from '../blob/table.ts';
import type { UnitTable } from '../blob/units.ts';
import { LacunaError, toLacunaError } from '../errors.ts';
import type { BlobFs } from '../native/addon.ts';
import type { Log } from '../observe/log.ts';
import type { AttachRequest, DeviceStatus, ImageStatus } from './api.ts';
import { makeStores, sweep } from './cache.ts';
import { assertOpenFiles } from './open-files.ts';
import { type ImageRecord, readRecords, recordOf, removeRecord, writeRecord } from './record.ts';
import type { RootPaths } from './root.ts';
import type { Sources } from './sources.ts';
import { type BlobView, ensureView, loadView, nameOf, readViews } from './view.ts';

interface Device {
  readonly name: string;
  readonly blob: string;
  readonly size: number;
  readonly storedSize: number;
  readonly table: ChunkTable;
  readonly units: UnitTable | null;
  readonly handle: number;
  /** Image id → the places it named. */
  readonly users: Map<string, readonly BlobSource[]>;
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
}

export class Images {
  readonly #options: ImagesOptions;
  readonly #images = new Map<string, Attached>();
  readonly #devices = new Map<string, Device>();
  #last: Promise<unknown> = Promise.resolve();

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
  attach(request: AttachRequest): Promise<string[]> {
    return this.#inTurn(async () => {
      const { paths, log } = this.#options;
      const asked = recordOf(request);
      const before = this.#images.get(asked.id)?.devices ?? [];
      const views = await readViews(asked, this.#options.sources);
      await assertOpenFiles([...this.#devices.keys(), ...views.map(nameOf)], asked.id);
      const devices = await this.#open(asked, views);
      const record = { ...asked, devices: devices.map(({ name, size, storedSize }) => ({ name, size, storedSize })) };
      try {
        await writeRecord(paths.images, record);
      } catch (error) {
        this.#releaseAll(devices, record.id, before);
        throw error;
      }
      this.#images.set(record.id, { record, devices, problem: '' });
      if (this.#releaseAll(before, record.id, devices) > 0) await this.#sweep();
      log.info({ image: record.id, devices: devices.length }, 'attached');
      return devices.map((device) => join(paths.fuse, device.name));
    });
  }

  /** NOT_FOUND for an unknown id. */
  detach(id: string): Promise<void> {
    return this.#inTurn(async () => {
      const image = this.#images.get(id);
      if (image === undefined) throw new LacunaError('NOT_FOUND', `no image ${id}`, { op: 'detach', subject: id });
      await removeRecord(this.#options.paths.images, id);
      this.#images.delete(id);
      this.#releaseAll(image.devices ?? [], id, []);
      await this.#sweep();
      this.#options.log.info({ image: id }, 'detached');
    });
  }

  status(): { images: ImageStatus[]; devices: DeviceStatus[] } {
    const { paths, blobFs } = this.#options;
    const images = [...this.#images.values()].map(({ record, devices, problem }) => ({
      id: record.id,
      bootstrap: record.bootstrap,
      devices: (devices ?? []).map(({ name }) => join(paths.fuse, name)),
      problem,
    }));
    const devices = [...this.#devices.values()].map(({ name, blob, size, table, handle, users }) => ({
      name,
      blob,
      size,
      chunks: table.length,
      missing: blobFs.missing(handle, 0, table.length).length,
      images: [...users.keys()],
    }));
    return { images, devices };
  }

  /** From the tables that lie in the cache; where one is lost or damaged, from the bootstrap. */
  async #restoreViews(record: ImageRecord): Promise<BlobView[]> {
    try {
      return await Promise.all(record.devices.map((device) => loadView(this.#options.paths.cache, device)));
    } catch (error) {
      const problem = toLacunaError(error).toJSON();
      this.#options.log.warn({ image: record.id, error: problem }, 'a chunk table is lost, reading the bootstrap');
      return await readViews(record, this.#options.sources);
    }
  }

  async #open(record: ImageRecord, views: readonly BlobView[]): Promise<Device[]> {
    const before = this.#images.get(record.id)?.devices ?? [];
    const devices: Device[] = [];
    try {
      for (const view of views) {
        const name = nameOf(view);
        const device = this.#devices.get(name) ?? (await this.#add(name, view));
        // Before anything else is waited for: readers may miss chunks of it from now on.
        device.users.set(record.id, this.#options.sources.of(record.sources, view.id, view.storedSize));
        this.#tellFetcher(device);
        devices.push(device);
      }
    } catch (error) {
      this.#releaseAll(devices, record.id, before);
      throw error;
    }
    return devices;
  }

  async #add(name: string, view: BlobView): Promise<Device> {
    const { paths, blobFs } = this.#options;
    const stores = await makeStores(paths.cache, name);
    await ensureView(paths.cache, view);
    const { id: blob, size, storedSize, table, units } = view;
    const handle = blobFs.addDevice({ name, size, table: table.bytes, units: units?.bytes ?? null, ...stores });
    const device = { name, blob, size, storedSize, table, units, handle, users: new Map() };
    this.#devices.set(name, device);
    return device;
  }

  #tellFetcher(device: Device): void {
    const { blob, table, units, handle } = device;
    const sources = [...device.users.values()].flat();
    this.#options.fetcher.addDevice(handle, { blob, table, units, sources });
  }

  /** Says how many there were that are not `kept`. */
  #releaseAll(devices: readonly Device[], image: string, kept: readonly Device[]): number {
    // A set, since a blob table may name one blob twice.
    const released = new Set(devices.filter((device) => !kept.includes(device)));
    for (const device of released) this.#release(device, image);
    return released.size;
  }

  #release(device: Device, image: string): void {
    device.users.delete(image);
    if (device.users.size > 0) {
      this.#tellFetcher(device);
      return;
    }
    this.#devices.delete(device.name);
    this.#options.fetcher.removeDevice(device.handle);
    this.#options.blobFs.removeDevice(device.handle);
  }

  async #sweep(): Promise<void> {
    const recorded = [...this.#images.values()].flatMap(({ record }) => record.devices.map(({ name }) => name));
    await sweep(this.#options.paths.cache, [...this.#devices.keys(), ...recorded]);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => {});
    return result;
  }
}
