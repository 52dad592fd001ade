/**
 * Taking down all that runs and is mounted for one root, however dead part of it is: what `lacuna cleanup` does.
 * Records and cache stay, unless they are to be purged.
 */
import { access, readdir, readFile, realpath, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectDaemon, type DaemonClient } from '../daemon/client.ts';
import { type RootPaths, rootPaths } from '../daemon/root.ts';
import { LacunaError, toLacunaError } from '../errors.ts';
import { quitHolder } from '../native/holder.ts';
import { type FileLock, tryLock } from '../native/lock.ts';
import { errorRow, type Log, silentLog } from '../observe/log.ts';
import { unmount } from './erofs.ts';
import { abortFuse } from './fusectl.ts';
import { lockOwner, lockWithin, takeLock } from './lock-owner.ts';
import { isBelow, type MountEntry, readMounts } from './mountinfo.ts';
import { assertUnused, purge } from './purge.ts';
import { snapshotMounts } from './snapshot-mounts.ts';

/** Options of {@link cleanup}. */
export interface CleanupOptions {
  /** End the root's snapshotter as well, which otherwise refuses the cleanup; purge below mounted snapshots. */
  readonly force?: boolean;
  /** Delete records, snapshots and cache. Refused while snapshots are mounted somewhere, unless with `force`. */
  readonly purge?: boolean;
  /** Gets warnings. Default: nothing is logged. */
  readonly log?: Log;
}

/** The result of {@link cleanup}. */
export interface CleanupResult {
  /** The root that was cleaned up. */
  readonly root: string;
  /** Process ids of the ended processes; null: was not running. */
  readonly snapshotter: number | null;
  /** Process id of the daemon that was ended; null when none ran. */
  readonly daemon: number | null;
  /** Whether a holder was ended. */
  readonly holder: boolean;
  /** Unmounted mountpoints, in order. */
  readonly unmounted: readonly string[];
  /** Those of them that were in use: they are gone from the tree, and end with their last user. */
  readonly detached: readonly string[];
  /** Mounts of snapshots, of containers for example: on what was unmounted they read errors from now on. */
  readonly orphaned: readonly string[];
  /** Whether records, snapshots and cache were deleted. */
  readonly purged: boolean;
}

/** How long something busy is waited for before it is taken out of the tree, in milliseconds. */
const PATIENCE = 500;
/** How long a `lacuna mount` whose mount went away may take to tell the daemon. */
const DETACH_PATIENCE = 2_000;
const POLL = 50;
/** How long the daemon may take to answer. */
const ANSWER = 2_000;

/**
 * Ends snapshotter (only with `force`; else LOCKED), mounts, daemon, FUSE file system and holder of `root`, in this
 * order, and repeats nothing that is done: it may be called again. NOT_FOUND when the folder is not a root, PRECONDITION
 * when the snapshots that are to be purged are in use.
 */
export async function cleanup(root: string, options: CleanupOptions = {}): Promise<CleanupResult> {
  const paths = rootPaths(await realRoot(root));
  const snapshotterFolder = join(paths.root, 'snapshotter');
  const log = options.log ?? silentLog;
  const locks: FileLock[] = [];
  try {
    const snapshotter = (await exists(snapshotterFolder))
      ? await takeSnapshotterLock(join(snapshotterFolder, 'lock'), options.force === true, locks)
      : null;
    using client = connectDaemon(paths.root);
    const unmounts = new Unmounts(log);
    const bootstraps = await recordedBootstraps(paths, log);
    const images = await mountsOf(paths, snapshotterFolder, bootstraps);
    const orphaned = await snapshotMounts(snapshotterFolder);
    if (options.purge === true && options.force !== true) assertUnused(paths.root, orphaned);
    for (const { target } of images) await unmounts.end(target);
    await untilDetached(
      client,
      bootstraps.filter((path) => !isBelow(path, snapshotterFolder)),
    );

    const daemon = await takeLock(paths.lock, () => stopDaemon(client));
    locks.push(daemon.handle);
    for (const { target, device } of await readMounts()) {
      if (target === paths.fuse) await unmounts.end(target, () => abortFuse(device));
    }
    const holder = await quitHolder(paths.holderSocket);
    locks.push(await holderLock(paths));
    for (const path of [paths.socket, paths.holderSocket]) await rm(path, { force: true });
    for (const target of orphaned)
      log.warn({ target }, 'a snapshot is still mounted; its reads fail, since the image below it was unmounted');
    if (options.purge === true) await purge(paths);
    return {
      root: paths.root,
      snapshotter,
      daemon: daemon.ended,
      holder,
      ...unmounts.done(),
      orphaned,
      purged: options.purge === true,
    };
  } finally {
    // The lock is held until the end, so that no supervisor restarts the daemon meanwhile.
    for (const lock of locks.reverse()) lock.close();
  }
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** The root without links, as the table of mounts has it. NOT_FOUND, before any change, when it is not a root. */
async function realRoot(root: string): Promise<string> {
  const real = await realpath(root).catch(() => null);
  const marks = real === null ? [] : [rootPaths(real).lock, join(real, 'snapshotter', 'lock')];
  for (const mark of marks) if (await exists(mark)) return real!;
  throw new LacunaError('NOT_FOUND', 'not a root of Lacuna: the folder has no lock file', {
    op: 'clean up',
    subject: root,
  });
}

async function takeSnapshotterLock(path: string, force: boolean, locks: FileLock[]): Promise<number | null> {
  if (!force) {
    const handle = await tryLock(path);
    if (handle === null) {
      throw new LacunaError('LOCKED', `a snapshotter serves this root (pid ${(await lockOwner(path)) ?? 'unknown'})`, {
        op: 'clean up',
        subject: path,
        hint: 'stop it first, or end it with --force',
      });
    }
    locks.push(handle);
    return null;
  }
  const { handle, ended } = await takeLock(path, null);
  locks.push(handle);
  return ended;
}

/** Bootstraps of what is attached, `lacuna mount`'s as well. A record that cannot be read names no mount. */
async function recordedBootstraps({ images }: RootPaths, log: Log): Promise<string[]> {
  const names = (await readdir(images).catch(() => [])).filter((name) => name.endsWith('.json'));
  const bootstraps = await Promise.all(
    names.map(async (name) => {
      try {
        const { bootstrap } = JSON.parse(await readFile(join(images, name), 'utf8')) as { bootstrap?: unknown };
        return typeof bootstrap === 'string' ? [bootstrap] : [];
      } catch (error) {
        log.warn(
          { record: name, error: errorRow(error) },
          'cannot read an image record; a mount that only this record names stays',
        );
        return [];
      }
    }),
  );
  return bootstraps.flat();
}

/**
 * The mounts that stand on this root's daemon, the last mounted first. The kernel does not show the device files of an
 * EROFS, so its bootstrap identifies it.
 */
async function mountsOf(
  paths: RootPaths,
  snapshotterFolder: string,
  bootstraps: readonly string[],
): Promise<MountEntry[]> {
  const own: MountEntry[] = [];
  for (const entry of await readMounts()) {
    if (entry.target === paths.fuse) continue;
    if (isBelow(entry.target, snapshotterFolder)) own.push(entry);
    else if (entry.fstype === 'erofs') {
      const bootstrap = await imageOf(entry.source);
      if (bootstraps.includes(bootstrap) || isBelow(bootstrap, paths.root)) own.push(entry);
    }
  }
  return own.reverse();
}

/** The file behind a loop device, or the file itself. */
async function imageOf(source: string): Promise<string> {
  const loop = /^\/dev\/(loop\d+)$/.exec(source)?.[1];
  if (loop === undefined) return source;
  const backing = await readFile(`/sys/block/${loop}/loop/backing_file`, 'utf8').catch(() => '');
  return backing.replace(/\n$/, '');
}

/** Unmounts, out of the tree at least, and keeps count. */
class Unmounts {
  readonly #log: Log;
  readonly #unmounted: string[] = [];
  readonly #detached: string[] = [];

  constructor(log: Log) {
    this.#log = log;
  }

  /** `release` unblocks a file system that is busy. */
  async end(target: string, release?: () => Promise<void>): Promise<void> {
    try {
      if (await unmount(target, { patience: PATIENCE })) this.#unmounted.push(target);
    } catch (error) {
      if (toLacunaError(error).code !== 'PRECONDITION') throw error;
      this.#log.warn({ target }, 'the mount is in use: detached, and it ends with its last user');
      await release?.();
      await unmount(target, { detach: true });
      this.#unmounted.push(target);
      this.#detached.push(target);
    }
  }

  done(): Pick<CleanupResult, 'unmounted' | 'detached'> {
    return { unmounted: this.#unmounted, detached: this.#detached };
  }
}

/** A `lacuna mount` ends when its mount is gone, after it has detached its image: it would wait for a stopped daemon. */
async function untilDetached(client: DaemonClient, bootstraps: readonly string[]): Promise<void> {
  const deadline = performance.now() + DETACH_PATIENCE;
  while (bootstraps.length > 0 && performance.now() < deadline) {
    const status = await client.status({ timeout: ANSWER, waitForReady: false }).catch(() => null);
    if (status === null || !status.images.some(({ bootstrap }) => bootstraps.includes(bootstrap))) return;
    await sleep(POLL);
  }
}

async function stopDaemon(client: DaemonClient): Promise<void> {
  // No answer, for whatever reason: signals follow.
  await client.stop({ timeout: ANSWER, waitForReady: false }).catch(() => {});
}

/** A holder answers before it ends; its lock tells that it has. */
async function holderLock({ holderSocket }: RootPaths): Promise<FileLock> {
  const path = `${holderSocket}.lock`;
  const handle = await lockWithin(path, ANSWER);
  if (handle !== null) return handle;
  throw new LacunaError('LOCKED', `the holder did not exit within ${ANSWER} ms`, { op: 'clean up', subject: path });
}
