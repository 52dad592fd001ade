/**
 * Trees as rows, one per path, and what differs between two of them. The rows come from `walk.py`, from the `truth/`
 * files of the fixtures or from `lacuna ls --recursive --ndjson`; all have the same fields.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

export interface Row {
  readonly path?: string;
  /** Instead of `path` when its bytes are not UTF-8. */
  readonly path_b64?: string;
  readonly type: string;
  /** Octal, with setuid, setgid, sticky. */
  readonly mode: string;
  readonly uid: number;
  readonly gid: number;
  readonly size?: number;
  /** null: not specified. */
  readonly mtime: { readonly sec: number; readonly nsec: number } | null;
  readonly nlink: number;
  readonly rdev?: { readonly major: number; readonly minor: number };
  readonly target?: string;
  readonly target_b64?: string;
  /** Name → value in hex. */
  readonly xattrs?: Readonly<Record<string, string>>;
  readonly sha256?: string;
  /** Equal numbers are one inode; the numbers themselves mean nothing. */
  readonly link_group?: number;
  /** A directory without an entry in any layer: its time is not specified. */
  readonly implicit?: boolean;
  /** A directory whose children a later layer changed without listing it: tools differ about its time. */
  readonly touched?: boolean;
}

export const parseRows = (text: string): Row[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Row);

export const readRows = (path: string | URL): Row[] => parseRows(readFileSync(path, 'utf8'));

const WALK = fileURLToPath(new URL('./walk.py', import.meta.url));

export interface WalkOptions {
  /** Read and hash file contents. Default true. */
  readonly digest?: boolean;
  /** Pass over names that are listed and not there: overlayfs lists whiteouts where there is nothing to hide. */
  readonly skipMissing?: boolean;
  readonly signal?: AbortSignal;
}

/** The rows of a directory as an independent program sees it. */
export async function walk(directory: string, options: WalkOptions = {}): Promise<Row[]> {
  const flags = [
    ...(options.digest === false ? ['--no-digest'] : []),
    ...(options.skipMissing === true ? ['--skip-missing'] : []),
  ];
  const { stdout } = await promisify(execFile)('python3', [WALK, ...flags, directory], {
    maxBuffer: 1 << 30,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  return parseRows(stdout);
}

/** Whether two times count as equal. */
export type TimeRule = (expected: Row, actual: Row) => boolean;

/** Equal to the nanosecond. */
export const exactTime: TimeRule = ({ mtime: a }, { mtime: b }) =>
  a === null || (b !== null && a.sec === b.sec && a.nsec === b.nsec);

/** As Nydus's reader shows an image: it takes a time of 0 for "unknown" and shows the time of mounting. */
export const nydusReaderTime: TimeRule = (expected, actual) => expected.mtime?.sec === 0 || exactTime(expected, actual);

/** As nydus-image writes it: whole seconds of the ustar header, so times before 1970 that need a pax record become 0. */
export const nydusImageTime: TimeRule = ({ mtime: a }, { mtime: b }) => a === null || a.sec <= 0 || a.sec === b?.sec;

export interface DiffOptions {
  /** Applied where the expected row's time is specified. Default {@link exactTime}. */
  readonly time?: TimeRule;
  /** Overlayfs reports 1 for every merged directory. Default true: directories' link counts count. */
  readonly directoryLinks?: boolean;
  /** Fields to leave out. */
  readonly ignore?: readonly (keyof Row)[];
}

const FIELDS = [
  'type',
  'mode',
  'uid',
  'gid',
  'size',
  'nlink',
  'rdev',
  'target',
  'target_b64',
  'xattrs',
  'sha256',
] as const;

const keyOf = (row: Row): string => (row.path === undefined ? `base64:${row.path_b64}` : JSON.stringify(row.path));

function stable(value: unknown): string {
  if (value === null || typeof value !== 'object') return JSON.stringify(value) ?? 'absent';
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, field]) => `${key}:${stable(field)}`).join(',')}}`;
}

/** For every path of a hard-link group the names of the group, so that two numberings compare. */
function linkNames(rows: readonly Row[]): Map<string, string> {
  const groups = new Map<number, string[]>();
  for (const row of rows) {
    if (row.link_group === undefined) continue;
    const group = groups.get(row.link_group);
    if (group === undefined) groups.set(row.link_group, [keyOf(row)]);
    else group.push(keyOf(row));
  }
  const names = new Map<string, string>();
  for (const group of groups.values()) {
    group.sort();
    for (const key of group) names.set(key, group.join(' = '));
  }
  return names;
}

/** Every difference, one line each: empty when the trees are equal. `sha256` counts only where both sides have it. */
export function diffTrees(expected: readonly Row[], actual: readonly Row[], options: DiffOptions = {}): string[] {
  const { time = exactTime, directoryLinks = true, ignore = [] } = options;
  const differences: string[] = [];
  const links = [linkNames(expected), linkNames(actual)] as const;
  const rest = new Map(actual.map((row) => [keyOf(row), row]));
  if (rest.size !== actual.length) differences.push('actual: a path is listed twice');
  for (const row of expected) {
    const key = keyOf(row);
    const other = rest.get(key);
    if (other === undefined) {
      differences.push(`${key}: missing`);
      continue;
    }
    rest.delete(key);
    const differ = (field: string, wanted: unknown, got: unknown): void =>
      void differences.push(`${key}: ${field} is ${stable(got)}, expected ${stable(wanted)}`);
    for (const field of FIELDS) {
      if (ignore.includes(field)) continue;
      if (field === 'nlink' && row.type === 'dir' && !directoryLinks) continue;
      if (field === 'sha256' && (row.sha256 === undefined || other.sha256 === undefined)) continue;
      const [wanted, got] = field === 'xattrs' ? [row.xattrs ?? {}, other.xattrs ?? {}] : [row[field], other[field]];
      if (stable(wanted) !== stable(got)) differ(field, wanted, got);
    }
    const timed = row.mtime !== null && row.implicit !== true && row.touched !== true && !ignore.includes('mtime');
    if (timed && !time(row, other)) differ('mtime', row.mtime, other.mtime);
    if (!ignore.includes('link_group') && links[0].get(key) !== links[1].get(key)) {
      differ('link group', links[0].get(key), links[1].get(key));
    }
  }
  for (const key of rest.keys()) differences.push(`${key}: not expected`);
  return differences;
}
