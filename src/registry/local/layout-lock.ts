/**
 * The lock of a layout's index, within and between processes: a lock on a file in the layout's folder of unfinished
 * files, which only users who may write there can open. The file is removed with the last unfinished one. Where files
 * cannot be locked, a name of an abstract socket of Linux takes its place.
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

/** Maximum milliseconds to wait for the lock, whose holder reads, changes and renames one small file. */
const TIMEOUT = 10_000;
/** Minimum milliseconds between two tries. */
const PAUSE = 10;

/** The end of the queue for each directory's lock in this process. */
const queues = new Map<string, Promise<unknown>>();

/** Runs `work` with the directory's lock. LOCKED when another process holds it for more than {@link TIMEOUT}. */
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

/** A lock that is held until it is closed. */
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
  const deadline = performance.now() + TIMEOUT;
  for (;;) {
    const lock = findAddon() === null ? await tryName(name) : await lockIn(path, name);
    if (lock !== null) return lock;
    if (performance.now() >= deadline) {
      throw new LacunaError('LOCKED', `the index of ${dir} is being written by another process`, {
        op: 'push',
        subject: dir,
        hint: `if no process writes there, a killed process of another user may have left ${path}: delete it`,
      });
    }
    await sleep(PAUSE * (1 + Math.random()));
  }
}

/**
 * Takes the lock; null while another process has it, or its folder was just removed. FORBIDDEN in a read-only folder.
 */
async function lockIn(path: string, name: string): Promise<IndexLock | null> {
  try {
    await makeDirectory(dirname(path));
    const lock = await tryLock(path);
    if (lock === null) return null;
    return {
      async close() {
        // The file is removed first, while no other process can hold its lock.
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

/** Whether another user holds the lock: the file cannot be opened then, although the folder may be written to. */
async function isHeld({ code }: LacunaError, path: string): Promise<boolean> {
  if (code !== 'FORBIDDEN') return code === 'NOT_FOUND';
  return await access(dirname(path), constants.W_OK | constants.X_OK).then(
    () => true,
    () => false,
  );
}
