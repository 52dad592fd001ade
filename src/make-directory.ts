/** Directories on this host. */
import { chmod, mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

const MAX_ATTEMPTS = 100;

/**
 * Makes a directory and those above it, each with `mode`; one that is there is left as it is. Node's own `recursive`
 * never returns where the parent is there and nothing can be made in it, as in /proc, and no signal ends the process then.
 */
export async function makeDirectory(path: string, mode = 0o777): Promise<void> {
  try {
    await makeOne(path, mode);
  } catch (error) {
    const parent = dirname(path);
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || parent === path) throw error;
    await makeDirectory(parent, mode);
    await makeOne(path, mode);
  }
}

/**
 * Makes a directory that only its owner may enter; one that is there is made so. For directories that are ours alone: what
 * lies below one is safe from others whatever its own mode is.
 */
export async function makePrivateDirectory(path: string): Promise<void> {
  await makeDirectory(path, 0o700);
  const { mode } = await stat(path);
  if ((mode & 0o077) !== 0) await chmod(path, 0o700);
}

async function makeOne(path: string, mode: number): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await mkdir(path, { mode });
      return;
    } catch (error) {
      const there = await stat(path).catch(() => null);
      if (there?.isDirectory() === true) return;
      // Others may delete it before it is looked at.
      const isGone = (error as NodeJS.ErrnoException).code === 'EEXIST' && there === null;
      if (!isGone || attempt === MAX_ATTEMPTS) throw error;
    }
  }
}
