/** A tree → a tar: directories, then what has no content, files in the order of the blobs, and further names. */
import { FormatError } from '../errors.ts';
import type { OpenedImage } from '../reader/image.ts';
import { type ByteString, type FileNode, sortedXattrs } from '../tree/node.ts';
import { quote, WHITEOUT } from '../tree/path.ts';
import type { TarEntry } from '../tree/tar.ts';
import { TAR_END, tarHeader, tarPadding } from '../tree/tarwriter.ts';
import { NOTHING_SKIPPED, type Skipped, type UnpackPlan } from './options.ts';
import type { TreePlan } from './tree.ts';

/** Counts the entries that the tar of `tree` leaves out: sockets, and attributes with `=` in their name, which ends a pax key. */
export function skippedByTar(tree: TreePlan): Skipped {
  const xattrs = [...tree.directories, ...tree.inodes].reduce(
    (sum, { node }) => sum + [...(node.xattrs?.keys() ?? [])].filter((key) => key.includes('=')).length,
    0,
  );
  const sockets = tree.inodes.filter(({ node }) => node.type === 'socket').length;
  return { ...NOTHING_SKIPPED, xattrs, sockets };
}

/**
 * The bytes of a standalone tar. GNU tar sets the times of a directory before its files come, unless they come
 * at once; so the directories stand at the end once more.
 */
export async function* tarFileOf(image: OpenedImage, tree: TreePlan, plan: UnpackPlan): AsyncGenerator<Buffer> {
  yield* members(image, tree, plan);
  for (const { path, node } of tree.directories) yield tarHeader(entryOf(path, node));
  yield TAR_END;
}

/** The bytes of the tar of a layer: the same for the same image. */
export async function* layerTarOf(image: OpenedImage, tree: TreePlan, plan: UnpackPlan): AsyncGenerator<Buffer> {
  yield* members(image, tree, plan);
  yield TAR_END;
}

async function* members(image: OpenedImage, tree: TreePlan, plan: UnpackPlan): AsyncGenerator<Buffer> {
  for (const { path, node } of tree.directories) yield tarHeader(entryOf(path, node));
  const files: FileNode[] = [];
  for (const { path, node } of tree.inodes) {
    if (node.type === 'reg' && node.size > 0) files.push(node);
    else if (node.type !== 'socket') yield tarHeader(entryOf(path, node));
  }
  let at = 0;
  let done = 0;
  for await (const { node, data } of image.contents(files, { signal: plan.signal })) {
    if (at === 0) yield tarHeader(entryOf(tree.names.get(node)!, node));
    yield data;
    at += data.length;
    done += data.length;
    plan.onProgress({ phase: 'unpack', subject: '', done, total: tree.bytes, unit: 'bytes' });
    if (at < node.size) continue;
    yield tarPadding(node.size);
    at = 0;
  }
  for (const { path, target, node } of tree.links) {
    if (node.type !== 'socket')
      yield tarHeader({ ...entryOf(path, node), type: 'hardlink', linkName: target, size: 0, xattrs: null });
  }
}

/** FORMAT for a name that would hide another one when the tar is a layer. */
export function refuseWhiteouts(tree: TreePlan, subject: string): void {
  for (const { path } of [...tree.directories, ...tree.inodes, ...tree.links]) {
    if (!path.slice(path.lastIndexOf('/') + 1).startsWith(WHITEOUT)) continue;
    throw new FormatError('name', `${quote(path)} would be a whiteout in a layer`, {
      op: 'unpack',
      subject,
      hint: 'unpack it to a directory or a tar',
    });
  }
}

function entryOf(path: ByteString, node: FileNode): TarEntry {
  const { mode, uid, gid, mtime, rdev } = node;
  const xattrs = node.xattrs === null ? null : new Map(sortedXattrs(node.xattrs).filter(([key]) => !key.includes('=')));
  const type = node.type as TarEntry['type'];
  return { name: path, type, linkName: node.target, mode, uid, gid, size: node.size, mtime, rdev, xattrs };
}
