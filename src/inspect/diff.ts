/** `diff`: compares the trees of two images, ordinary or lazy. */

import type { DigestsOptions, OpenedImage, OpenImageOptions } from '../reader/image.ts';
import { openImage } from '../reader/open.ts';
import type { ImageInput } from '../registry/source.ts';
import type { ByteString, FileChunk, FileNode } from '../tree/node.ts';
import { batchesOf, HASHED_TOGETHER } from './batches.ts';
import { type Listed, listTree, named, type Row } from './entries.ts';

/** Parts that a comparison can ignore. `owner`: user and group; `links`: which names are one inode. */
export const IGNORABLE = ['mtime', 'owner', 'mode', 'xattrs', 'links'] as const;

/** A group of attributes that {@link diff} can ignore. */
export type Ignorable = (typeof IGNORABLE)[number];

/** Options of {@link diff}. */
export interface DiffOptions extends OpenImageOptions {
  /** Parts that are not compared. Default: none. */
  readonly ignore?: readonly Ignorable[];
}

/** One path that is not the same in both images. */
export interface Difference {
  /** Whether the path is only in the second image, only in the first one, or differs. */
  readonly kind: 'added' | 'removed' | 'changed';
  /** Absolute, when its bytes are UTF-8; else `path_b64`. */
  readonly path?: string;
  /** The path's bytes in base64, when they are not UTF-8. */
  readonly path_b64?: string;
  /** In the second image; in the first one where it was removed. */
  readonly type: Row['type'];
  /** Of a changed path, else empty. */
  readonly changes: readonly FieldChange[];
}

/** One attribute of a path that differs. */
export interface FieldChange {
  /**
   * A field of the row; `content`: hex sha256, null where differing chunks made reading unnecessary; `xattrs`: those
   * that differ, values in hex; `links`: all names of its inode, sorted.
   */
  readonly field: keyof Row | 'content' | 'links';
  /** Null where there is none. */
  readonly from: unknown;
  /** The value in the second image; null where there is none. */
  readonly to: unknown;
}

/**
 * The paths that differ, sorted bytewise. Content of two lazy images is compared by their chunks; otherwise sizes come
 * first, then hashes: an ordinary image is read once, of a lazy one only the files in question.
 */
export async function* diff(a: ImageInput, b: ImageInput, options: DiffOptions = {}): AsyncGenerator<Difference> {
  // The layers of an ordinary image are read once, including all digests.
  await using first = await openImage(a, { ...options, digests: true });
  await using second = await openImage(b, { ...options, digests: true });
  yield* diffImages(first, second, options);
}

/** As {@link diff}, of images that are open already. Ordinary ones should have been opened with `digests`. */
export async function* diffImages(
  first: OpenedImage,
  second: OpenedImage,
  options: Pick<DiffOptions, 'ignore' | 'signal' | 'onProgress'> = {},
): AsyncGenerator<Difference> {
  const ignored = new Set(options.ignore);
  const links = ignored.has('links') ? null : ([linkNames(first.root), linkNames(second.root)] as const);
  for (const batch of batchesOf(pairsOf(first.root, second.root), HASHED_TOGETHER)) {
    const contents = await compareContents(first, second, batch, options);
    for (const pair of batch) {
      const { from, to } = pair;
      if (from === null) yield { kind: 'added', ...named('path', to.path), type: to.node.type, changes: [] };
      else if (to === null) yield { kind: 'removed', ...named('path', from.path), type: from.node.type, changes: [] };
      else {
        const changes = fieldChanges(from.row, to.row, ignored);
        changes.push(...(contents.get(pair) ?? []));
        if (links !== null) changes.push(...changeOf('links', links[0].get(from.node), links[1].get(to.node)));
        if (changes.length > 0) yield { kind: 'changed', ...named('path', to.path), type: to.node.type, changes };
      }
    }
  }
}

type Both = { from: Listed; to: Listed };
type Pair = Both | { from: Listed; to: null } | { from: null; to: Listed };

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

/** All names of every inode that has several, sorted. */
function linkNames(root: FileNode): Map<FileNode, string[]> {
  const names = new Map<FileNode, string[]>();
  for (const { path, node, row } of listTree(root, '/', { recursive: true })) {
    if (row.link_group === undefined) continue;
    const shown = nameOf(path);
    const others = names.get(node);
    if (others === undefined) names.set(node, [shown]);
    else others.push(shown);
  }
  return names;
}

/** A path as text; where it is none, as base64 with a mark that no absolute path has. */
function nameOf(path: ByteString): string {
  const { path: text, path_b64: base64 } = named('path', path);
  return text ?? `base64:${base64}`;
}

/** The pairs whose content differs, with as little reading as possible: sizes, then chunks, then digests of all others. */
async function compareContents(
  first: OpenedImage,
  second: OpenedImage,
  pairs: readonly Pair[],
  options: DigestsOptions,
): Promise<Map<Pair, FieldChange[]>> {
  const found = new Map<Pair, FieldChange[]>();
  const unsure: Both[] = [];
  for (const pair of pairs) {
    if (pair.from === null || pair.to === null) continue;
    const [from, to] = [pair.from.node, pair.to.node];
    // Another size means other content, which is already reported.
    if (from.type !== 'reg' || to.type !== 'reg' || from.size !== to.size || from.size === 0) continue;
    const verdict = compareChunks(from.chunks, to.chunks);
    if (verdict === null) unsure.push(pair);
    if (verdict === false) found.set(pair, [{ field: 'content', from: null, to: null }]);
  }
  const [before, after] = await bothDigests(first, second, unsure, options);
  for (const pair of unsure) found.set(pair, changeOf('content', before.get(pair.from.node), after.get(pair.to.node)));
  return found;
}

/** Of both images at once. When one fails, the other one is stopped before the error is thrown. */
async function bothDigests(first: OpenedImage, second: OpenedImage, pairs: readonly Both[], options: DigestsOptions) {
  const stop = new AbortController();
  const signal = options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal]);
  const reading = [
    first.digests(
      pairs.map(({ from }) => from.node),
      { ...options, signal },
    ),
    second.digests(
      pairs.map(({ to }) => to.node),
      { ...options, signal },
    ),
  ] as const;
  try {
    return await Promise.all(reading);
  } catch (error) {
    stop.abort();
    await Promise.allSettled(reading);
    throw error;
  }
}

/**
 * Whether two files of one size are equal, by digests of the same kind over the same pieces; null where they are not
 * comparable.
 */
function compareChunks(from: readonly FileChunk[], to: readonly FileChunk[]): boolean | null {
  if (from.length !== to.length || from.length === 0) return null;
  if (from.every((chunk, i) => isSamePlace(chunk, to[i]!))) return true;
  const isComparable = from.every(
    (chunk, i) =>
      chunk.digester === to[i]!.digester &&
      chunk.uncompressedSize === to[i]!.uncompressedSize &&
      // Chunks of tarfs have no digest.
      chunk.digest.length > 0 &&
      to[i]!.digest.length > 0,
  );
  return isComparable ? from.every((chunk, i) => chunk.digest.equals(to[i]!.digest)) : null;
}

/** The same bytes of the same blob, stored alone: without a digest they are as equal. */
const isSamePlace = (from: FileChunk, to: FileChunk): boolean =>
  from.blob === to.blob &&
  from.within === null &&
  to.within === null &&
  from.compressor === to.compressor &&
  from.compressedOffset === to.compressedOffset &&
  from.compressedSize === to.compressedSize &&
  from.uncompressedSize === to.uncompressedSize;
