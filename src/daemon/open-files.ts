/** Open files that the stores of blob devices need, and the limit of this process. */
import { readFile } from 'node:fs/promises';
import { parseDevice } from '../cache/layout.ts';
import { LacunaError } from '../errors.ts';

/** `data` and `map` of a store. */
const FILES_PER_STORE = 2;
/** Reserved for sockets, connections to registries, and files that are open for a moment. */
const RESERVED_FILES = 128;

/**
 * SYSTEM when the stores of all `devices` (names) need more open files than the limit allows. Files are counted, not opened:
 * the daemon that takes over from this one needs as many, and readers wait for it.
 */
export async function assertOpenFiles(devices: Iterable<string>, subject: string): Promise<void> {
  const limit = await openFilesLimit();
  const needed = RESERVED_FILES + storesOf(devices).size * FILES_PER_STORE;
  if (needed <= limit) return;
  throw new LacunaError('SYSTEM', `all images together need ${needed} open files, the daemon may open ${limit}`, {
    op: 'attach',
    subject,
    hint: 'raise the limit of the process that starts the daemon: `ulimit -n`, or LimitNOFILE= of its service',
  });
}

/** Stores: one for each blob, and one for each of its chunk tables. */
function storesOf(devices: Iterable<string>): ReadonlySet<string> {
  const tables = [...devices].map(parseDevice);
  return new Set(tables.flatMap(({ blob, table }) => [blob, `${blob}-${table}`]));
}

/** The soft limit, which Node raises to the hard one when it starts. */
async function openFilesLimit(): Promise<number> {
  const limits = await readFile('/proc/self/limits', 'utf8');
  const soft = /^Max open files +(\d+)/m.exec(limits)?.[1];
  return soft === undefined ? Number.POSITIVE_INFINITY : Number(soft);
}
