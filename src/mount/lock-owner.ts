/** Finds the process that holds a lock, and ends it. */
import { readdir, readFile, readlink, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LacunaError, toLacunaError } from '../errors.ts';
import { type FileLock, tryLock } from '../native/lock.ts';

/** How long a process that was asked to end is waited for before it is killed, in milliseconds. */
const GRACE = 3_000;
/** How long the kernel may take to end a killed one. */
const DEATH = 5_000;
const POLL = 20;

/** A lock that this process has taken, and its previous owner. */
export interface HeldLock {
  readonly handle: FileLock;
  /** The process that was ended for it; null when nobody had it. */
  readonly ended: number | null;
}

/** The process that wrote its id into a lock file which it still has open; null when there is none that can be seen. */
export async function lockOwner(path: string): Promise<number | null> {
  const pid = Number((await readFile(path, 'utf8').catch(() => '')).trim());
  if (!Number.isSafeInteger(pid) || pid <= 1) return null;
  const folder = `/proc/${pid}/fd`;
  // The id of a dead process may be another one's by now; a process that ends meanwhile has no files.
  const names = await readdir(folder).catch(() => []);
  const isOpen = await Promise.all(names.map((name) => isSameFile(join(folder, name), path)));
  return isOpen.includes(true) ? pid : null;
}

/** Whether a descriptor leads to the file at `path`, and not to one that is called so in another mount namespace. */
async function isSameFile(descriptor: string, path: string): Promise<boolean> {
  try {
    if ((await readlink(descriptor)) !== path) return false;
    const [there, here] = await Promise.all([stat(descriptor, { bigint: true }), stat(path, { bigint: true })]);
    return there.ino === here.ino && there.dev === here.dev;
  } catch {
    // It is closed by now.
    return false;
  }
}

/**
 * Takes the lock at `path` (absolute, without links) from its owner: `ask` requests the owner's end (null: no request is
 * possible), then come SIGTERM and SIGKILL. Repeated when another process takes the lock first. LOCKED when the owner
 * does not exit.
 */
export async function takeLock(path: string, ask: (() => Promise<void>) | null): Promise<HeldLock> {
  let ended: number | null = null;
  for (let round = 0; round < 3; round++) {
    const free = await tryLock(path);
    if (free !== null) return { handle: free, ended };
    const owner = await lockOwner(path);
    ended = owner ?? ended;
    await ask?.();
    // One without an owner is just starting, or ending.
    const released = ask !== null || owner === null ? await lockWithin(path, GRACE) : null;
    const handle = released ?? (owner === null ? null : await endProcess(owner, path));
    if (handle !== null) return { handle, ended };
  }
  throw new LacunaError('LOCKED', `process ${ended ?? 'unknown'} did not exit`, { op: 'take lock', subject: path });
}

async function endProcess(pid: number, path: string): Promise<FileLock | null> {
  send(pid, 'SIGTERM');
  const handle = await lockWithin(path, GRACE);
  if (handle !== null) return handle;
  send(pid, 'SIGKILL');
  return await lockWithin(path, DEATH);
}

function send(pid: number, signal: 'SIGTERM' | 'SIGKILL'): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH')
      throw toLacunaError(error, { op: signal, subject: `${pid}` });
  }
}

/** The lock, as soon as it is free; null when that takes longer than `patience` milliseconds. */
export async function lockWithin(path: string, patience: number): Promise<FileLock | null> {
  const deadline = performance.now() + patience;
  for (;;) {
    const handle = await tryLock(path);
    if (handle !== null || performance.now() > deadline) return handle;
    await sleep(POLL);
  }
}
