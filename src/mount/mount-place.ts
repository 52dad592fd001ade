/**
 * `<root>/mounts/<id>/`: the state of a running `lacuna mount`, one for each mountpoint, locked while it runs. So a folder
 * that is neither locked nor mounted was left by a killed process.
 */
import { createHash } from 'node:crypto';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LacunaError } from '../errors.ts';
import { makeDirectory } from '../make-directory.ts';
import { type FileLock, tryLockExisting } from '../native/lock.ts';
import { FUSE_FSTYPE } from './fuse-native/serve.ts';
import { mountedAt } from './mountinfo.ts';

/** How long the predecessor at a mountpoint, whose mount is gone, may take to detach its image, in milliseconds. */
const PATIENCE = 10_000;
const POLL = 20;

export class MountPlace {
  /** Also the image's id at the daemon. */
  readonly id: string;
  readonly #folder: string;
  readonly #lock: FileLock;

  constructor(mounts: string, id: string, lock: FileLock) {
    this.id = id;
    this.#folder = join(mounts, id);
    this.#lock = lock;
  }

  /** Keeps the mountpoint, the bootstrap and the files beside it; returns the path of the bootstrap. */
  async write(target: string, bootstrap: Buffer, beside: ReadonlyMap<string, Buffer> = new Map()): Promise<string> {
    const path = join(this.#folder, 'bootstrap');
    await writeFile(join(this.#folder, 'target'), target);
    for (const [name, bytes] of beside) await writeFile(join(this.#folder, name), bytes, { mode: 0o600 });
    await writeFile(path, bootstrap, { mode: 0o600 });
    return path;
  }

  /** Deletes all of it; the lock stays until {@link release}. */
  async remove(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
  }

  release(): void {
    this.#lock.close();
  }
}

const mountsOf = (root: string): string => join(root, 'mounts');

/**
 * The place of the mountpoint `target`, with what a killed process left in it. LOCKED while another process has it,
 * ALREADY_EXISTS when an image is mounted there.
 */
export async function claimPlace(root: string, target: string): Promise<MountPlace> {
  const id = `mount-${createHash('sha256').update(target).digest('hex').slice(0, 16)}`;
  const folder = join(mountsOf(root), id);
  const deadline = performance.now() + PATIENCE;
  for (;;) {
    // Its owner deletes it.
    await makeDirectory(folder, 0o700);
    const lock = await tryLockExisting(folder, 'directory');
    if (lock !== null) return await unlessMounted(target, new MountPlace(mountsOf(root), id, lock));
    if (performance.now() >= deadline) {
      throw new LacunaError('LOCKED', 'another process is mounting an image there', { op: 'mount', subject: target });
    }
    await sleep(POLL);
  }
}

/** A mount that came while we waited, and whose process was killed, keeps its place. */
async function unlessMounted(target: string, place: MountPlace): Promise<MountPlace> {
  try {
    await refuseMounted(target);
    return place;
  } catch (error) {
    place.release();
    throw error;
  }
}

/** ALREADY_EXISTS when an image is mounted on `target`. */
export async function refuseMounted(target: string): Promise<void> {
  const there = (await mountedAt(target))?.fstype;
  if (there !== 'erofs' && there !== FUSE_FSTYPE) return;
  throw new LacunaError('ALREADY_EXISTS', 'an image is already mounted there', {
    op: 'mount',
    subject: target,
    hint: `unmount it first: \`lacuna umount ${target}\``,
  });
}

/** Places of killed processes whose images are not mounted any more, one by one and locked: the caller releases each. */
export async function* abandonedPlaces(root: string): AsyncGenerator<MountPlace> {
  for (const id of await readdir(mountsOf(root)).catch(() => [])) {
    const folder = join(mountsOf(root), id);
    const lock = await tryLockExisting(folder, 'directory');
    if (lock === null) continue;
    const isLeft = await isAbandoned(folder).catch((error: unknown) => {
      lock.close();
      throw error;
    });
    if (isLeft) yield new MountPlace(mountsOf(root), id, lock);
    else lock.close();
  }
}

async function isAbandoned(folder: string): Promise<boolean> {
  const target = await readFile(join(folder, 'target'), 'utf8').catch(() => '');
  return target === '' || (await mountedAt(target)) === null;
}
