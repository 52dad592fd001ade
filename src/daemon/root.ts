/** Paths below one root. The daemon writes there, the snapshotter into `snapshotter/` of the same root. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { makeDirectory, makePrivateDirectory } from '../make-directory.ts';

/** The default root. */
export const DEFAULT_ROOT = '/var/lib/lacuna';

export interface RootPaths {
  readonly root: string;
  /** Locked while a daemon lives; holds its pid. */
  readonly lock: string;
  readonly socket: string;
  readonly log: string;
  readonly holderSocket: string;
  readonly holderLog: string;
  /** Mountpoint of the one FUSE file system: a flat directory of blob devices. */
  readonly fuse: string;
  /** `<blob hex>/{data,map}` the blob's shared store, `<blob hex>/<table key>/{table,data,map}` a device's own. */
  readonly cache: string;
  /** `<id>.json`: records of the attached images. */
  readonly images: string;
}

export function rootPaths(root: string): RootPaths {
  return {
    root,
    lock: join(root, 'lock'),
    socket: join(root, 'daemon.sock'),
    log: join(root, 'daemon.log'),
    holderSocket: join(root, 'holder.sock'),
    holderLog: join(root, 'holder.log'),
    fuse: join(root, 'fuse'),
    cache: join(root, 'cache'),
    images: join(root, 'images'),
  };
}

/** Makes the folders. Only their owner may look inside: the cache holds the content of private images. */
export async function makeRoot(paths: RootPaths): Promise<void> {
  await makeDirectory(paths.root, 0o700);
  for (const path of [paths.cache, paths.images]) await makePrivateDirectory(path);
  // A file system whose daemon is gone may be mounted there, so the directory itself is not accessed.
  await mkdir(paths.fuse, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
}
