/** A tree as rows, one per path: what `lacuna ls --ndjson` prints. The format is docs/ls-format.md. */
import { type ByteString, bytesOf, type FileNode, sortedXattrs } from '../tree/node.ts';
import { lookup } from '../tree/resolve.ts';

/** One path. Field order is the order in which they are printed. */
export interface Row {
  /** Absolute, when its bytes are UTF-8; else `path_b64`. */
  path?: string;
  path_b64?: string;
  type: FileNode['type'];
  /** Octal, with setuid, setgid and sticky. */
  mode: string;
  uid: number;
  gid: number;
  /** Bytes; regular files only. */
  size?: number;
  mtime: { sec: number; nsec: number };
  /** Names of the inode in the whole image; of a directory 2 + its subdirectories. */
  nlink: number;
  rdev?: { major: number; minor: number };
  target?: string;
  target_b64?: string;
  /** Name → value in hex, sorted by name. Names that are not UTF-8 are in `xattrs_b64`, in base64. */
  xattrs: Record<string, string>;
  xattrs_b64?: Record<string, string>;
  /** Hex, of the content of a regular file; only where it was asked for. */
  sha256?: string;
  /** The same number where two or more names are one inode. */
  link_group?: number;
}

/** A path with its row and its node. */
export interface Listed {
  readonly path: ByteString;
  readonly node: FileNode;
  readonly row: Row;
}

export interface ListOptions {
  /** Also what is below the directories that `path` has directly in it. */
  readonly recursive: boolean;
}

/**
 * The rows of `path` (absolute, `/` = everything) and what is in it, sorted bytewise. Link counts are the whole
 * image's: counted, or, when a part of an image is listed that tells them itself, taken from it, so that the rest need
 * not be read.
 */
export function* listTree(root: FileNode, path: ByteString, options: ListOptions): Generator<Listed> {
  if (root.nlink !== undefined && (path !== '/' || !options.recursive)) {
    yield* listPart(root, path, options);
    return;
  }
  const all = pathsOf('/', root, true);
  const inodes = countNames(all);
  const below = path === '/' ? '/' : `${path}/`;
  for (const { path: here, node } of all) {
    const isInside = here.startsWith(below) && here !== below;
    const isDirect = isInside && !here.includes('/', below.length);
    if (here !== path && !isDirect && !(isInside && options.recursive)) continue;
    const names = inodes.get(node)!;
    const nlink = node.type === 'dir' ? 2 + subdirectories(node) : names.count;
    yield { path: here, node, row: rowOf(here, node, nlink, names.group) };
  }
}

/** The rows of a part of an image; nothing outside of it is looked at. */
function* listPart(root: FileNode, path: ByteString, options: ListOptions): Generator<Listed> {
  const groups = new Map<FileNode, number>();
  const start = lookup(root, path.slice(1), 'image');
  if (start === null) return;
  for (const { path: here, node } of pathsOf(path, start, options.recursive)) {
    const nlink = node.nlink!;
    const isShared = node.type !== 'dir' && nlink > 1;
    if (isShared && !groups.has(node)) groups.set(node, groups.size + 1);
    yield { path: here, node, row: rowOf(here, node, nlink, isShared ? groups.get(node)! : 0) };
  }
}

/** `path` and what is in it; with `recursive` also what is below its directories. */
function pathsOf(path: ByteString, start: FileNode, recursive: boolean): Array<{ path: ByteString; node: FileNode }> {
  const found = [{ path, node: start }];
  // Grows while it is walked.
  for (const { path: here, node } of found) {
    const prefix = here === '/' ? '/' : `${here}/`;
    if (node !== start && !recursive) break;
    for (const [name, child] of node.children ?? []) found.push({ path: prefix + name, node: child });
  }
  // Not the order of a walk: "a.b" sorts before "a/b".
  return found.sort((a, b) => (a.path < b.path ? -1 : 1));
}

interface Names {
  count: number;
  group: number;
}

/** How many names each inode has; inodes with several are numbered in the order of their first name. */
function countNames(all: ReadonlyArray<{ node: FileNode }>): Map<FileNode, Names> {
  const names = new Map<FileNode, Names>();
  for (const { node } of all) {
    const before = names.get(node);
    if (before === undefined) names.set(node, { count: 1, group: 0 });
    else before.count++;
  }
  let groups = 0;
  for (const entry of names.values()) if (entry.count > 1) entry.group = ++groups;
  return names;
}

/** `group`: 0 for an inode that has one name. */
function rowOf(path: ByteString, node: FileNode, nlink: number, group: number): Row {
  const row: Row = {
    ...named('path', path),
    type: node.type,
    mode: node.mode.toString(8).padStart(4, '0'),
    uid: node.uid,
    gid: node.gid,
    ...(node.type === 'reg' ? { size: node.size } : {}),
    mtime: { sec: node.mtime.sec, nsec: node.mtime.nsec },
    nlink,
    ...(node.rdev === null ? {} : { rdev: { major: node.rdev.major, minor: node.rdev.minor } }),
    ...(node.target === null ? {} : named('target', node.target)),
    ...xattrFields(node),
  };
  if (group > 0) row.link_group = group;
  return row;
}

function xattrFields(node: FileNode): Pick<Row, 'xattrs' | 'xattrs_b64'> {
  const fields: Pick<Row, 'xattrs' | 'xattrs_b64'> = { xattrs: {} };
  for (const [name, value] of sortedXattrs(node.xattrs)) {
    const { name: text, name_b64: base64 } = named('name', name);
    if (text !== undefined) fields.xattrs[text] = value.toString('hex');
    else fields.xattrs_b64 = { ...fields.xattrs_b64, [base64!]: value.toString('hex') };
  }
  return fields;
}

function subdirectories(node: FileNode): number {
  let count = 0;
  for (const child of node.children!.values()) if (child.type === 'dir') count++;
  return count;
}

/** A name as text; as base64 when it is not UTF-8. */
export function named<K extends string>(field: K, name: ByteString): Partial<Record<K | `${K}_b64`, string>> {
  const bytes = bytesOf(name);
  const text = bytes.toString('utf8');
  const isText = Buffer.from(text, 'utf8').equals(bytes);
  const entry = isText ? { [field]: text } : { [`${field}_b64`]: bytes.toString('base64') };
  return entry as Partial<Record<K | `${K}_b64`, string>>;
}
