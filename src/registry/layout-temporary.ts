/** Unfinished files of a layout. They lie beside `blobs`, so that no reader takes one for a blob. */
import { randomUUID } from 'node:crypto';
import { type FileHandle, open, readdir, rename, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeDirectory } from '../make-directory.ts';

const FOLDER = '.lacuna-tmp';

/** Another writer that ends may remove the folder between making it and using it. */
const MAX_TRIES = 100;

export const hasCode = (error: unknown, code: string): boolean =>
  error instanceof Error && 'code' in error && error.code === code;

/** A new, empty file in `dir`'s layout, to be renamed or given to {@link removeTemporary}. Its name tells whose it is. */
export async function openTemporary(dir: string): Promise<{ readonly path: string; readonly file: FileHandle }> {
  const path = join(dir, FOLDER, `${process.pid}-${randomUUID()}`);
  for (let tries = 1; ; tries++) {
    try {
      // This, too, says ENOENT when the folder goes while it looks.
      await makeDirectory(dirname(path));
      return { path, file: await open(path, 'wx', 0o644) };
    } catch (error) {
      if (tries === MAX_TRIES || !hasCode(error, 'ENOENT')) throw error;
    }
  }
}

/** Removes a temporary file, if it is still there, and the folder with the last one. */
export async function removeTemporary(path: string): Promise<void> {
  await rm(path, { force: true });
  // Not empty while others write, gone when another was faster.
  await rmdir(dirname(path)).catch(() => {});
}

/** Writes `path`, in the layout of `dir`, so that readers see all of it or what was there before. */
export async function replaceFile(dir: string, path: string, content: string | Buffer): Promise<void> {
  const temporary = await openTemporary(dir);
  try {
    try {
      await temporary.file.writeFile(content);
    } finally {
      await temporary.file.close();
    }
    await rename(temporary.path, path);
  } finally {
    await removeTemporary(temporary.path);
  }
}

/** Removes what killed processes have left unfinished. */
export async function sweepTemporary(dir: string): Promise<void> {
  const folder = join(dir, FOLDER);
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return;
    throw error;
  }
  for (const name of names) {
    const pid = Number(/^([0-9]+)-/.exec(name)?.[1] ?? 0);
    if (!isAlive(pid)) await removeTemporary(join(folder, name));
  }
}

/** Whether a process of this id is there. */
export function isAlive(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Somebody else's process.
    return hasCode(error, 'EPERM');
  }
}
