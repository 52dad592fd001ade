/** One process per root and role: an exclusive lock on a file that holds the owner's process id. */
import { open, readFile } from 'node:fs/promises';
import { LacunaError } from '../errors.ts';
import { addon, type NativeHandle } from './addon.ts';

/** The lock, which a dead process does not keep. `role`: `daemon`, `snapshotter`. LOCKED, naming the process that has it. */
export async function lockFor(role: string, path: string): Promise<NativeHandle> {
  const lock = addon().lock(path);
  if (lock === null) {
    const owner = (await readFile(path, 'utf8')).trim();
    throw new LacunaError('LOCKED', `another ${role} has this root${owner === '' ? '' : ` (pid ${owner})`}`, {
      op: `start ${role}`,
      subject: path,
      hint: 'stop it, or use another --root',
    });
  }
  await writeOwner(path);
  return lock;
}

/**
 * Names this process in the file, for people and for `lacuna cleanup`; the lock is held without it. It is written over
 * what is there, which needs no new block: on a full disk a daemon must start, since readers wait for it.
 */
async function writeOwner(path: string): Promise<void> {
  const text = Buffer.from(`${process.pid}\n`);
  try {
    await using file = await open(path, 'r+');
    await file.write(text, 0, text.length, 0);
    await file.truncate(text.length);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOSPC' && code !== 'EDQUOT') throw error;
  }
}
