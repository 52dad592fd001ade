/**
 * Files and directories that others may have put there. Only regular files are opened: a pipe would block one of
 * the few threads for files beyond any deadline, some devices act when they are opened, others never end.
 */
import { closeSync, constants, existsSync, fstatSync, openSync, type Stats } from 'node:fs';
import { type FileHandle, open, readlink, realpath, stat } from 'node:fs/promises';
import { basename, sep } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FormatError, isLacunaError, LacunaError, type LacunaErrorOptions, toLacunaError } from './errors.ts';

/** A pipe that took a file's place between two looks must not block either. */
export const READ_FLAGS = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;

export interface FilePurpose {
  readonly op: string;
  /** For messages; default: the path. */
  readonly subject?: string;
  readonly hint?: string;
  /** Milliseconds that a named pipe may be silent. Default: {@link MAX_PIPE_SILENCE}. */
  readonly silence?: number;
  /**
   * The folder that the file belongs to, where its name comes from what lies there and not from the user. Links that lead
   * out of a stranger's folder are then followed only to files of the same stranger.
   */
  readonly within?: string;
}

export interface OpenFile extends AsyncDisposable {
  readonly file: FileHandle;
  /** Bytes. */
  readonly size: number;
}

/** Bytes of the regular file at `path`, which is not opened. Errors as {@link openRegular}. */
export async function sizeOfRegular(path: string, purpose: FilePurpose): Promise<number> {
  try {
    const stats = await stat(path);
    refuseOthers(stats, path, purpose);
    return stats.size;
  } catch (error) {
    throw failed(error, path, purpose);
  }
}

/** Opens a regular file for reading. NOT_FOUND; USAGE, or FORMAT within a folder, for anything else that is there. */
export async function openRegular(path: string, purpose: FilePurpose): Promise<OpenFile> {
  try {
    const { within } = purpose;
    const [there, folder] = await Promise.all([stat(path), within === undefined ? null : stat(within)]);
    refuseOthers(there, path, purpose);
    const file = await open(path, READ_FLAGS);
    try {
      const stats = await file.stat();
      refuseOthers(stats, path, purpose);
      if (folder !== null && !mayLeadOut(folder, stats)) await refuseEscape(file, path, purpose, folder);
      return { file, size: stats.size, [Symbol.asyncDispose]: () => file.close() };
    } catch (error) {
      await file.close();
      throw error;
    }
  } catch (error) {
    throw failed(error, path, purpose);
  }
}

/** The content of a regular file. Errors as {@link openRegular}, and FORMAT when it has more than `limit` bytes. */
export async function readRegular(path: string, limit: number, purpose: FilePurpose): Promise<Buffer> {
  await using opened = await openRegular(path, purpose);
  const { file, size } = opened;
  if (size > limit) throw tooLarge(limit, path, purpose);
  const bytes = Buffer.allocUnsafeSlow(size);
  let at = 0;
  while (at < size) {
    const { bytesRead } = await file.read(bytes, at, size - at, at);
    // It was cut meanwhile.
    if (bytesRead === 0) break;
    at += bytesRead;
  }
  return bytes.subarray(0, at);
}

/** Bytes of a file of unknown length that are read at once. */
const PIECE = 64 * 1024;
/** Milliseconds between two reads of a pipe: waiting in read(2) would take a thread. */
const PIPE_POLL = 10;
/** Milliseconds that a named pipe may have no writer, or one that writes nothing. */
const MAX_PIPE_SILENCE = 30_000;

/**
 * The text of a small file that the user names. It may also be `/dev/null`, a pipe of the shell (`<(…)`), or a named pipe.
 * FORMAT when it has more than `limit` bytes, TIMEOUT when a named pipe is silent.
 */
export async function readNamed(path: string, limit: number, purpose: FilePurpose): Promise<string> {
  try {
    await using file = await open(path, READ_FLAGS);
    const pieces: Buffer[] = [];
    let size = 0;
    for await (const piece of piecesOf(file, await patienceWith(file, path, purpose), aboutOf(path, purpose))) {
      size += piece.length;
      if (size > limit) throw tooLarge(limit, path, purpose);
      pieces.push(piece);
    }
    return Buffer.concat(pieces).toString('utf8');
  } catch (error) {
    throw failed(error, path, purpose);
  }
}

/** How long a file may give nothing, in milliseconds. Infinite for a pipe of the shell, which ends with its writer. */
async function patienceWith(file: FileHandle, path: string, { silence = MAX_PIPE_SILENCE }: FilePurpose) {
  const isPipe = (await file.stat()).isFIFO();
  const isNamed = isPipe && !UNNAMED_PIPE.test(await realPathOf(file, path).catch(() => path));
  return isNamed ? silence : Number.POSITIVE_INFINITY;
}

/** Names of anonymous pipes, on Linux and elsewhere. */
const UNNAMED_PIPE = /^(?:pipe:|\/dev\/fd\/)/;

async function* piecesOf(file: FileHandle, patience: number, about: LacunaErrorOptions): AsyncGenerator<Buffer> {
  // Before its first writer a named pipe reads as if it were at its end.
  let isWritten = patience === Number.POSITIVE_INFINITY;
  let last = performance.now();
  for (;;) {
    const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(PIECE), 0, PIECE, null).catch(nothingYet);
    if (bytesRead === 0 && isWritten) return;
    isWritten ||= bytesRead !== 0;
    if (bytesRead > 0) {
      yield buffer.subarray(0, bytesRead);
      last = performance.now();
    } else if (performance.now() - last > patience) {
      throw new LacunaError('TIMEOUT', `the named pipe was silent for ${patience / 1000} s`, about);
    } else {
      await sleep(PIPE_POLL);
    }
  }
}

/** A pipe whose writer is slow. */
function nothingYet(error: NodeJS.ErrnoException): { buffer: Buffer; bytesRead: number } {
  if (error.code === 'EAGAIN') return { buffer: Buffer.alloc(0), bytesRead: -1 };
  throw error;
}

/** For `catch`: `value` in place of what is not there. */
export const whenMissing =
  <T>(value: T) =>
  (error: unknown): T => {
    if (isLacunaError(error) && error.code === 'NOT_FOUND') return value;
    throw error;
  };

/** A directory by its descriptor: what lies below `path` lies in it, whatever is renamed or replaced meanwhile. */
export interface OpenDirectory {
  readonly fd: number;
  readonly path: string;
  readonly stats: Stats;
  close(): void;
}

/** Opens a directory, not a link to one. NOT_FOUND, SYSTEM; UNSUPPORTED on a Linux without /proc. */
export function openDirectory(path: string, op: string): OpenDirectory {
  try {
    assertDescriptorPaths(op, path);
    const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    let isOpen = true;
    return {
      fd,
      // Elsewhere than on Linux a descriptor has no path.
      path: process.platform === 'linux' ? `${DESCRIPTORS}/${fd}` : path,
      stats: fstatSync(fd),
      close: () => {
        if (isOpen) closeSync(fd);
        isOpen = false;
      },
    };
  } catch (cause) {
    throw toLacunaError(cause, { op, subject: path });
  }
}

/** Where Linux shows the open files of a process by their descriptors. */
const DESCRIPTORS = '/proc/self/fd';

/** A chroot often has no /proc. */
function assertDescriptorPaths(op: string, subject: string): void {
  if (process.platform !== 'linux' || existsSync(DESCRIPTORS)) return;
  const hint = 'mount -t proc proc /proc';
  throw new LacunaError('UNSUPPORTED', 'this needs /proc, which is not mounted here', { op, subject, hint });
}

const aboutOf = (path: string, { op, subject = path, hint }: FilePurpose) => ({
  op,
  subject,
  ...(hint === undefined ? {} : { hint }),
});

function failed(error: unknown, path: string, purpose: FilePurpose): LacunaError {
  const about = { ...aboutOf(path, purpose), cause: error };
  const code = error instanceof Error && 'code' in error ? error.code : '';
  if (code === 'ENOTDIR') return new LacunaError('NOT_FOUND', `no such file: ${path}`, about);
  if (code === 'ELOOP') return new FormatError(basename(path), 'a loop of links', about);
  return toLacunaError(error, about);
}

function refuseOthers(stats: Stats, path: string, purpose: FilePurpose): void {
  if (stats.isFile()) return;
  const problem = `${KINDS.find(([, is]) => is(stats))?.[0] ?? 'a special file'}, not a regular file`;
  const about = aboutOf(path, purpose);
  if (purpose.within === undefined) throw new LacunaError('USAGE', `${path} is ${problem}`, about);
  throw new FormatError(basename(path), problem, about);
}

const KINDS: readonly (readonly [name: string, is: (stats: Stats) => boolean])[] = [
  ['a directory', (stats) => stats.isDirectory()],
  ['a named pipe', (stats) => stats.isFIFO()],
  ['a socket', (stats) => stats.isSocket()],
  ['a device', (stats) => stats.isCharacterDevice() || stats.isBlockDevice()],
];

/**
 * A user who can write into a folder can make a link there to a file that only the reader may read. Links that stay in
 * the folder are allowed, as are links by the reader or root, and links to files that the folder's owner could copy.
 */
const mayLeadOut = (folder: Stats, file: Stats): boolean =>
  isOurs(folder) || (isStranger(folder.uid) && file.uid === folder.uid);

async function refuseEscape(file: FileHandle, path: string, purpose: FilePurpose, folder: Stats): Promise<void> {
  assertDescriptorPaths(purpose.op, path);
  const [real, root] = await Promise.all([realPathOf(file, path), realpath(purpose.within!)]);
  if (real.startsWith(root.endsWith(sep) ? root : `${root}${sep}`)) return;
  const [reason, hint] = isStranger(folder.uid)
    ? [`belongs to user ${folder.uid}, to whom that file does not`, 'copy the file into the directory']
    : ['can be written by every user', `chmod o-w ${root}`];
  const problem = `a link to ${real}, out of a directory that ${reason}`;
  throw new FormatError(basename(path), problem, { hint, ...aboutOf(path, purpose) });
}

const isStranger = (uid: number): boolean => uid !== 0 && uid !== process.geteuid?.();

/** Whether only root and we can put something into a folder. */
const isOurs = ({ uid, mode }: Stats): boolean => !isStranger(uid) && (mode & 0o002) === 0;

const realPathOf = (file: FileHandle, path: string): Promise<string> =>
  process.platform === 'linux' ? readlink(`${DESCRIPTORS}/${file.fd}`) : realpath(path);

const tooLarge = (limit: number, path: string, purpose: FilePurpose): FormatError =>
  new FormatError(basename(path), `larger than ${limit} bytes`, aboutOf(path, purpose));
