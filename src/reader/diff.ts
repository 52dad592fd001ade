/** `diff`: what differs between the trees of two images, whatever each is made of. */
import type { ByteString, FileChunk, FileNode } from '../tree/node.ts';
import { ahead } from './ahead.ts';
import { Digests, HASHED_AT_ONCE } from './digests.ts';
import type { OpenedImage, OpenImageOptions } from './image.ts';
import { openImage } from './open.ts';
import { type Listed, listTree, named, type Row } from './rows.ts';

/** What can be left out of a comparison. `owner`: user and group; `links`: which names are one inode. */
export const IGNORABLE = ['mtime', 'owner', 'mode', 'xattrs', 'links'] as const;
export type Ignorable = (typeof IGNORABLE)[number];

export interface DiffOptions extends OpenImageOptions {
  readonly ignore?: readonly Ignorable[];
}

/** One path that is not the same in both images. */
export interface Difference {
  readonly kind: 'added' | 'removed' | 'changed';
  /** Absolute, when its bytes are UTF-8; else `path_b64`. */
  readonly path?: string;
  readonly path_b64?: string;
  /** In the second image; in the first one where it was removed. */
  readonly type: Row['type'];
  /** Of a changed path, else empty. */
  readonly changes: readonly FieldChange[];
}

export interface FieldChange {
  /**
   * A field of the row; `content`: hex sha256, null where differing chunks told as much without reading; `xattrs`: those
   * that differ, values in hex; `links`: all names of its inode, sorted.
   */
  readonly field: keyof Row | 'content' | 'links';
  /** Null where there is none. */
  readonly from: unknown;
  readonly to: unknown;
}

/**
 * The paths that differ, sorted bytewise. Content of two lazy images is compared by their chunks; otherwise sizes come
 * first, then hashes: an ordinary image is read once, of a lazy one only the files in question.
 */
export async function* diff(a: string, b: string, options: DiffOptions = {}): AsyncGenerator<Difference> {
  // The layers of an ordinary image are read once, whatever is asked of them later.
  await using first = await openImage(a, { ...options, digests: true });
  await using second = await openImage(b, { ...options, digests: true });
  yield* diffImages(first, second, options);
}

/** As {@link diff}, of images that are open already. Ordinary ones should have been opened with `digests`. */
export async function* diffImages(
  first: OpenedImage,
  second: OpenedImage,
  options: Pick<DiffOptions, 'ignore' | 'signal'> = {},
): AsyncGenerator<Difference> {
  await using digests = new BothDigests(first, second, options.signal);
  const ignored = new Set(options.ignore);
  const links = ignored.has('links') ? null : ([linkNames(first.root), linkNames(second.root)] as const);
  const compared = ahead(pairsOf(first.root, second.root), HASHED_AT_ONCE, async ({ from, to }) => {
    if (from === null) return { kind: 'added' as const, ...named('path', to.path), type: to.node.type, changes: [] };
    if (to === null)
      return { kind: 'removed' as const, ...named('path', from.path), type: from.node.type, changes: [] };
    const changes = fieldChanges(from.row, to.row, ignored);
    changes.push(...(await digests.compare(from.node, to.node)));
    if (links !== null) changes.push(...changeOf('links', links[0].get(from.node), links[1].get(to.node)));
    return { kind: 'changed' as const, ...named('path', to.path), type: to.node.type, changes };
  });
  for await (const difference of compared) {
    if (difference.kind !== 'changed' || difference.changes.length > 0) yield difference;
  }
}

type Pair = { from: Listed; to: Listed } | { from: Listed; to: null } | { from: null; to: Listed };

/** The paths of both trees side by side: both listings are sorted. */
function* pairsOf(a: FileNode, b: FileNode): Generator<Pair> {
  const everything = { recursive: true };
  const lefts = listTree(a, '/', everything);
  const rights = listTree(b, '/', everything);
  let left = lefts.next();
  let right = rights.next();
  while (!left.done || !right.done) {
    if (right.done || (!left.done && left.value.path < right.value.path)) {
      yield { from: left.value!, to: null };
      left = lefts.next();
    } else if (left.done || right.value.path < left.value.path) {
      yield { from: null, to: right.value };
      right = rights.next();
    } else {
      yield { from: left.value, to: right.value };
      left = lefts.next();
      right = rights.next();
    }
  }
}

/** Row field → what it is called when it is to be ignored. Link counts follow from the names, and are not compared. */
const FIELDS: ReadonlyArray<readonly [field: keyof Row, ignored: Ignorable | null]> = [
  ['type', null],
  ['mode', 'mode'],
  ['uid', 'owner'],
  ['gid', 'owner'],
  ['size', null],
  ['mtime', 'mtime'],
  ['rdev', null],
  ['target', null],
  ['target_b64', null],
];

function fieldChanges(from: Row, to: Row, ignored: ReadonlySet<string>): FieldChange[] {
  const changes = FIELDS.flatMap(([field, name]) =>
    name !== null && ignored.has(name) ? [] : changeOf(field, from[field], to[field]),
  );
  if (!ignored.has('xattrs')) {
    changes.push(...recordChange('xattrs', from.xattrs, to.xattrs));
    changes.push(...recordChange('xattrs_b64', from.xattrs_b64, to.xattrs_b64));
  }
  return changes;
}

function changeOf(field: FieldChange['field'], from: unknown, to: unknown): FieldChange[] {
  // Plain data whose keys always come in the same order.
  if (JSON.stringify(from) === JSON.stringify(to)) return [];
  return [{ field, from: from ?? null, to: to ?? null }];
}

function recordChange(
  field: FieldChange['field'],
  from: Readonly<Record<string, string>> = {},
  to: Readonly<Record<string, string>> = {},
): FieldChange[] {
  const without = (record: Readonly<Record<string, string>>, other: Readonly<Record<string, string>>) =>
    Object.fromEntries(Object.entries(record).filter(([name, value]) => other[name] !== value));
  return changeOf(field, without(from, to), without(to, from));
}

/** Of every inode with several names all of them, sorted. */
function linkNames(root: FileNode): Map<FileNode, string[]> {
  const names = new Map<FileNode, string[]>();
  for (const { path, node, row } of listTree(root, '/', { recursive: true })) {
    if (row.link_group === undefined) continue;
    const shown = nameOf(path);
    const known = names.get(node);
    if (known === undefined) names.set(node, [shown]);
    else known.push(shown);
  }
  return names;
}

/** A path as text; where it is none, as base64 with a mark that no absolute path has. */
function nameOf(path: ByteString): string {
  const { path: text, path_b64: base64 } = named('path', path);
  return text ?? `base64:${base64}`;
}

/** Compares content, with as little reading as possible. */
class BothDigests implements AsyncDisposable {
  readonly #from: Digests;
  readonly #to: Digests;

  constructor(from: OpenedImage, to: OpenedImage, signal?: AbortSignal) {
    this.#from = new Digests(from, signal);
    this.#to = new Digests(to, signal);
  }

  async compare(from: FileNode, to: FileNode): Promise<FieldChange[]> {
    // Of another size is another content, and that is told already.
    if (from.type !== 'reg' || to.type !== 'reg' || from.size !== to.size || from.size === 0) return [];
    const verdict = compareChunks(from.chunks, to.chunks);
    if (verdict !== null) return verdict ? [] : [{ field: 'content', from: null, to: null }];
    return changeOf('content', ...(await Promise.all([this.#from.of(from), this.#to.of(to)])));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#from[Symbol.asyncDispose]();
    await this.#to[Symbol.asyncDispose]();
  }
}

/**
 * Whether two files of one size are equal, by digests of the same kind over the same pieces; null where they are not
 * comparable.
 */
function compareChunks(from: readonly FileChunk[], to: readonly FileChunk[]): boolean | null {
  if (from.length !== to.length || from.length === 0) return null;
  const isComparable = from.every(
    (chunk, i) =>
      chunk.digester === to[i]!.digester &&
      chunk.uncompressedSize === to[i]!.uncompressedSize &&
      // Those of tarfs have none.
      chunk.digest.length > 0 &&
      to[i]!.digest.length > 0,
  );
  return isComparable ? from.every((chunk, i) => chunk.digest.equals(to[i]!.digest)) : null;
}
