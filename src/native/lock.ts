/**
 * File locks by flock(2): a dead process does not keep one, they work across PID and network namespaces, and only processes
 * that can open the file can hold them.
 */
import { closeSync, constants, fstatSync, ftruncateSync, open as openFile, writeSync } from 'node:fs';
import { lstat, readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { LacunaError, toLacunaError } from '../errors.ts';
import { addon, findAddon } from './addon.ts';

/** Opens a plain descriptor: the garbage collector would close a FileHandle, and the lock would be lost. */
const open = promisify(openFile);

/** Tries to lock an open file; null where locks do not work: without the addon, or on some file systems. */
export function tryFlock(fd: number): boolean | null {
  try {
    return findAddon()?.flock(fd) ?? null;
  } catch (error) {
    if (isWithoutLocks(error)) return null;
    throw error;
  }
}

export const isWithoutLocks = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'UNSUPPORTED';

/** Held until it is closed, or the process ends. */
export interface FileLock {
  readonly fd: number;
  /** Whether the file is this user's. */
  readonly isOwn: boolean;
  /** Idempotent. */
  close(): void;
}

const { O_RDWR, O_RDONLY, O_CREAT, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants;

/**
 * The lock of the file at `path`, which is made (0600) when it is missing; null when another process has it. On a
 * read-only file system an existing file can be locked.
 */
export async function tryLock(path: string): Promise<FileLock | null> {
  try {
    return await lockOpened(await openForLock(path), path);
  } catch (cause) {
    throw toLacunaError(cause, { op: 'lock', subject: path });
  }
}

async function openForLock(path: string): Promise<number> {
  try {
    return await open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EROFS') throw error;
    return await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  }
}

/** The lock of an existing file or directory; null when another process has it, or there is none. No link is followed. */
export async function tryLockExisting(path: string, kind: 'file' | 'directory'): Promise<FileLock | null> {
  const flags = kind === 'file' ? O_RDWR | O_NONBLOCK : O_RDONLY | O_DIRECTORY;
  const fd = await open(path, flags | O_NOFOLLOW).catch(() => null);
  if (fd === null) return null;
  if (kind === 'directory' || fstatSync(fd).isFile()) return await lockOpened(fd, path);
  closeSync(fd);
  return null;
}

/** Null also when `path` is another file by now: the process that held the lock may have deleted the locked one. */
async function lockOpened(fd: number, path: string): Promise<FileLock | null> {
  let isHeld = false;
  try {
    isHeld = addon().flock(fd) && (await isAt(fd, path));
  } finally {
    if (!isHeld) closeSync(fd);
  }
  return isHeld ? lockOf(fd) : null;
}

async function isAt(fd: number, path: string): Promise<boolean> {
  const mine = fstatSync(fd, { bigint: true });
  const there = await lstat(path, { bigint: true }).catch(() => null);
  return there?.ino === mine.ino && there.dev === mine.dev;
}

function lockOf(fd: number): FileLock {
  let isOpen = true;
  return {
    fd,
    isOwn: fstatSync(fd).uid === process.geteuid?.(),
    close: () => {
      if (isOpen) closeSync(fd);
      isOpen = false;
    },
  };
}

/** One process per root and role. `role`: `daemon`, `snapshotter`. LOCKED, naming the process that has it. */
export async function lockFor(role: string, path: string): Promise<FileLock> {
  const lock = await tryLock(path);
  if (lock === null) {
    const owner = (await readFile(path, 'utf8')).trim();
    throw new LacunaError('LOCKED', `another ${role} has this root${owner === '' ? '' : ` (pid ${owner})`}`, {
      op: `start ${role}`,
      subject: path,
      hint: 'stop it, or use another --root',
    });
  }
  writeOwner(lock);
  return lock;
}

/**
 * Writes the process id for users and for `cleanup`. A failure, as on a full disk, is ignored: the lock holds without it. The
 * write overwrites the old content, which needs no new block.
 */
function writeOwner({ fd }: FileLock): void {
  try {
    ftruncateSync(fd, writeSync(fd, `${process.pid}\n`, 0));
  } catch {
    // Readers of the file find no owner.
  }
}
