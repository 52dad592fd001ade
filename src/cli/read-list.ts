/** Lists that are given as files. */
import { text } from 'node:stream/consumers';
import { toLacunaError } from '../errors.ts';
import { readNamed } from '../open-file.ts';

/** Bytes: a million long paths. */
export const MAX_LIST = 256 * 1024 * 1024;

/** The lines of a file, or of standard input for `-`, without empty ones. */
export async function readList(path: string): Promise<string[]> {
  try {
    const content = path === '-' ? await text(process.stdin) : await readNamed(path, MAX_LIST, { op: 'read list' });
    return content.split('\n').filter((line) => line !== '');
  } catch (cause) {
    throw toLacunaError(cause, { op: 'read list', subject: path });
  }
}
