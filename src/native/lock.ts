/** One process per root and role: an exclusive lock on a file that holds the owner's process id. */
import { readFile, writeFile } from 'node:fs/promises';
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
  await writeFile(path, `${process.pid}\n`);
  return lock;
}
