/**
 * Unfinished files of a layout. They lie beside `blobs`, so that no reader takes one for a blob. Each is locked as long as
 * it is being written: what is not locked was left by a killed process, whatever namespaces it lived in.
 */
import { randomUUID } from 'node:crypto';
import { type FileHandle, open, readdir, rename, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeDirectory } from '../../make-directory.ts';
import { findAddon } from '../../native/addon.ts';
import { type FileLock, isWithoutLocks, tryLockExisting } from '../../native/lock.ts';
import { type OpenDirectory, openDirectory } from '../../open-file.ts';

const FOLDER = '.lacuna-tmp';
/** Names of what this module makes; nothing else is swept. */
const NAME = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$|^index\.lock$/;

/** Another writer that ends may remove the folder between making it and using it, another one sweep what is not locked yet. */
const MAX_TRIES = 100;
/** Where there are no locks: without the native addon, and on a few network file systems. Nothing is swept there either. */
const NO_LOCK: FileLock = { fd: -1, isOwn: false, close: () => {} };

export const hasCode = (error: unknown, code: string): boolean =>
  error instanceof Error && 'code' in error && error.code === code;

/** The path of a file in `dir`'s folder of unfinished ones. */
export const temporaryPath = (dir: string, name: string): string => join(dir, FOLDER, name);

/** An unfinished file. Disposing of it removes it, unless it has become another one. */
export class Temporary implements AsyncDisposable {
  readonly path: string;
  readonly file: FileHandle;
  readonly #lock: FileLock;

  private constructor(path: string, file: FileHandle, lock: FileLock) {
    this.path = path;
    this.file = file;
    this.#lock = lock;
  }

  /** A new, empty file in the layout `dir`. */
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

  /** It becomes `target`, which others see whole or not at all. */
  async commitAs(target: string): Promise<void> {
    // What a network file system could not write it says here.
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
  // This, too, says ENOENT when the folder goes while it looks.
  await makeDirectory(dirname(path));
  return await open(path, 'wx', 0o644);
}

/** Removes a temporary file, if it is still there, and the folder with the last one. */
export async function removeTemporary(path: string): Promise<void> {
  await rm(path, { force: true });
  // Not empty while others write, gone when another was faster.
  await rmdir(dirname(path)).catch(() => {});
}

/** Writes `path`, in the layout of `dir`, so that readers see all of it or what was there before. */
export async function replaceFile(dir: string, path: string, content: string | Buffer): Promise<void> {
  await using temporary = await Temporary.create(dir);
  await temporary.file.writeFile(content);
  await temporary.commitAs(path);
}

/**
 * Removes what killed processes have left unfinished: files of our own that nobody has locked. Follows no link. A file that
 * cannot be removed is left, and all of them where there is no /proc.
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

/** Null where there is none, or no safe way to open it. */
function openFolder(path: string): OpenDirectory | null {
  try {
    return openDirectory(path, 'sweep');
  } catch (error) {
    if (hasCode(error, 'NOT_FOUND') || hasCode(error, 'UNSUPPORTED')) return null;
    throw error;
  }
}
