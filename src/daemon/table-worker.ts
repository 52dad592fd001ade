/** The worker thread that reads bootstraps, one after another: `readTables` behind a message port. */
import { on } from 'node:events';
import { parentPort } from 'node:worker_threads';
import type { StoredMeta } from '../cache/blob-metas.ts';
import { toLacunaError } from '../errors.ts';
import { type EncodedTables, readTables, type TableJob } from './read-tables.ts';
import type { MetaAnswer, WorkerMessage } from './worker-tables.ts';

const port = parentPort!;
const send = (message: WorkerMessage, transfer: readonly ArrayBuffer[] = []): void => {
  port.postMessage(message, [...transfer]);
};
const messages = on(port, 'message');
/** The next message: a job, or the answer to the pending request. */
const receive = async <T>(): Promise<T> => {
  const { value } = (await messages.next()) as { value: [T] };
  return value[0];
};

async function fetchMeta(place: MetaRequest['place']): Promise<StoredMeta | null> {
  send({ kind: 'fetch', place });
  const { found, error } = await receive<MetaAnswer>();
  if (error !== null) throw Object.assign(new Error(error.message), { code: error.code });
  return found;
}

async function admit(size: number): Promise<void> {
  send({ kind: 'admit', size });
  await receive<MetaAnswer>();
}

type MetaRequest = Extract<WorkerMessage, { kind: 'fetch' }>;

const buffersOf = (tables: readonly EncodedTables[]): ArrayBuffer[] => {
  const buffers = tables.flatMap(({ table, units }) => [table.buffer, ...(units === null ? [] : [units.buffer])]);
  // Small buffers lie in Node's shared pool, which must not be transferred.
  return buffers.filter((buffer) => buffer.byteLength > Buffer.poolSize) as ArrayBuffer[];
};

async function work(job: TableJob): Promise<void> {
  try {
    const { tables, remember } = await readTables(job, fetchMeta, admit);
    send({ kind: 'tables', tables }, buffersOf(tables));
    await remember();
  } catch (error) {
    send({ kind: 'error', error: toLacunaError(error).toJSON() });
  }
}

for (;;) await work(await receive<TableJob>());
