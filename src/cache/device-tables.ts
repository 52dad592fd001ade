/**
 * Chunk and unit tables of one blob device. They are read from the bootstrap once and saved beside the device's cache, so
 * that a daemon that takes over from a dead one does not parse bootstraps.
 */
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ChunkTable } from '../blob/table.ts';
import { UnitTable } from '../blob/units.ts';
import { FormatError, toLacunaError } from '../errors.ts';
import { folderOf, parseDevice, tablesName } from './layout.ts';

export interface DeviceTables {
  /** Hex sha256 of the blob. */
  readonly id: string;
  /** Name of the tables: `<blob hex>-<table key>`. */
  readonly name: string;
  /** Bytes of the device file. */
  readonly size: number;
  /** Bytes of the blob as far as they are used. */
  readonly storedSize: number;
  readonly table: ChunkTable;
  /** Null when every chunk is stored alone. May hold keys: never logged. */
  readonly units: UnitTable | null;
}

/** A device as a record describes it. */
export interface StoredDevice {
  /** `<blob hex>-<table key>-<node, hex>` */
  readonly name: string;
  /** Bytes of the device file. */
  readonly size: number;
  /** Bytes of the blob as far as they are used. */
  readonly storedSize: number;
}

export const unitTable = (bytes: Buffer | null, table: ChunkTable, subject: string): UnitTable | null =>
  bytes === null ? null : new UnitTable(bytes, table.length, subject);

const nameOf = ({ id, size, table, units }: Pick<DeviceTables, 'id' | 'size' | 'table' | 'units'>): string =>
  tablesName(id, size, table.bytes, units?.bytes ?? null);

const pathOf = (cache: string, name: string, part: 'table' | 'units'): string => join(folderOf(cache, name), part);

/** Saves the tables beside the device's cache, whose folder must exist. Does nothing where they are saved already. */
export async function saveTables(cache: string, tables: DeviceTables): Promise<void> {
  const { name } = tables;
  if (tables.units !== null) await ensureFile(pathOf(cache, name, 'units'), tables.units.bytes);
  await ensureFile(pathOf(cache, name, 'table'), tables.table.bytes);
}

async function ensureFile(path: string, bytes: Buffer): Promise<void> {
  const kept = await readFile(path).catch(() => null);
  if (kept?.equals(bytes)) return;
  await writeFile(`${path}.tmp`, bytes, { mode: 0o600, flush: true });
  await rename(`${path}.tmp`, path);
}

/** Loads tables that {@link saveTables} saved. NOT_FOUND, or FORMAT when they do not match the device's name. */
export async function loadTables(cache: string, { name, size, storedSize }: StoredDevice): Promise<DeviceTables> {
  const subject = pathOf(cache, name, 'table');
  const bytes = await readFile(subject).catch((cause: unknown) => {
    throw toLacunaError(cause, { op: 'attach', subject });
  });
  const table = new ChunkTable(bytes, subject);
  // The name of the tables shows below whether units are missing.
  const units = unitTable(await readFile(pathOf(cache, name, 'units')).catch(() => null), table, subject);
  const { blob: id, table: key } = parseDevice(name);
  const tables = nameOf({ id, size, table, units });
  if (tables !== `${id}-${key}`) {
    throw new FormatError('chunk table', 'does not match the name of the device', { subject });
  }
  return { id, name: tables, size, storedSize, table, units };
}
