/**
 * The attached images and their blob devices. Each image has devices of its own, which use its own sources and budgets.
 * Devices of one blob share its store, and those with equal tables share the tables in memory. Changes run one after
 * another; bootstraps are read concurrently.
 */
import { join } from 'node:path';
import { type DeviceTables, loadTables, type StoredDevice, saveTables } from '../cache/device-tables.ts';
import { makeStores, newName, parseDevice, sweep } from '../cache/layout.ts';
import { LacunaError, toLacunaError } from '../errors.ts';
import type { Fetcher } from '../fetch/fetcher.ts';
import type { BlobFs } from '../native/addon.ts';
import { errorRow, type Log } from '../observe/log.ts';
import type { AttachRequest, DeviceStatus, ImageStatus } from './api.ts';
import { assertOpenFiles } from './open-files.ts';
import { readDeviceTables } from './read-device-tables.ts';
import type { ReadTables } from './read-tables.ts';
import { type ImageRecord, recordOf } from './record.ts';
import { readRecords, removeRecord, verdictPath, writeRecord } from './record-folder.ts';
import type { RootPaths } from './root.ts';
import type { Sources } from './sources.ts';
import { Turns } from './turns.ts';

interface Device {
  /** Name of the device, which belongs to one image alone. */
  readonly name: string;
  readonly tables: DeviceTables;
  readonly handle: number;
}

interface Attached {
  /** Null when the record is damaged. */
  readonly record: ImageRecord | null;
  /** Device names that the kernel may know from an earlier process; they stay reserved for this image. */
  readonly recorded: readonly string[];
  readonly devices: readonly Device[];
  /** Why it could not be attached after a restart. */
  readonly problem: LacunaError | null;
}

export interface ImagesOptions {
  readonly paths: RootPaths;
  readonly blobFs: BlobFs;
  readonly fetcher: Fetcher;
  readonly sources: Sources;
  readonly log: Log;
  /** Reads bootstraps; default: in this thread. */
  readonly readTables?: ReadTables;
  /** Milliseconds after which a source counts as silent. */
  readonly silence?: number;
}

export class Images {
  readonly #options: ImagesOptions;
  readonly #images = new Map<string, Attached>();
  /** Devices of all images, by name. */
  readonly #devices = new Map<string, Device>();
  readonly #turns = new Turns();

  constructor(options: ImagesOptions) {
    this.#options = options;
  }

  /** Attaches all recorded images. One that fails keeps its cache, and status reports its problem. */
  async restore(): Promise<void> {
    const { paths, log } = this.#options;
    const { good, damaged } = await readRecords(paths.images);
    for (const { id, devices, error } of damaged) this.#setProblem(id, null, devices, error);
    for (const record of good) {
      await this.#restore(record).catch((error: unknown) => {
        const recorded = record.devices.map(({ name }) => name);
        this.#setProblem(record.id, record, recorded, toLacunaError(error));
      });
    }
    // Readers wait for the restore. A failed deletion is retried when an image is attached or detached.
    await this.#sweep().catch((error: unknown) => {
      log.warn(
        { error: errorRow(error) },
        'could not delete unused parts of the cache; the next attach or detach retries',
      );
    });
  }

  async #restore(before: ImageRecord): Promise<void> {
    const { paths, log } = this.#options;
    const devices = await this.#open(before, await this.#restoreTables(before));
    const record = this.#setAttached(before, devices);
    const isSame = devices.every(({ name }, index) => name === before.devices[index]?.name);
    if (isSame) return;
    // The record had version 1. Without a record of the new names the next process would choose others.
    await writeRecord(paths.images, record).catch((error: unknown) => {
      log.warn(
        { image: record.id, error: errorRow(error) },
        'could not record the names of the devices; the next daemon chooses others',
      );
    });
  }

  #setAttached(request: ImageRecord, devices: readonly Device[]): ImageRecord {
    const record = { ...request, devices: devices.map(recordedOf) };
    this.#images.set(record.id, { record, recorded: record.devices.map(({ name }) => name), devices, problem: null });
    return record;
  }

  #setProblem(id: string, record: ImageRecord | null, recorded: readonly string[], problem: LacunaError): void {
    this.#options.log.error(
      { image: id, error: errorRow(problem) },
      'could not attach an image again: reads of it fail until it is attached anew',
    );
    this.#images.set(id, { record, recorded, devices: [], problem });
  }

  /** Paths of the device files, in blob table order. */
  async attach(request: AttachRequest, signal?: AbortSignal): Promise<string[]> {
    const requested = recordOf(request);
    const { id } = requested;
    return await this.#turns.ofImage(id, async () => {
      try {
        // Other images do not wait while a large bootstrap is read.
        const tables = await this.#readTables(requested, signal);
        return await this.#turns.ofAll(() => this.#attach(requested, tables));
      } catch (error) {
        if (!this.#images.has(id)) await removeRecord(this.#options.paths.images, id);
        await this.#closeUnused(id);
        throw error;
      }
    });
  }

  async #attach(request: ImageRecord, tables: readonly DeviceTables[]): Promise<string[]> {
    const { paths, log } = this.#options;
    const previous = this.#images.get(request.id);
    const before = previous?.devices ?? [];
    await assertOpenFiles([...this.#devices.keys(), ...tables.map(({ name }) => name)], request.id);
    const devices = await this.#open(request, tables);
    const record = { ...request, devices: devices.map(recordedOf) };
    try {
      await writeRecord(paths.images, record);
    } catch (error) {
      this.#releaseAll(devices, before);
      // Devices that stay use the recorded sources again.
      if (previous?.record) for (const device of before) this.#addToFetcher(previous.record, device);
      throw error;
    }
    this.#setAttached(record, devices);
    const released = this.#releaseAll(before, devices);
    await this.#closeUnused(record.id);
    if (released > 0 || previous?.record === null) await this.#sweep();
    log.info({ image: record.id, devices: devices.length }, 'attached');
    return devices.map((device) => join(paths.fuse, device.name));
  }

  /** Detaches an image. NOT_FOUND for an unknown id. */
  detach(id: string): Promise<void> {
    return this.#turns.ofImage(id, () => this.#turns.ofAll(() => this.#detach(id)));
  }

  async #detach(id: string): Promise<void> {
    const image = this.#images.get(id);
    if (image === undefined)
      throw new LacunaError('NOT_FOUND', 'the image is not attached', { op: 'detach', subject: id });
    await removeRecord(this.#options.paths.images, id);
    this.#images.delete(id);
    this.#releaseAll(image.devices, []);
    await this.#closeUnused(id);
    await this.#sweep();
    this.#options.log.info({ image: id }, 'detached');
  }

  status(): { images: ImageStatus[]; devices: DeviceStatus[] } {
    const { paths, blobFs } = this.#options;
    const images = [...this.#images].map(([id, { record, devices, problem }]) => ({
      id,
      bootstrap: record?.bootstrap ?? '',
      devices: devices.map(({ name }) => join(paths.fuse, name)),
      problem: problem?.message ?? '',
      hint: problem?.hint ?? '',
    }));
    const devicesOf = ([image, { devices }]: [string, Attached]): DeviceStatus[] =>
      [...new Set(devices)].map(({ name, handle, tables: { id, size, table } }) => ({
        name,
        blob: id,
        size,
        chunks: table.length,
        missing: blobFs.missing(handle, 0, table.length).length,
        images: [image],
      }));
    return { images, devices: [...this.#images].flatMap(devicesOf) };
  }

  /** Loads the tables from the cache; where one is missing or damaged, reads all of them from the bootstrap. */
  async #restoreTables(record: ImageRecord): Promise<DeviceTables[]> {
    try {
      return await Promise.all(record.devices.map((device) => loadTables(this.#options.paths.cache, device)));
    } catch (error) {
      const problem = errorRow(error);
      this.#options.log.warn(
        { image: record.id, error: problem },
        'could not load a chunk table from the cache, reading the bootstrap instead',
      );
      return await this.#readTables(record);
    }
  }

  #readTables(record: ImageRecord, signal?: AbortSignal): Promise<DeviceTables[]> {
    const { paths, sources, readTables, silence } = this.#options;
    return readDeviceTables(record, sources, {
      verdict: verdictPath(paths.images, record.id),
      ...(readTables === undefined ? {} : { read: readTables }),
      ...(silence === undefined ? {} : { silence }),
      ...(signal === undefined ? {} : { signal }),
    });
  }

  async #open(record: ImageRecord, tables: readonly DeviceTables[]): Promise<Device[]> {
    const previous = this.#images.get(record.id);
    const before = previous?.devices ?? [];
    const recorded = [...record.devices.map(({ name }) => name), ...(previous?.recorded ?? [])];
    const devices: Device[] = [];
    try {
      for (const one of tables) {
        // A blob table may name one blob twice.
        const mine = [...devices, ...before].find(({ name }) => hasTables(name, one.name));
        // The kernel may know the device by the name that was recorded.
        const free = (old: string): boolean => hasTables(old, one.name) && !this.#devices.has(old);
        const name = recorded.find(free) ?? newName(one.name, this.#names());
        const device = mine ?? (await this.#add(record.id, name, one));
        // Comes before any other await: readers may miss chunks of the device from now on.
        this.#addToFetcher(record, device);
        devices.push(device);
      }
    } catch (error) {
      this.#releaseAll(devices, before);
      throw error;
    }
    return devices;
  }

  async #add(image: string, name: string, tables: DeviceTables): Promise<Device> {
    const { paths, blobFs } = this.#options;
    const stores = await makeStores(paths.cache, name);
    await saveTables(paths.cache, tables);
    const twin = [...this.#devices.values()].find((device) => hasTables(device.name, tables.name));
    const { table, units } = twin?.tables ?? tables;
    const { size } = tables;
    const { node } = parseDevice(name);
    const handle = blobFs.addDevice({
      ...{ name, node, image, size, table: table.bytes, units: units?.bytes ?? null },
      ...stores,
    });
    const device = { name, tables: { ...tables, table, units }, handle };
    this.#devices.set(name, device);
    return device;
  }

  #addToFetcher({ id: image, sources }: ImageRecord, { handle, tables }: Device): void {
    const { id: blob, storedSize, table, units } = tables;
    const places = this.#options.sources.of({ id: image, sources }, blob, storedSize);
    this.#options.fetcher.addDevice(handle, { image, blob, table, units, sources: places });
  }

  /** Releases the devices that are not in `kept`; returns their number. */
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

  /** Closes connections to sources that the image does not have, or no longer has. */
  #closeUnused(image: string): Promise<void> {
    return this.#options.sources.retain(image, this.#images.get(image)?.record?.sources ?? []);
  }

  /** Names of all devices, also of those that could not be added after a restart. */
  #names(): string[] {
    return [...this.#devices.keys(), ...[...this.#images.values()].flatMap(({ recorded }) => recorded)];
  }

  /** Deletes cache folders that no image needs. Deletes nothing while a record is damaged: its image may need them. */
  async #sweep(): Promise<void> {
    if ([...this.#images.values()].some(({ record }) => record === null)) return;
    await sweep(this.#options.paths.cache, this.#names());
  }
}

const recordedOf = ({ name, tables: { size, storedSize } }: Device): StoredDevice => ({ name, size, storedSize });

/** Whether the device `name` has the tables of this name. */
const hasTables = (name: string, tables: string): boolean => name.startsWith(`${tables}-`);
