/**
 * Unfinished files of a layout, in a folder beside `blobs`, so that no reader takes one for a blob. Each is locked
 * while it is written: a file without a lock was left by a killed process, in whatever namespaces that ran.
 */
import { randomUUID } from 'node:crypto';
import { type FileHandle, open, readdir, rename, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeDirectory } from '../../make-directory.ts';
import { findAddon } from '../../native/addon.ts';
import { type FileLock, isWithoutLocks, tryLockExisting } from '../../native/lock.ts';
import { type OpenDirectory, openDirectory } from '../../open-file.ts';

const FOLDER = '.lacuna-tmp';
/** Names of the files that this module makes; no others are removed. */
const NAME = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$|^index\.lock$/;

/** Maximum tries: another writer may remove the folder before it is used, or the file before it is locked. */
const MAX_TRIES = 100;
/**
 * Lock where files cannot be locked: without the native addon, and on some network file systems, where none is swept.
 */
const NO_LOCK: FileLock = { fd: -1, isOwn: false, close: () => {} };

export const hasCode = (error: unknown, code: string): boolean =>
  error instanceof Error && 'code' in error && error.code === code;

/** The path of an unfinished file of the layout `dir`. */
export const temporaryPath = (dir: string, name: string): string => join(dir, FOLDER, name);

/** An unfinished file. Disposing of it removes it, unless it was committed. */
export class Temporary implements AsyncDisposable {
  readonly path: string;
  readonly file: FileHandle;
  readonly #lock: FileLock;

  private constructor(path: string, file: FileHandle, lock: FileLock) {
    this.path = path;
    this.file = file;
    this.#lock = lock;
  }

  /** Creates an empty file in the layout `dir`. */
  static async create(dir: string): Promise<Temporary> {
    for (let tries = 1; ; tries++) {
      const path = temporaryPath(dir, `${findAddon() === null ? 'unlocked-' : ''}${randomUUID()}`);
      try {
        const file = await createIn(path);
        const lock = await lockOf(path, file);
        if (lock !== null) return new Temporary(path, file, lock);
        await file.close();
      } catch (error) {
        if (tries === MAX_TRIES || !hasCode(error, 'ENOENT')) throw error;
      }
    }
  }

  /** Renames the file to `target`, which other processes see complete or not at all. */
  async commitAs(target: string): Promise<void> {
    // A network file system reports failed writes here.
    await this.file.close();
    await rename(this.path, target);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.file.close();
    await removeTemporary(this.path);
    this.#lock.close();
  }
}

async function lockOf(path: string, file: FileHandle): Promise<FileLock | null> {
  if (findAddon() === null) return NO_LOCK;
  try {
    return await tryLockExisting(path, 'file');
  } catch (error) {
    if (isWithoutLocks(error)) return NO_LOCK;
    await file.close();
    throw error;
  }
}

async function createIn(path: string): Promise<FileHandle> {
  // This also fails with ENOENT when the folder is removed at the same time.
  await makeDirectory(dirname(path));
  return await open(path, 'wx', 0o644);
}

/** Removes a temporary file, if it still exists, and the folder with the last one. */
export async function removeTemporary(path: string): Promise<void> {
  await rm(path, { force: true });
  // The folder is not empty while others write, and may be gone already.
  await rmdir(dirname(path)).catch(() => {});
}

/** Replaces the file `path` of the layout `dir` atomically. */
export async function replaceFile(dir: string, path: string, content: string | Buffer): Promise<void> {
  await using temporary = await Temporary.create(dir);
  await temporary.file.writeFile(content);
  await temporary.commitAs(path);
}

/**
 * Removes unfinished files of killed processes: this user's files without a lock. It follows no links. A file that
 * cannot be removed is left; without /proc all of them are.
 */
export async function sweepTemporary(dir: string): Promise<void> {
  const path = join(dir, FOLDER);
  const folder = openFolder(path);
  if (folder === null) return;
  try {
    for (const name of await readdir(folder.path)) {
      if (NAME.test(name)) await sweepFile(join(folder.path, name));
    }
  } finally {
    folder.close();
  }
  await rmdir(path).catch(() => {});
}

async function sweepFile(path: string): Promise<void> {
  const lock = await tryLockExisting(path, 'file').catch(() => null);
  if (lock?.isOwn === true) await rm(path, { force: true }).catch(() => {});
  lock?.close();
}

/** Opens the folder; null when it does not exist, or cannot be opened safely. */
function openFolder(path: string): OpenDirectory | null {
  try {
    return openDirectory(path, 'sweep');
  } catch (error) {
    if (hasCode(error, 'NOT_FOUND') || hasCode(error, 'UNSUPPORTED')) return null;
    throw error;
  }
}
