/** `find`: the paths of an image that match a query, as rows. */
import { LacunaError } from '../errors.ts';
import type { OpenedImage, OpenImageOptions } from '../reader/image.ts';
import { openImage } from '../reader/open.ts';
import type { ImageInput } from '../registry/source.ts';
import type { ByteString, FileNode, Mtime, NodeType } from '../tree/node.ts';
import { fromText } from '../tree/node.ts';
import { resolvePath } from '../tree/resolve.ts';
import { type Listed, listTree, type Row } from './entries.ts';
import { globOf, type Matches } from './glob.ts';
import { noSuchPath } from './ls.ts';

/** A query; a path must match every given field. Patterns are those of `find -name`: `*`, `?`, `[…]`. */
export interface FindQuery {
  /** Pattern of the last component. */
  readonly name?: string;
  /** Pattern of the whole absolute path; `*` matches slashes too. */
  readonly wholePath?: string;
  /** Any of these types. */
  readonly types?: readonly NodeType[];
  /** Bytes of a regular file, both inclusive. */
  readonly size?: { readonly min?: number; readonly max?: number };
  /** Modified after this time, or after this path of the image. */
  readonly newer?: Mtime | string;
  /** Permission bits. */
  readonly perm?: Permissions;
  /** The owner's user id. */
  readonly uid?: number;
  /** The owner's group id. */
  readonly gid?: number;
  /** Pattern of the full name (`user.*`) of an extended attribute. */
  readonly xattr?: string;
  /** Files with content in the blob whose id (lower-case hex) begins so. Lazy images only. */
  readonly blob?: string;
  /** Regular files without content and directories without entries. */
  readonly empty?: boolean;
  /** Levels below the path that is searched; 0 is the path itself. */
  readonly maxDepth?: number;
}

/** Permission bits 0…0o7777: exactly these, all of these, or any of these. */
export interface Permissions {
  /** How `mode` is compared. */
  readonly match: 'exactly' | 'all' | 'any';
  /** Permission bits, 0…0o7777. */
  readonly mode: number;
}

/** Options of {@link find}. */
export interface FindOptions extends OpenImageOptions, FindQuery {
  /** Where to search; default `/`. Symlinks in the middle are followed. */
  readonly path?: string;
}

/** The matching rows, sorted bytewise by path. NOT_FOUND when there is no such path; USAGE for an invalid pattern. */
export async function* find(input: ImageInput, options: FindOptions = {}): AsyncGenerator<Row> {
  for await (const { row } of findListed(input, options)) yield row;
}

/** As {@link find}, with the paths as bytes. */
export async function* findListed(input: ImageInput, options: FindOptions = {}): AsyncGenerator<Listed> {
  await using image = await openImage(input, options);
  const from = resolvePath(image.root, fromText(options.path ?? '/'), false, image.subject);
  if (from === null) throw noSuchPath(options.path ?? '/', image.subject);
  const fits = testsOf(options, image, from.path);
  for (const listed of listTree(image.root, from.path, { recursive: true })) {
    if (fits.every((test) => test(listed))) yield listed;
  }
}

type Test = (listed: Listed) => boolean;

function testsOf(query: FindQuery, image: OpenedImage, from: ByteString): Test[] {
  const tests: Test[] = [];
  const { name, wholePath, types, size, newer, perm, uid, gid, xattr, blob, empty, maxDepth } = query;
  if (maxDepth !== undefined) tests.push(({ path }) => depthOf(path) - depthOf(from) <= maxDepth);
  if (types !== undefined) tests.push(({ node }) => types.includes(node.type));
  if (uid !== undefined) tests.push(({ node }) => node.uid === uid);
  if (gid !== undefined) tests.push(({ node }) => node.gid === gid);
  if (perm !== undefined) tests.push(({ node }) => hasPermissions(node.mode, perm));
  if (empty === true) tests.push(({ node }) => isEmpty(node));
  if (size !== undefined) tests.push(({ node }) => node.type === 'reg' && isWithin(node.size, size));
  if (newer !== undefined) {
    const { sec, nsec } = typeof newer === 'string' ? mtimeOf(newer, image) : newer;
    tests.push(({ node: { mtime } }) => mtime.sec > sec || (mtime.sec === sec && mtime.nsec > nsec));
  }
  if (name !== undefined) {
    const matches = globOf(name);
    tests.push(({ path }) => matches(path === '/' ? path : path.slice(path.lastIndexOf('/') + 1)));
  }
  if (wholePath !== undefined) {
    const matches = globOf(wholePath);
    tests.push(({ path }) => matches(path));
  }
  if (xattr !== undefined) {
    const matches = globOf(xattr);
    tests.push(({ node }) => hasXattr(node, matches));
  }
  if (blob !== undefined) tests.push(usesBlob(blob, image));
  return tests;
}

const depthOf = (path: ByteString): number => (path === '/' ? 0 : path.split('/').length - 1);

function hasPermissions(mode: number, { match, mode: bits }: Permissions): boolean {
  if (match === 'exactly') return mode === bits;
  // "Any of no bits" matches everything, as in find(1).
  return match === 'all' ? (mode & bits) === bits : bits === 0 || (mode & bits) !== 0;
}

function isEmpty(node: FileNode): boolean {
  return node.type === 'reg' ? node.size === 0 : node.type === 'dir' && node.children!.size === 0;
}

const isWithin = (size: number, { min = 0, max = Number.POSITIVE_INFINITY }: NonNullable<FindQuery['size']>): boolean =>
  size >= min && size <= max;

function mtimeOf(path: string, image: OpenedImage): Mtime {
  const found = resolvePath(image.root, fromText(path), true, image.subject);
  if (found === null) throw noSuchPath(path, image.subject);
  return found.node.mtime;
}

function hasXattr(node: FileNode, matches: Matches): boolean {
  for (const name of node.xattrs?.keys() ?? []) if (matches(name)) return true;
  return false;
}

function usesBlob(prefix: string, image: OpenedImage): Test {
  const usage = (problem: string, hint: string) =>
    new LacunaError('USAGE', problem, { op: 'find', subject: image.subject, hint });
  if (image.rafs === null) throw usage('an ordinary image has no blobs', 'leave the blob out');
  const ids = image.rafs.blobs.map(({ id }) => id).filter((id) => id.startsWith(prefix));
  if (ids.length !== 1) {
    throw usage(
      `${ids.length} of its blobs begin with ${JSON.stringify(prefix)}`,
      '`lacuna inspect` shows all of them',
    );
  }
  const [id] = ids;
  return ({ node }) => node.chunks.some((chunk) => chunk.blob === id);
}
