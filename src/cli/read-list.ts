/** Lists that are given as files. */
import { readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { toLacunaError } from '../errors.ts';

/** The lines of a file, or of standard input for `-`, without empty ones. */
export async function readList(path: string): Promise<string[]> {
  try {
    const content = path === '-' ? await text(process.stdin) : await readFile(path, 'utf8');
    return content.split('\n').filter((line) => line !== '');
  } catch (cause) {
    throw toLacunaError(cause, { op: 'read list', subject: path });
  }
}
