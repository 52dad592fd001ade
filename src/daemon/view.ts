/**
 * What one blob is to an image: the chunk table of its device, and the units that chunks lie within. It comes from the
 * bootstrap once; from then on it lies beside the device's cache, so that a daemon that takes over from a dead one has
 * it without parsing bootstraps.
 */
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ChunkTable } from '../blob/table.ts';
import { UnitTable } from '../blob/units.ts';
import { FormatError, toLacunaError } from '../errors.ts';
import { folderOf, parseDevice, tablesName } from './cache.ts';
import type { ReadTables } from './read-tables.ts';
import type { ImageRecord, RecordedDevice } from './record.ts';
import type { Sources } from './sources.ts';

export interface BlobView {
  /** Hex sha256 of the blob. */
  readonly id: string;
  /** What its tables are called: `<blob hex>-<table key>`. */
  readonly name: string;
  /** Bytes of the device file. */
  readonly size: number;
  /** Bytes of the blob as far as they are used. */
  readonly storedSize: number;
  readonly table: ChunkTable;
  /** Null when every chunk is stored alone. May hold keys: never logged. */
  readonly units: UnitTable | null;
}

const DEFAULT_SILENCE = 1_000;

export interface ViewOptions {
  /** Default: in this thread. */
  readonly read?: ReadTables;
  /** File that remembers which bootstrap was checked; default none. */
  readonly verdict?: string;
  /** Milliseconds after which a source of chunk info counts as silent; default {@link DEFAULT_SILENCE}. */
  readonly silence?: number;
  readonly signal?: AbortSignal;
}

/** The blobs of an image, in the order of its bootstrap. NOT_FOUND, FORMAT or UNSUPPORTED. */
export async function readViews(
  record: ImageRecord,
  sources: Sources,
  { read, verdict, silence = DEFAULT_SILENCE, ...options }: ViewOptions = {},
): Promise<BlobView[]> {
  const { bootstrap, blobIds } = record;
  const readTables = read ?? (await import('./read-tables.ts')).readTablesHere;
  const { metaFetcher } = await import('./meta-fetcher.ts');
  const job = { bootstrap, blobId: blobIds[0] ?? null, verdict: verdict ?? null };
  // Ends what is still asked of others when one source has delivered.
  const done = new AbortController();
  const signal = AbortSignal.any([done.signal, ...(options.signal === undefined ? [] : [options.signal])]);
  const fetch = metaFetcher(record, sources, silence, signal);
  const tables = await readTables(job, fetch, signal).finally(() => done.abort());
  return tables.map((found) => {
    const subject = `${bootstrap}, blob ${found.id}`;
    const table = new ChunkTable(bufferOf(found.table), subject, { isChecked: true });
    const units = unitTable(found.units === null ? null : bufferOf(found.units), table, subject);
    return { ...found, table, units };
  });
}

const bufferOf = ({ buffer, byteOffset, byteLength }: Uint8Array): Buffer =>
  Buffer.from(buffer, byteOffset, byteLength);

const unitTable = (bytes: Buffer | null, table: ChunkTable, subject: string): UnitTable | null =>
  bytes === null ? null : new UnitTable(bytes, table.length, subject);

/** What a view's tables are called. */
const nameOf = ({ id, size, table, units }: Pick<BlobView, 'id' | 'size' | 'table' | 'units'>): string =>
  tablesName(id, size, table.bytes, units?.bytes ?? null);

const pathOf = (cache: string, name: string, part: 'table' | 'units'): string => join(folderOf(cache, name), part);

/** Keeps the view's tables beside the device's cache, whose folder exists; does nothing where they lie already. */
export async function ensureView(cache: string, view: BlobView): Promise<void> {
  const { name } = view;
  if (view.units !== null) await ensureFile(pathOf(cache, name, 'units'), view.units.bytes);
  await ensureFile(pathOf(cache, name, 'table'), view.table.bytes);
}

async function ensureFile(path: string, bytes: Buffer): Promise<void> {
  const kept = await readFile(path).catch(() => null);
  if (kept?.equals(bytes)) return;
  await writeFile(`${path}.tmp`, bytes, { mode: 0o600, flush: true });
  await rename(`${path}.tmp`, path);
}

/** What {@link ensureView} kept. NOT_FOUND, or FORMAT when it is not what the device is named after. */
export async function loadView(cache: string, { name, size, storedSize }: RecordedDevice): Promise<BlobView> {
  const subject = pathOf(cache, name, 'table');
  const bytes = await readFile(subject).catch((cause: unknown) => {
    throw toLacunaError(cause, { op: 'attach', subject });
  });
  const table = new ChunkTable(bytes, subject);
  // Where there should be some and are none, the name tells.
  const units = unitTable(await readFile(pathOf(cache, name, 'units')).catch(() => null), table, subject);
  const { blob: id, table: key } = parseDevice(name);
  const tables = nameOf({ id, size, table, units });
  if (tables !== `${id}-${key}`) {
    throw new FormatError('chunk table', 'is not the one it should be', { subject });
  }
  return { id, name: tables, size, storedSize, table, units };
}
