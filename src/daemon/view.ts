/**
 * What one blob is to an image: the chunk table of its device, and the units that chunks lie within. It comes from the
 * bootstrap once; from then on it lies beside the device's cache, so that a daemon that takes over from a dead one has
 * it without parsing bootstraps.
 */
import { createHash } from 'node:crypto';
import { open, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ChunkTable, encodeTable } from '../blob/table.ts';
import { encodeUnits, UnitTable } from '../blob/units.ts';
import { FormatError, LacunaError, toLacunaError } from '../errors.ts';
import { MAX_BOOTSTRAP_SIZE } from '../formats/rafs/limits.ts';
import { folderOf, parseDevice } from './cache.ts';
import { readMetas } from './metas.ts';
import type { ImageRecord, RecordedDevice } from './record.ts';
import type { Sources } from './sources.ts';

export interface BlobView {
  /** Hex sha256 of the blob. */
  readonly id: string;
  /** Bytes of the device file. */
  readonly size: number;
  /** Bytes of the blob as far as they are used. */
  readonly storedSize: number;
  readonly table: ChunkTable;
  /** Null when every chunk is stored alone. May hold keys: never logged. */
  readonly units: UnitTable | null;
}

/** The blobs of an image, in the order of its bootstrap. NOT_FOUND, FORMAT or UNSUPPORTED. */
export async function readViews(record: ImageRecord, sources: Sources): Promise<BlobView[]> {
  const { bootstrap, blobIds } = record;
  const bytes = await readBootstrap(bootstrap);
  const { openBootstrap } = await import('../formats/rafs/open.ts');
  const [blobId] = blobIds;
  const options = { subject: bootstrap, ...(blobId === undefined ? {} : { blobId }) };
  const named = openBootstrap(bytes, options);
  const metas = await readMetas(record, named.blobs, sources);
  const image = metas.size === 0 ? named : openBootstrap(bytes, { ...options, metas });
  return image.blobs.map((blob, index) => {
    const chunks = image.chunksOf(index);
    const subject = `${bootstrap}, blob ${blob.id}`;
    const table = new ChunkTable(encodeTable(chunks), subject);
    const units = unitTable(encodeUnits(chunks), table, subject);
    return { id: blob.id, size: image.deviceSize(index), storedSize: blob.compressedSize, table, units };
  });
}

const unitTable = (bytes: Buffer | null, table: ChunkTable, subject: string): UnitTable | null =>
  bytes === null ? null : new UnitTable(bytes, table.length, subject);

async function readBootstrap(path: string): Promise<Buffer> {
  await using file = await open(path, 'r').catch((cause: unknown) => {
    throw toLacunaError(cause, { op: 'attach', subject: path });
  });
  const { size } = await file.stat();
  if (size <= MAX_BOOTSTRAP_SIZE) return await file.readFile();
  throw new LacunaError('FORMAT', `a bootstrap of ${size} bytes is too large`, { op: 'attach', subject: path });
}

/** What the view's tables are called: `<blob hex>-<table key>`, the key of address space, chunks and units. */
export function nameOf({ id, size, table, units }: BlobView): string {
  // 128 bits, so that no image can be made to meet another's.
  const hash = createHash('sha256').update(table.bytes).update(String(size));
  if (units !== null) hash.update('units').update(units.bytes);
  return `${id}-${hash.digest('hex').slice(0, 32)}`;
}

const pathOf = (cache: string, name: string, part: 'table' | 'units'): string => join(folderOf(cache, name), part);

/** Keeps the view's tables beside the device's cache, whose folder exists; does nothing where they lie already. */
export async function ensureView(cache: string, view: BlobView): Promise<void> {
  const name = nameOf(view);
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
  const view = { id: parseDevice(name).blob, size, storedSize, table, units };
  if (!name.startsWith(`${nameOf(view)}-`))
    throw new FormatError('chunk table', 'is not the one it should be', { subject });
  return view;
}
