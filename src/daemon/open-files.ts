/** How many blob devices this process can serve before it runs out of file descriptors. */
import { readFile } from 'node:fs/promises';
import { LacunaError } from '../errors.ts';

/** What a device keeps open: `data` and `map` of the blob's shared store and of its own. Equal tables share them. */
const FILES_PER_DEVICE = 4;
/** Left for sockets, connections to registries, and files that are open for a moment. */
const RESERVED_FILES = 128;

/**
 * SYSTEM when `devices` blob devices are more than the limit of open files allows. Counted, not tried: the daemon that
 * takes over from this one needs as many, and readers wait for it.
 */
export async function assertOpenFiles(devices: number, subject: string): Promise<void> {
  const limit = await openFilesLimit();
  const needed = RESERVED_FILES + devices * FILES_PER_DEVICE;
  if (needed <= limit) return;
  throw new LacunaError('SYSTEM', `${devices} blob devices need ${needed} open files, the daemon may have ${limit}`, {
    op: 'attach',
    subject,
    hint: 'raise the limit of who starts the daemon: `ulimit -n`, or LimitNOFILE= of its service',
  });
}

/** The soft limit, which Node raises to the hard one when it starts. */
async function openFilesLimit(): Promise<number> {
  const limits = await readFile('/proc/self/limits', 'utf8');
  const soft = /^Max open files +(\d+)/m.exec(limits)?.[1];
  return soft === undefined ? Number.POSITIVE_INFINITY : Number(soft);
}
