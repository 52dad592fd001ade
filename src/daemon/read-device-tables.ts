/** Reads the device tables of an image from its bootstrap and the chunk info of its blobs. */
import { ChunkTable } from '../blob/table.ts';
import { type DeviceTables, unitTable } from '../cache/device-tables.ts';
import type { ReadTables } from './read-tables.ts';
import type { ImageRecord } from './record.ts';
import type { Sources } from './sources.ts';

const DEFAULT_SILENCE = 1_000;

export interface ReadOptions {
  /** Reads the tables; default: in this thread. */
  readonly read?: ReadTables;
  /** File that records which bootstrap was checked; default none. */
  readonly verdict?: string;
  /** Milliseconds after which a source of chunk info counts as silent; default {@link DEFAULT_SILENCE}. */
  readonly silence?: number;
  readonly signal?: AbortSignal;
}

/** Tables of an image's blob devices, in the order of its blob table. NOT_FOUND, FORMAT or UNSUPPORTED. */
export async function readDeviceTables(
  record: ImageRecord,
  sources: Sources,
  { read, verdict, silence = DEFAULT_SILENCE, ...options }: ReadOptions = {},
): Promise<DeviceTables[]> {
  const { bootstrap, blobIds } = record;
  const readTables = read ?? (await import('./read-tables.ts')).readTablesHere;
  const { metaFetcher } = await import('./meta-fetcher.ts');
  const job = { bootstrap, blobId: blobIds[0] ?? null, verdict: verdict ?? null };
  // Aborts requests to other sources once one source has delivered.
  const done = new AbortController();
  const signal = AbortSignal.any([done.signal, ...(options.signal === undefined ? [] : [options.signal])]);
  const fetch = metaFetcher(record, sources, silence, signal);
  const tables = await readTables(job, fetch, signal).finally(() => done.abort());
  return tables.map((encoded) => {
    const subject = `${bootstrap}, blob ${encoded.id}`;
    const table = new ChunkTable(bufferOf(encoded.table), subject, { isChecked: true });
    const units = unitTable(encoded.units === null ? null : bufferOf(encoded.units), table, subject);
    return { ...encoded, table, units };
  });
}

const bufferOf = ({ buffer, byteOffset, byteLength }: Uint8Array): Buffer =>
  Buffer.from(buffer, byteOffset, byteLength);
