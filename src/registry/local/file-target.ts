/** Writes a file that appears only when it is complete. */
import { open, rename, rm, stat } from 'node:fs/promises';

/**
 * Writes `pieces` to `temporary`, and renames it to `path` when it is complete; after an error it is removed. A device
 * or a pipe at `path` is not replaced but written to.
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
  const stats = await stat(path).catch(() => null);
  return stats !== null && !stats.isFile() && !stats.isDirectory();
}
