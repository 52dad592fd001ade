/**
 * Mounting the EROFS of a lazy image: a bootstrap file and one device file per blob. This file does not know the image
 * or the process that serves the device files.
 *
 * JavaScript must not access a device file or anything below a mountpoint here: it might wait for a daemon that this
 * very process is about to restart.
 */
import { realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LacunaError, toLacunaError } from '../errors.ts';
import { addon, type LoopDevice } from '../native/addon.ts';
import { ERRNO, errnoOf } from './errno.ts';
import { mountedAt } from './mountinfo.ts';

/** How a mount is served: by the files themselves, or by loop devices on them. */
export type MountDriver = 'erofs-file' | 'erofs-loop';

export interface ErofsMount {
  /** EROFS metadata of the whole image. */
  readonly bootstrap: string;
  /** Files with the blobs' plain bytes, in the order of the bootstrap's blob table. */
  readonly devices: readonly string[];
  /** An existing directory, or a link to one. */
  readonly target: string;
}

export interface MountErofsOptions {
  /** Use this way only; default: files, and loop devices where the kernel refuses files. */
  readonly driver?: MountDriver;
  /** Whether setuid programs of the image work. Default false: the image is not trusted. */
  readonly suid?: boolean;
  /** Whether device nodes of the image work. Default false. */
  readonly dev?: boolean;
}

/**
 * Mounts read-only. Where the kernel cannot mount files, or not the files of this file system, loop devices take their
 * place: all of them, since EROFS takes no mixture. NOT_FOUND, FORBIDDEN (not root) or SYSTEM, naming what failed.
 */
export async function mountErofs(
  request: ErofsMount,
  options: MountErofsOptions = {},
): Promise<{ driver: MountDriver }> {
  const paths = [request.bootstrap, ...request.devices].map((path) => resolve(path));
  const problem = { op: 'mount EROFS', subject: request.bootstrap };
  // move_mount(2) follows no link.
  const target = await realpath(request.target).catch((cause: unknown) => {
    throw toLacunaError(cause, { op: 'mount EROFS', subject: request.target });
  });
  let refusal: LacunaError | null = null;
  if (options.driver !== 'erofs-loop') {
    try {
      await mount(paths, target, options);
      return { driver: 'erofs-file' };
    } catch (error) {
      refusal = toLacunaError(error, problem);
      if (options.driver === 'erofs-file' || !isRefusal(error)) throw refusal;
    }
  }
  try {
    await mountOverLoop(paths, target, options);
    return { driver: 'erofs-loop' };
  } catch (error) {
    const failure = toLacunaError(error, problem);
    if (refusal === null) throw failure;
    throw new LacunaError(refusal.code, `${refusal.message}; over loop devices: ${failure.message}`, {
      ...problem,
      hint: '`lacuna doctor` shows what works on this machine',
      cause: failure,
    });
  }
}

/**
 * Whether the kernel might take block devices where it did not take these files. ENOTBLK: this kernel mounts no files,
 * or not on this file system (6.18 says so for overlayfs); EINVAL: other kernels' word for the latter, but also for a
 * damaged bootstrap, which is then refused once more.
 */
function isRefusal(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === ERRNO.ENOTBLK || errno === ERRNO.EINVAL || errno === ERRNO.EOPNOTSUPP;
}

async function mountOverLoop(paths: readonly string[], target: string, rights: Rights): Promise<void> {
  const loops: LoopDevice[] = [];
  try {
    for (const path of paths) loops.push(await addon().loopAttach(path));
    await mount(
      loops.map((loop) => loop.path),
      target,
      rights,
    );
  } finally {
    // The mount keeps them from now on; without one they go.
    for (const loop of loops) loop.close();
  }
}

type Rights = Pick<MountErofsOptions, 'suid' | 'dev'>;

async function mount([source, ...devices]: readonly string[], target: string, { suid, dev }: Rights): Promise<void> {
  const options = devices.map((path) => `device=${path}`);
  const rights = { readonly: true, nosuid: suid !== true, nodev: dev !== true };
  await addon().mount({ fstype: 'erofs', source: source!, target, options, ...rights });
}

/** umount2(2) */
const MNT_DETACH = 2;
/** How long unmounting is retried while busy: the kernel may still be closing the last file. */
const DEFAULT_BUSY_PATIENCE = 2_000;
const BUSY_POLL_MILLISECONDS = 50;

/** Options of {@link umount}. */
export interface UnmountOptions {
  /** Take it out of the tree although it is in use; its file system ends with its last user. */
  readonly detach?: boolean;
  /** Milliseconds; default {@link DEFAULT_BUSY_PATIENCE}. */
  readonly patience?: number;
}

/** Unmounts the topmost mount of `target`; false when nothing is mounted there. PRECONDITION when it stays busy. */
export async function unmount(target: string, options: UnmountOptions = {}): Promise<boolean> {
  const path = resolve(target);
  const deadline = performance.now() + (options.patience ?? DEFAULT_BUSY_PATIENCE);
  for (;;) {
    try {
      await addon().umount(path, options.detach === true ? MNT_DETACH : 0);
      return true;
    } catch (error) {
      const errno = errnoOf(error);
      // EINVAL: no mountpoint; ENOENT: not even a directory.
      if (errno === ERRNO.EINVAL || errno === ERRNO.ENOENT) return false;
      if (errno !== ERRNO.EBUSY) throw toLacunaError(error, { op: 'unmount', subject: target });
      if (performance.now() > deadline) {
        throw new LacunaError('PRECONDITION', 'it is in use', {
          op: 'unmount',
          subject: target,
          hint: 'end what has files or its working directory below it (`fuser -vm DIR` names it)',
          cause: error,
        });
      }
    }
    await sleep(BUSY_POLL_MILLISECONDS);
  }
}

const UNMOUNTED_POLL_MILLISECONDS = 200;

/** Resolves when nothing is mounted on `target` any more; rejects with an AbortError. */
export async function untilUnmounted(target: string, signal: AbortSignal): Promise<void> {
  const path = await realpath(target);
  // Node cannot poll(2) the table of mounts, the way the kernel tells changes.
  while ((await mountedAt(path)) !== null) await sleep(UNMOUNTED_POLL_MILLISECONDS, undefined, { signal });
}
