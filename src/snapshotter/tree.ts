/**
 * Walks over the directories that hold snapshots' files. Names are bytes (an image may hold any), and nothing crosses
 * into another file system: a mount left behind below a snapshot must not be counted, let alone deleted.
 */
import { lstatSync, readdirSync, rmdirSync, type Stats, unlinkSync } from 'node:fs';
import { LacunaError } from '../errors.ts';
import type { Usage } from './info.ts';

/** How long a walk may keep the event loop before others get a turn, in milliseconds. */
const SLICE_MILLISECONDS = 5;

/** `stat` counts blocks in this unit, whatever the file system's. */
const BLOCK_BYTES = 512;

/** Bytes on disk and inodes below and including `directory`; a file with several names counts once. */
export async function usageOf(directory: string): Promise<Usage> {
  let size = 0;
  let inodes = 0;
  const seen = new Set<number>();
  await walk(directory, {
    visit(_path, stats) {
      if (stats.nlink > 1 && !stats.isDirectory()) {
        if (seen.has(stats.ino)) return;
        seen.add(stats.ino);
      }
      inodes++;
      size += stats.blocks * BLOCK_BYTES;
    },
  });
  return { size, inodes };
}

/** Deletes `directory` with all that is in it; one that does not exist is fine. PRECONDITION at a mount point. */
export async function removeTree(directory: string): Promise<void> {
  await walk(directory, {
    visit(path, stats) {
      if (!stats.isDirectory()) gone(() => unlinkSync(path));
    },
    leave: (path) => gone(() => rmdirSync(path)),
    foreign(path) {
      throw new LacunaError('PRECONDITION', 'something is still mounted', { op: 'remove', subject: path.toString() });
    },
  });
}

/** Two may delete, or one count what another deletes: what is no longer there is no error. */
function gone<T>(work: () => T): T | null {
  try {
    return work();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

interface Visitor {
  /** Every file and directory, a directory before what is in it. */
  visit(path: Buffer, stats: Stats): void;
  /** A directory after what was in it. */
  leave?(path: Buffer): void;
  /** The root of another file system. Default: passed over. */
  foreign?(path: Buffer): void;
}

async function walk(directory: string, visitor: Visitor): Promise<void> {
  const root = lstatSync(directory, { throwIfNoEntry: false });
  if (root === undefined) return;
  let sliceEnd = performance.now() + SLICE_MILLISECONDS;

  const descend = async (path: Buffer, stats: Stats): Promise<void> => {
    visitor.visit(path, stats);
    if (!stats.isDirectory()) return;
    for (const name of gone(() => readdirSync(path, 'buffer')) ?? []) {
      const child = Buffer.concat([path, SLASH, name]);
      const childStats = gone(() => lstatSync(child));
      if (childStats === null) continue;
      if (childStats.dev !== root.dev) visitor.foreign?.(child);
      else if (childStats.isDirectory()) await descend(child, childStats);
      else visitor.visit(child, childStats);
    }
    visitor.leave?.(path);
    if (performance.now() < sliceEnd) return;
    await new Promise((resolve) => setImmediate(resolve));
    sliceEnd = performance.now() + SLICE_MILLISECONDS;
  };
  await descend(Buffer.from(directory), root);
}

const SLASH = Buffer.from('/');
