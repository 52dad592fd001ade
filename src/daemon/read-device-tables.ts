/** The device tables of an image, out of its bootstrap and the chunk info of its blobs. */
import { ChunkTable } from '../blob/table.ts';
import { type DeviceTables, unitTable } from '../cache/device-tables.ts';
import type { ReadTables } from './read-tables.ts';
import type { ImageRecord } from './record.ts';
import type { Sources } from './sources.ts';

const DEFAULT_SILENCE = 1_000;

export interface ReadOptions {
  /** Default: in this thread. */
  readonly read?: ReadTables;
  /** File that remembers which bootstrap was checked; default none. */
  readonly verdict?: string;
  /** Milliseconds after which a source of chunk info counts as silent; default {@link DEFAULT_SILENCE}. */
  readonly silence?: number;
  readonly signal?: AbortSignal;
}

/** The blobs of an image, in the order of its bootstrap. NOT_FOUND, FORMAT or UNSUPPORTED. */
export async function readDeviceTables(
  record: ImageRecord,
  sources: Sources,
  { read, verdict, silence = DEFAULT_SILENCE, ...options }: ReadOptions = {},
): Promise<DeviceTables[]> {
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
