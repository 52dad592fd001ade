/** Unmounting for people: only what is a lazy image. */
import { realpath } from 'node:fs/promises';
import { LacunaError, toLacunaError } from '../errors.ts';
import { type UnmountOptions, unmount } from './erofs.ts';
import { FUSE_FSTYPE, unmountFuse } from './fuse-native/serve.ts';
import { mountedAt } from './mountinfo.ts';

/**
 * Unmounts the lazy image on `directory` and gives its path without links. NOT_FOUND when there is none, PRECONDITION when
 * it is in use.
 */
export async function umount(directory: string, options: UnmountOptions = {}): Promise<string> {
  const target = await realpath(directory).catch((cause: unknown) => {
    throw toLacunaError(cause, { op: 'unmount', subject: directory });
  });
  const entry = await mountedAt(target);
  if (entry?.fstype === FUSE_FSTYPE && options.detach !== true) {
    await unmountFuse(target);
    return target;
  }
  if (entry?.fstype !== 'erofs' && entry?.fstype !== FUSE_FSTYPE) {
    const what = entry === null ? 'nothing is mounted there' : `${entry.fstype} is mounted there, not an image`;
    throw new LacunaError('NOT_FOUND', what, { op: 'unmount', subject: directory });
  }
  await unmount(target, options);
  return target;
}
