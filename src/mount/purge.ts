/** Deletes everything that Lacuna made in a root. Processes of containers may still write below its snapshots. */
import { rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { RootPaths } from '../daemon/root.ts';
import { LacunaError, toLacunaError } from '../errors.ts';
import { removeTree } from '../native/tree.ts';
import { isBelow, readMounts } from './mountinfo.ts';

/** Maximum mounts named in a message. */
const NAMED = 3;

/** PRECONDITION when snapshots of `root` are mounted, on `targets`. */
export function assertUnused(root: string, targets: readonly string[]): void {
  if (targets.length === 0) return;
  const more = targets.length > NAMED ? ` and ${targets.length - NAMED} more` : '';
  const named = targets.slice(0, NAMED).join(', ');
  throw new LacunaError('PRECONDITION', `snapshots are in use: mounted on ${named}${more}`, {
    op: 'purge',
    subject: root,
    hint: 'stop the containers first, or delete the files that they use with --force',
  });
}

/** Deletes it; then the root, unless others keep something in it. PRECONDITION when a mount is left. */
export async function purge(paths: RootPaths): Promise<void> {
  const { root, cache, images, fuse, log, holderLog, lock, holderSocket } = paths;
  const left = (await readMounts()).find(({ target }) => target !== root && isBelow(target, root));
  if (left !== undefined) {
    throw new LacunaError('PRECONDITION', 'a mount below the root is left', { op: 'purge', subject: left.target });
  }
  const folders = [cache, images, fuse, join(root, 'mounts'), join(root, 'snapshotter')];
  const names = [...folders, log, `${log}.old`, holderLog, `${holderSocket}.lock`];
  // The lock last: it marks a root, so that a purge that failed can be repeated.
  for (const path of [...names, lock]) await removeTree(path);
  await rmdir(root).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOTEMPTY' && error.code !== 'EBUSY')
      throw toLacunaError(error, { op: 'purge', subject: root });
  });
}
