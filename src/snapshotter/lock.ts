/** One snapshotter per root. */
import { readFile, writeFile } from 'node:fs/promises';
import { LacunaError } from '../errors.ts';
import { addon, type NativeHandle } from '../native/addon.ts';

/** The lock, which a dead process does not keep. LOCKED, naming the process that has it. */
export async function lockFolder(path: string): Promise<NativeHandle> {
  const lock = addon().lock(path);
  if (lock === null) {
    const holder = (await readFile(path, 'utf8')).trim();
    throw new LacunaError('LOCKED', `another snapshotter has this root${holder === '' ? '' : ` (pid ${holder})`}`, {
      op: 'lock',
      subject: path,
      hint: 'stop it, or use another --root',
    });
  }
  await writeFile(path, `${process.pid}\n`);
  return lock;
}
