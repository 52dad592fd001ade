/** A tree as rows, one per path: what `lacuna ls --ndjson` prints. The format is docs/ls-format.md. */
import { type ByteString, bytesOf, type FileNode, sortedXattrs } from '../tree/node.ts';
import { lookup } from '../tree/resolve.ts';

/** One path. Field order is the order in which they are printed. */
export interface Row {
  /** Absolute, when its bytes are UTF-8; else `path_b64`. */
  path?: string;
  /** The path's bytes in base64, when they are not UTF-8. */
  path_b64?: string;
  /** The type of the inode. */
  type: FileNode['type'];
  /** Octal, with setuid, setgid and sticky. */
  mode: string;
  /** The owner's user id. */
  uid: number;
  /** The owner's group id. */
  gid: number;
  /** Bytes; regular files only. */
  size?: number;
  /** Time of the last change: seconds since 1970, floored and perhaps negative, and nanoseconds. */
  mtime: { sec: number; nsec: number };
  /** Names of the inode in the whole image; of a directory 2 + its subdirectories. */
  nlink: number;
  /** Device number; `char` and `block` only. */
  rdev?: { major: number; minor: number };
  /** Target of a symlink, when its bytes are UTF-8; else `target_b64`. */
  target?: string;
  /** The target's bytes in base64, when they are not UTF-8. */
  target_b64?: string;
  /** Name → value in hex, sorted by name. Names that are not UTF-8 are in `xattrs_b64`, in base64. */
  xattrs: Record<string, string>;
  /** Extended attributes whose names are not UTF-8: name in base64 → value in hex. */
  xattrs_b64?: Record<string, string>;
  /** Hex, of the content of a regular file; only where it was asked for. */
  sha256?: string;
  /** The same number where two or more names are one inode. */
  link_group?: number;
  /** Digest of the layer that it is from; only where it was asked for and is known. */
  layer?: string;
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
  const start = lookup(root, path.slice(1), 'image');
  if (start === null) return;
  const isToldLinks = root.nlink !== undefined && (path !== '/' || !options.recursive);
  const counted = isToldLinks ? null : countNames(root);
  const groups = new Map<FileNode, number>();
  for (const { path: here, node } of pathsOf(path, start, options.recursive)) {
    const nlink =
      counted === null ? node.nlink! : node.type === 'dir' ? directoryLinks(node) : (counted.get(node) ?? 1);
    const isShared = node.type !== 'dir' && nlink > 1;
    if (isShared && !groups.has(node)) groups.set(node, groups.size + 1);
    yield { path: here, node, row: rowOf(here, node, nlink, isShared ? groups.get(node)! : 0) };
  }
}

/** The listing of one directory: names, and names with a slash for the paths below them, in the order of paths. */
interface Level {
  readonly prefix: ByteString;
  readonly children: NonNullable<FileNode['children']>;
  readonly steps: readonly ByteString[];
  at: number;
}

function levelOf(prefix: ByteString, children: Level['children'], recursive: boolean): Level {
  const steps: ByteString[] = [];
  for (const [name, { type }] of children) {
    steps.push(name);
    if (recursive && type === 'dir') steps.push(`${name}/`);
  }
  return { prefix, children, steps: steps.sort(), at: 0 };
}

/**
 * `path` and what is in it; with `recursive` also what is below its directories. Not the order of a walk: "a.b" sorts
 * before "a/b". Only the directories on the way to a path are held.
 */
function* pathsOf(
  path: ByteString,
  start: FileNode,
  recursive: boolean,
): Generator<{ readonly path: ByteString; readonly node: FileNode }> {
  yield { path, node: start };
  if (start.children === null) return;
  const levels = [levelOf(path === '/' ? '/' : `${path}/`, start.children, recursive)];
  for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
    const step = level.steps[level.at++];
    if (step === undefined) levels.pop();
    else if (step.endsWith('/')) {
      levels.push(levelOf(level.prefix + step, level.children.get(step.slice(0, -1))!.children!, recursive));
    } else yield { path: level.prefix + step, node: level.children.get(step)! };
  }
}

/** How many names those inodes have that have several; directories have one. */
function countNames(root: FileNode): ReadonlyMap<FileNode, number> {
  const seen = new Set<FileNode>();
  const several = new Map<FileNode, number>();
  const directories = [root];
  for (let directory = directories.pop(); directory !== undefined; directory = directories.pop()) {
    for (const node of directory.children!.values()) {
      if (node.type === 'dir') directories.push(node);
      else if (seen.has(node)) several.set(node, (several.get(node) ?? 1) + 1);
      else seen.add(node);
    }
  }
  return several;
}

/** Its name, its own `.`, and the `..` of its subdirectories. */
function directoryLinks(node: FileNode): number {
  let count = 2;
  for (const child of node.children!.values()) if (child.type === 'dir') count++;
  return count;
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

/** A name as text; as base64 when it is not UTF-8. */
export function named<K extends string>(field: K, name: ByteString): Partial<Record<K | `${K}_b64`, string>> {
  const bytes = bytesOf(name);
  const text = bytes.toString('utf8');
  const isText = Buffer.from(text, 'utf8').equals(bytes);
  const entry = isText ? { [field]: text } : { [`${field}_b64`]: bytes.toString('base64') };
  return entry as Partial<Record<K | `${K}_b64`, string>>;
}
