/**
 * One writer at a time for the index of a layout, between processes as well: a lock on a file among the layout's unfinished
 * ones, which only who may write there can open. It goes with the last one of them.
 */
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isLacunaError, LacunaError } from '../errors.ts';
import { makeDirectory } from '../make-directory.ts';
import { findAddon } from '../native/addon.ts';
import { type FileLock, tryLock } from '../native/lock.ts';
import { hasCode, removeTemporary, temporaryPath } from './layout-temporary.ts';

/** Milliseconds. A holder reads, changes and renames one small file. */
const PATIENCE = 10_000;
const PAUSE = 10;

/** The last of this process to hold or to wait for each directory's lock: without the native addon it is all there is. */
const queues = new Map<string, Promise<unknown>>();

/** Runs `work` while nobody else does for the same directory. Throws LOCKED after 10 s. */
export async function withLayoutLock<T>(dir: string, work: () => Promise<T>): Promise<T> {
  const { dev, ino } = await stat(dir, { bigint: true });
  const name = `${dev}-${ino}`;
  const before = queues.get(name) ?? Promise.resolve();
  const mine = before.then(() => (findAddon() === null ? work() : locked(dir, work)));
  const settled = mine.catch(() => {});
  queues.set(name, settled);
  try {
    return await mine;
  } finally {
    if (queues.get(name) === settled) queues.delete(name);
  }
}

async function locked<T>(dir: string, work: () => Promise<T>): Promise<T> {
  const path = temporaryPath(dir, 'index.lock');
  const lock = await waitFor(path, dir);
  try {
    return await work();
  } finally {
    // First the file: nobody else has this one then.
    await removeTemporary(path);
    lock.close();
  }
}

async function waitFor(path: string, dir: string): Promise<FileLock> {
  const deadline = performance.now() + PATIENCE;
  for (;;) {
    const lock = await lockIn(path);
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

/** Null while somebody else has it: another user's lock cannot even be opened, and its folder may just have gone. */
async function lockIn(path: string): Promise<FileLock | null> {
  try {
    await makeDirectory(dirname(path));
    return await tryLock(path);
  } catch (error) {
    if (hasCode(error, 'ENOENT') || (isLacunaError(error) && isHeld(error))) return null;
    throw error;
  }
}

const isHeld = ({ code }: LacunaError): boolean => code === 'NOT_FOUND' || code === 'FORBIDDEN';
