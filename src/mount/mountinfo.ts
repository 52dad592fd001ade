/** The table of mounts as the kernel shows it. Reading it never waits for a file system, dead FUSE servers included. */
import { readdir, readFile, readlink } from 'node:fs/promises';

const TABLE = '/proc/self/mountinfo';

/** One row of proc(5) mountinfo. */
export interface MountEntry {
  /** `major:minor` of the file system. */
  readonly device: string;
  /** The directory of that file system that is mounted. */
  readonly root: string;
  /** The mountpoint. */
  readonly target: string;
  readonly fstype: string;
  /** The mount's source: for EROFS the image's path or its loop device. */
  readonly source: string;
  /** Options of the file system, undivided. */
  readonly options: string;
}

/** The rows of a mountinfo text; lines of another form are left out. */
export function parseMountinfo(text: string): MountEntry[] {
  return text.split('\n').flatMap((line) => {
    // ID parent major:minor root target options [tags…] - fstype source options
    const fields = line.split(' ');
    const separator = fields.indexOf('-', 6);
    const [, , device, root, target] = fields;
    const [fstype, source, options] = fields.slice(separator + 1);
    if (separator < 0 || target === undefined || fstype === undefined || source === undefined) return [];
    const paths = { root: plain(root!), target: plain(target), source: plain(source) };
    return [{ device: device!, ...paths, fstype, options: plain(options ?? '') }];
  });
}

/** All mounts this process sees, in the order in which the kernel lists them: what covers comes after what it covers. */
export async function readMounts(): Promise<MountEntry[]> {
  return parseMountinfo(await readFile(TABLE, 'utf8'));
}

/** The tables of other mount namespaces, each by a process that is in it. Processes that end meanwhile are left out. */
export async function readForeignMounts(): Promise<Map<number, MountEntry[]>> {
  const seen = new Set([await readlink('/proc/self/ns/mnt').catch(() => '')]);
  const tables = new Map<number, MountEntry[]>();
  for (const pid of (await readdir('/proc')).filter((name) => /^[0-9]+$/.test(name))) {
    const namespace = await readlink(`/proc/${pid}/ns/mnt`).catch(() => '');
    if (namespace === '' || seen.has(namespace)) continue;
    const text = await readFile(`/proc/${pid}/mountinfo`, 'utf8').catch(() => '');
    if (text === '') continue;
    seen.add(namespace);
    tables.set(Number(pid), parseMountinfo(text));
  }
  return tables;
}

/** The topmost mount exactly on `target` (an absolute path without links); null when nothing is mounted there. */
export async function mountedAt(target: string): Promise<MountEntry | null> {
  return (await readMounts()).findLast((entry) => entry.target === target) ?? null;
}

/** Whether `path` is `folder` or lies below it. */
export const isBelow = (path: string, folder: string): boolean =>
  path === folder || path.startsWith(folder.endsWith('/') ? folder : `${folder}/`);

/** Undoes the octal escapes of space, tab, newline and backslash. Bytes that are not UTF-8 are lost, as in the text. */
function plain(field: string): string {
  return field.replace(/\\([0-3][0-7]{2})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
