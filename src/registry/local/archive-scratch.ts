/**
 * The private directory (0700) in which a new archive is assembled: beside the archive, or for a stream in the folder
 * of temporary files. Other users may own the folder around it. So its files are reached through its file descriptor
 * only: a user who renames or replaces it cannot redirect what is written, read or deleted.
 */
import { fchmodSync, readdirSync, rmdirSync, rmSync, type Stats } from 'node:fs';
import { mkdtemp, readdir, rm, rmdir, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { LacunaError, toLacunaError } from '../../errors.ts';
import { STREAM } from '../../image/reference.ts';
import { findAddon } from '../../native/addon.ts';
import { tryFlock } from '../../native/lock.ts';
import { type OpenDirectory, openDirectory } from '../../open-file.ts';
import { hasCode } from './layout-temporary.ts';

const OP = 'write archive';
/** Suffix that mkdtemp(3) appends to a prefix. */
const SUFFIX = /^[A-Za-z0-9]{6}$/;
/** Mark before the suffix where locks are not available, so that no sweep takes the directory for abandoned. */
const UNLOCKED = 'unlocked-';

export interface Scratch {
  /** Path through the file descriptor. */
  readonly path: string;
  /** Replaces the descriptor's path in `error` by the directory's name. */
  explain(error: unknown): LacunaError;
  /** Removes the directory, as the end of the process does. */
  remove(): Promise<void>;
}

/** Makes an empty directory for the archive `path`, and removes those that killed writers of this archive left. */
export async function makeScratch(path: string): Promise<Scratch> {
  const folder = path === STREAM ? tmpdir() : dirname(path);
  const prefix = path === STREAM ? 'lacuna-archive-' : `.${basename(path)}.lacuna-`;
  await sweep(folder, prefix);
  const name = join(folder, `${prefix}${findAddon() === null ? UNLOCKED : ''}`);
  const made = await mkdtemp(name).catch((cause: unknown) => {
    throw toLacunaError(cause, { op: OP, subject: path });
  });
  const directory = await openMade(made, path);
  try {
    if (isTaken(directory)) return scratchOf(directory, made);
  } catch (cause) {
    await removeDirectory(directory, made);
    throw toLacunaError(cause, { op: OP, subject: path });
  }
  directory.close();
  // It is removed only when it is empty, so nobody loses data.
  await rmdir(made).catch(() => {});
  throw new LacunaError('PRECONDITION', `the new directory ${made} belongs to another user`, {
    op: OP,
    subject: path,
    hint: 'another user replaced it, or the file system maps owners: write the archive elsewhere and move it here',
  });
}

async function openMade(made: string, subject: string): Promise<OpenDirectory> {
  try {
    return openDirectory(made, OP);
  } catch (cause) {
    await rmdir(made).catch(() => {});
    throw toLacunaError(cause, { op: OP, subject });
  }
}

/**
 * Makes a new directory private and locks it. False when it belongs to another user, who put it there. A file system
 * without modes (FAT, SMB) protects nothing; only the owner is checked there.
 */
function isTaken({ fd, path, stats }: OpenDirectory): boolean {
  if (stats.uid !== process.geteuid?.()) return false;
  if (!isOwn(stats)) keepOthersOut(fd);
  return readdirSync(path).length === 0 && tryFlock(fd) !== false;
}

function keepOthersOut(fd: number): void {
  try {
    fchmodSync(fd, 0o700);
  } catch (error) {
    if (!hasCode(error, 'EPERM') && !hasCode(error, 'ENOTSUP')) throw error;
  }
}

function scratchOf(directory: OpenDirectory, made: string): Scratch {
  const { path } = directory;
  const removeNow = (): void => {
    try {
      for (const name of readdirSync(path)) rmSync(join(path, name), { recursive: true, force: true });
      rmdirSync(made);
    } catch {
      // The directory was renamed, or the next writer removes the rest.
    }
  };
  process.once('exit', removeNow);
  return {
    path,
    explain: (error) => renamed(toLacunaError(error, { op: OP, subject: made }), path, made),
    async remove() {
      process.off('exit', removeNow);
      await removeDirectory(directory, made);
    },
  };
}

function renamed(error: LacunaError, path: string, name: string): LacunaError {
  const { code, message, op, subject, hint, retryable, cause } = error;
  const text = (value: string) => value.replaceAll(path, name);
  if (text(`${message} ${subject}`) === `${message} ${subject}`) return error;
  return new LacunaError(code, text(message), {
    ...(op === null ? {} : { op }),
    ...(subject === null ? {} : { subject: text(subject) }),
    ...(hint === null ? {} : { hint: text(hint) }),
    retryable,
    cause,
  });
}

/** Removes the content of a directory of our own, then the directory that has its name now, if it is empty. */
async function removeDirectory({ path, close }: OpenDirectory, name: string): Promise<void> {
  for (const entry of await readdir(path)) await rm(join(path, entry), { recursive: true, force: true });
  await rmdir(name).catch(() => {});
  close();
}

/** Removes directories of our own that are not locked, in folders where other users cannot place or rename them. */
async function sweep(folder: string, prefix: string): Promise<void> {
  const around = await stat(folder).catch(() => null);
  if (findAddon() === null || around === null || !isSafe(around)) return;
  for (const name of await readdir(folder).catch(() => [])) {
    if (name.startsWith(prefix) && SUFFIX.test(name.slice(prefix.length))) await sweepOne(join(folder, name));
  }
}

async function sweepOne(path: string): Promise<void> {
  const directory = openOwn(path);
  if (directory === null) return;
  if (tryFlock(directory.fd) === true) await removeDirectory(directory, path);
  directory.close();
}

function openOwn(path: string): OpenDirectory | null {
  try {
    const directory = openDirectory(path, OP);
    if (isOwn(directory.stats)) return directory;
    directory.close();
  } catch {
    // It is a link or a file, or it is gone.
  }
  return null;
}

const isOwn = ({ uid, mode }: Stats): boolean => uid === process.geteuid?.() && (mode & 0o077) === 0;

/** Whether only root and this user can rename this user's files in a folder. */
const isSafe = ({ uid, mode }: Stats): boolean =>
  (uid === 0 || uid === process.geteuid?.()) && ((mode & 0o002) === 0 || (mode & 0o1000) !== 0);
