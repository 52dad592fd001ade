/** The share of each layer in the visible tree. */

import type { LayerOrigin, OpenedImage } from '../reader/image.ts';
import { bytesOf, display, type FileNode } from '../tree/node.ts';
import { listTree } from './entries.ts';

/** One layer; counts are of what is visible, so a layer that others hide has none. */
export interface LayerShare extends LayerOrigin {
  /** Paths whose inode the layer made: of a lazy image files with content alone. */
  readonly paths: number;
  /** Content of its regular files, in bytes; a file with several names counts once. */
  readonly bytes: number;
}

/** The layers that have a share in the tree, lowest first. Reads every inode once. */
export function layerShares(image: OpenedImage): LayerShare[] {
  const shares = new Map<number, { origin: LayerOrigin; paths: number; bytes: number }>();
  const linked = new Set<FileNode>();
  for (const { path, node, row } of listTree(image.root, '/', { recursive: true })) {
    const origin = image.layerOf({ path: display(path), pathBytes: bytesOf(path), node });
    if (origin === null) continue;
    const share = shares.get(origin.index) ?? { origin, paths: 0, bytes: 0 };
    shares.set(origin.index, share);
    share.paths += 1;
    if (row.link_group !== undefined && linked.has(node)) continue;
    if (row.link_group !== undefined) linked.add(node);
    share.bytes += node.size;
  }
  return [...shares.values()]
    .toSorted((a, b) => a.origin.index - b.origin.index)
    .map(({ origin, paths, bytes }) => ({ ...origin, paths, bytes }));
}
