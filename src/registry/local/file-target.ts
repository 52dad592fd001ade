/** A file that is written as a whole. */
import { open, rename, rm, stat } from 'node:fs/promises';

/**
 * Writes `pieces` to `temporary`, which becomes `path` when it is whole and is gone otherwise. A device or a pipe is no file
 * to be replaced: it is written to.
 */
export async function writeWhole(path: string, temporary: string, pieces: AsyncIterable<Buffer>): Promise<void> {
  if (await isDeviceOrPipe(path)) return await writeTo(path, 'w', pieces);
  try {
    await writeTo(temporary, 'wx', pieces);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

async function writeTo(path: string, flags: string, pieces: AsyncIterable<Buffer>): Promise<void> {
  const file = await open(path, flags, 0o644);
  try {
    for await (const piece of pieces) await file.writeFile(piece);
  } finally {
    await file.close();
  }
}

async function isDeviceOrPipe(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => null);
  return found !== null && !found.isFile() && !found.isDirectory();
}
