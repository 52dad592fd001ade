/** The table of mounts as the kernel shows it. Reading it never waits for a file system, dead FUSE servers included. */
import { readFile } from 'node:fs/promises';

const TABLE = '/proc/self/mountinfo';

/** One row of proc(5) mountinfo. */
export interface MountEntry {
  /** `major:minor` of the file system. */
  readonly device: string;
  /** The mountpoint. */
  readonly target: string;
  readonly fstype: string;
  /** What was mounted, as whoever mounted it said: for EROFS the image's path or its loop device. */
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
    const [, , device, , target] = fields;
    const [fstype, source, options] = fields.slice(separator + 1);
    if (separator < 0 || target === undefined || fstype === undefined || source === undefined) return [];
    return [{ device: device!, target: plain(target), fstype, source: plain(source), options: options ?? '' }];
  });
}

/** All mounts this process sees, in the order in which the kernel lists them: what covers comes after what it covers. */
export async function readMounts(): Promise<MountEntry[]> {
  return parseMountinfo(await readFile(TABLE, 'utf8'));
}

/** What is mounted exactly on `target` (an absolute path without links), the topmost; null when nothing is. */
export async function mountedAt(target: string): Promise<MountEntry | null> {
  return (await readMounts()).findLast((entry) => entry.target === target) ?? null;
}

/** Whether `path` is `folder` or lies below it. */
export const isBelow = (path: string, folder: string): boolean =>
  path === folder || path.startsWith(folder.endsWith('/') ? folder : `${folder}/`);

/** Undoes the octal escapes of space, tab, newline and backslash. Bytes that are no UTF-8 are lost, as in the text. */
function plain(field: string): string {
  return field.replace(/\\([0-3][0-7]{2})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
