/** Aborts FUSE connections through the kernel's control file system: pending requests fail at once. */
import { mkdtemp, rmdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { toLacunaError } from '../errors.ts';
import { addon } from '../native/addon.ts';
import { unmount } from './erofs.ts';

const CONNECTIONS = '/sys/fs/fuse/connections';

/**
 * Aborts the connection of the FUSE file system `device` (`0:minor`, as in the table of mounts). Fine when it is gone.
 * When the host has not mounted the control file system, it is mounted elsewhere for a moment.
 */
export async function abortFuse(device: string): Promise<void> {
  const minor = device.slice(device.indexOf(':') + 1);
  if (await write(join(CONNECTIONS, minor, 'abort'))) return;
  const folder = await mkdtemp(join(tmpdir(), 'lacuna-fusectl-'));
  try {
    await addon().mount({
      fstype: 'fusectl',
      source: 'fusectl',
      target: folder,
      options: [],
      readonly: false,
      nosuid: true,
      nodev: true,
    });
    try {
      await write(join(folder, minor, 'abort'));
    } finally {
      await unmount(folder, { detach: true });
    }
  } finally {
    await rmdir(folder);
  }
}

/** False when the file is not there. */
async function write(path: string): Promise<boolean> {
  try {
    await writeFile(path, '1', { flag: 'r+' });
    return true;
  } catch (error) {
    const failure = toLacunaError(error, { op: 'abort FUSE connection', subject: path });
    if (failure.code === 'NOT_FOUND') return false;
    throw failure;
  }
}
