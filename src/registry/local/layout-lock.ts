/**
 * One writer at a time for the index of a layout, between processes as well: a lock on a file among the layout's unfinished
 * ones, which only who may write there can open. It goes with the last one of them. Where there are no such locks, a name
 * of Linux's abstract sockets takes its place.
 */
import { access, constants, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isLacunaError, LacunaError } from '../../errors.ts';
import { makeDirectory } from '../../make-directory.ts';
import { findAddon } from '../../native/addon.ts';
import { isWithoutLocks, tryLock } from '../../native/lock.ts';
import { hasCode, removeTemporary, temporaryPath } from './layout-temporary.ts';
import { tryName } from './name-lock.ts';

/** Milliseconds. A holder reads, changes and renames one small file. */
const PATIENCE = 10_000;
const PAUSE = 10;

/** The last of this process to hold or to wait for each directory's lock. */
const queues = new Map<string, Promise<unknown>>();

/** Runs `work` while nobody else does for the same directory. Throws LOCKED after 10 s. */
export async function withLayoutLock<T>(dir: string, work: () => Promise<T>): Promise<T> {
  const { dev, ino } = await stat(dir, { bigint: true });
  const name = `${dev}-${ino}`;
  const before = queues.get(name) ?? Promise.resolve();
  const mine = before.then(() => locked(dir, `lacuna-layout-${name}`, work));
  const settled = mine.catch(() => {});
  queues.set(name, settled);
  try {
    return await mine;
  } finally {
    if (queues.get(name) === settled) queues.delete(name);
  }
}

/** Held until it is closed. */
interface IndexLock {
  close(): Promise<void>;
}

async function locked<T>(dir: string, name: string, work: () => Promise<T>): Promise<T> {
  const lock = await waitFor(dir, name);
  try {
    return await work();
  } finally {
    await lock.close();
  }
}

async function waitFor(dir: string, name: string): Promise<IndexLock> {
  const path = temporaryPath(dir, 'index.lock');
  const deadline = performance.now() + PATIENCE;
  for (;;) {
    const lock = findAddon() === null ? await tryName(name) : await lockIn(path, name);
    if (lock !== null) return lock;
    if (performance.now() >= deadline) {
      throw new LacunaError('LOCKED', `the index of ${dir} is being written by another process`, {
        op: 'push',
        subject: dir,
        hint: `if nobody writes there, a killed process of another user may have left ${path}`,
      });
    }
    await sleep(PAUSE * (1 + Math.random()));
  }
}

/** Null while somebody else has it, or its directory has just gone. FORBIDDEN where we may not write. */
async function lockIn(path: string, name: string): Promise<IndexLock | null> {
  try {
    await makeDirectory(dirname(path));
    const lock = await tryLock(path);
    if (lock === null) return null;
    return {
      async close() {
        // First the file: nobody else has this one then.
        await removeTemporary(path);
        lock.close();
      },
    };
  } catch (error) {
    if (isWithoutLocks(error)) {
      await removeTemporary(path);
      return await tryName(name);
    }
    if (hasCode(error, 'ENOENT') || (isLacunaError(error) && (await isHeld(error, path)))) return null;
    throw error;
  }
}

/** Another user's lock cannot be opened; in a directory that we may write to, it goes when its work is done. */
async function isHeld({ code }: LacunaError, path: string): Promise<boolean> {
  if (code !== 'FORBIDDEN') return code === 'NOT_FOUND';
  return await access(dirname(path), constants.W_OK | constants.X_OK).then(
    () => true,
    () => false,
  );
}
