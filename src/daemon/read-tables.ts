/**
 * Reads the tables of an image's blob devices from its bootstrap. The bootstrap is checked first, since the kernel is going
 * to mount it. It is not trusted and may be large, so `table-worker.ts` does this in a thread of its own.
 */
import { createHash } from 'node:crypto';
import { open, readFile, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ChunkTable, encodeTable } from '../blob/table.ts';
import { encodeUnits } from '../blob/units.ts';
import { type FetchMeta, type MetaSources, readMetas } from '../cache/blob-metas.ts';
import { tablesName } from '../cache/layout.ts';
import { metasBeside } from '../cache/metas-beside.ts';
import { LacunaError, toLacunaError } from '../errors.ts';
import { MAX_BOOTSTRAP_SIZE } from '../formats/rafs/limits.ts';
import { openBootstrap, type RafsImage } from '../formats/rafs/open.ts';
import { checkStructure } from '../formats/rafs/structure.ts';
import { codec } from '../native/codec.ts';

export interface TableJob {
  /** Path of the bootstrap. */
  readonly bootstrap: string;
  /** Hex id of the blob that the bootstrap was taken out of; null when it names its blobs itself. */
  readonly blobId: string | null;
  /** File that records which bootstrap was checked before; null: the bootstrap is always checked. */
  readonly verdict: string | null;
}

/** {@link DeviceTables} of one blob device without objects, so that they can be sent to another thread. */
export interface EncodedTables {
  /** Hex sha256 of the blob. */
  readonly id: string;
  readonly name: string;
  readonly size: number;
  readonly storedSize: number;
  readonly table: Uint8Array;
  readonly units: Uint8Array | null;
}

export type ReadTables = (job: TableJob, fetch: FetchMeta, signal: AbortSignal) => Promise<EncodedTables[]>;

/** Version of the check: increased whenever {@link checkStructure} refuses more than before. */
const CHECK_VERSION = 1;

/** Returns the tables in the order of the blob table. `remember` records the check; it is called once they are sent. */
export async function readTables(
  { bootstrap, blobId, verdict }: TableJob,
  fetch: FetchMeta,
  admit?: MetaSources['admit'],
): Promise<{ tables: EncodedTables[]; remember: () => Promise<void> }> {
  const bytes = await readBootstrap(bootstrap);
  const options = { subject: bootstrap, ...(blobId === null ? {} : { blobId }) };
  const named = openBootstrap(bytes, options);
  const wasChecked = verdict !== null && (await readFile(verdict, 'utf8').catch(() => '')) === verdictOn(bytes);
  if (!wasChecked) checkStructure(bytes, named.superblock, named.blobs.length, bootstrap);
  const metas = await readMetas(
    named.blobs,
    { kept: metasBeside(dirname(bootstrap)), fetch, ...(admit && { admit }), subject: bootstrap },
    codec(),
  );
  const image = metas.size === 0 ? named : openBootstrap(bytes, { ...options, metas });
  const tables = image.blobs.map((_, index) => tablesOf(image, index, bootstrap));
  const remember = async (): Promise<void> => {
    // A failed write is harmless: the next attachment checks again.
    if (verdict !== null && !wasChecked) await writeFile(verdict, verdictOn(bytes), { mode: 0o600 }).catch(() => {});
  };
  return { tables, remember };
}

/** {@link readTables} in this thread. */
export const readTablesHere: ReadTables = async (job, fetch) => {
  const { tables, remember } = await readTables(job, fetch);
  await remember();
  return tables;
};

const verdictOn = (bytes: Buffer): string => `${CHECK_VERSION} ${createHash('sha256').update(bytes).digest('hex')}\n`;

function tablesOf(image: RafsImage, index: number, subject: string): EncodedTables {
  const blob = image.blobs[index]!;
  const chunks = image.chunksOf(index);
  const size = image.deviceSize(index);
  const table = encodeTable(chunks);
  const units = encodeUnits(chunks);
  // The constructor checks the table.
  new ChunkTable(table, `${subject}, blob ${blob.id}`);
  const name = tablesName(blob.id, size, table, units);
  return { id: blob.id, name, size, storedSize: blob.compressedSize, table, units };
}

async function readBootstrap(path: string): Promise<Buffer> {
  await using file = await open(path, 'r').catch((cause: unknown) => {
    throw toLacunaError(cause, { op: 'attach', subject: path });
  });
  const { size } = await file.stat();
  if (size <= MAX_BOOTSTRAP_SIZE) return await file.readFile();
  throw new LacunaError('FORMAT', `the bootstrap has ${size} bytes, more than ${MAX_BOOTSTRAP_SIZE}`, {
    op: 'attach',
    subject: path,
  });
}
