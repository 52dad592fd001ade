/** Lists the mounts that show files of a root's snapshots, as those of running containers do. */
import { join, relative } from 'node:path';
import { isBelow, type MountEntry, readForeignMounts, readMounts } from './mountinfo.ts';

/**
 * Mountpoints of the overlays that stand on a directory of `snapshotter` (`<root>/snapshotter`, without links), and of
 * single snapshots that are mounted elsewhere. In whatever mount namespace: a container may have the only mount of its
 * root in its own.
 */
export async function snapshotMounts(snapshotter: string): Promise<string[]> {
  const own = await readMounts();
  const standsOn = testFor(snapshotter, own);
  const found = own.filter(standsOn);
  const seen = new Set(found.map(identityOf));
  const names = found.map(({ target }) => target);
  for (const [pid, entries] of await readForeignMounts()) {
    for (const entry of entries.filter((other) => standsOn(other) && !seen.has(identityOf(other)))) {
      seen.add(identityOf(entry));
      names.push(`${entry.target} of process ${pid}`);
    }
  }
  return names;
}

const identityOf = ({ device, root }: MountEntry): string => `${device} ${root}`;

function testFor(snapshotter: string, own: readonly MountEntry[]): (entry: MountEntry) => boolean {
  const snapshots = join(snapshotter, 'snapshots');
  // The file system that holds the snapshots, and their folder in it; a chroot may not see where that is mounted.
  const mountpoint = deepest(own, snapshots);
  const home = own.findLast(({ target }) => target === mountpoint);
  const folder = home === undefined ? '' : join(home.root, relative(home.target, snapshots));
  const isOwn = ({ target }: MountEntry): boolean => isBelow(target, snapshotter);
  const isBind = ({ device, root }: MountEntry): boolean =>
    home !== undefined && device === home.device && isBelow(root, folder);
  const isOverlay = ({ fstype, options }: MountEntry): boolean =>
    fstype === 'overlay' && options.includes(`${snapshotter}/`);
  return (entry) => !isOwn(entry) && (isOverlay(entry) || isBind(entry));
}

/** The mountpoint that `path` lies below with the fewest names between. */
function deepest(own: readonly MountEntry[], path: string): string {
  const above = own.map(({ target }) => target).filter((target) => isBelow(path, target));
  return above.reduce((longest, target) => (target.length > longest.length ? target : longest), '/');
}
