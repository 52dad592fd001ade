/**
 * Where a new archive is put together: a directory of our own (0700) beside it, or of a stream where temporary files lie.
 * Others may own the folder around it. So it is reached by its descriptor alone: whoever renames it or puts another in its
 * place moves nothing that is written, read or deleted.
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
/** What mkdtemp(3) puts behind a prefix. */
const SUFFIX = /^[A-Za-z0-9]{6}$/;
/** Before the suffix where there are no locks, so that nobody takes it for abandoned. */
const UNLOCKED = 'unlocked-';

export interface Scratch {
  /** By its descriptor. */
  readonly path: string;
  /** `error`, with the directory's name in place of its descriptor. */
  explain(error: unknown): LacunaError;
  /** The end of the process does it, too. */
  remove(): Promise<void>;
}

/** An empty directory for the archive `path`; what killed writers of the same have left is removed. */
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
  // Only where it is empty, and then nobody loses anything.
  await rmdir(made).catch(() => {});
  throw new LacunaError('PRECONDITION', `the new directory ${made} is another user's`, {
    op: OP,
    subject: path,
    hint: 'somebody replaced it, or the file system changes owners: write the archive elsewhere and move it here',
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
 * Makes a new directory ours alone. False when it is another user's: somebody has put it there. A file system that keeps
 * no modes (FAT, SMB) protects nothing; whose it is must do there.
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
      // Somebody renamed it; or what is left the next writer sweeps.
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

/** Everything in a directory of our own; then its name, which is deleted only where it is empty. */
async function removeDirectory({ path, close }: OpenDirectory, name: string): Promise<void> {
  for (const entry of await readdir(path)) await rm(join(path, entry), { recursive: true, force: true });
  await rmdir(name).catch(() => {});
  close();
}

/** Removes directories of our own that nobody has locked, where nobody else can have put them under these names. */
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
    // A link, a file, or gone.
  }
  return null;
}

const isOwn = ({ uid, mode }: Stats): boolean => uid === process.geteuid?.() && (mode & 0o077) === 0;

/** Whether only root and we can rename what is ours in a folder. */
const isSafe = ({ uid, mode }: Stats): boolean =>
  (uid === 0 || uid === process.geteuid?.()) && ((mode & 0o002) === 0 || (mode & 0o1000) !== 0);
