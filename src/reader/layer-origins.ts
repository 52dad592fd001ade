/** Finds the layer of an ordinary image that a path is from: its entry made the inode, directories included. */
import type { LayerTree } from '../tree/layer.ts';
import type { ByteString, FileNode } from '../tree/node.ts';

export class LayerOrigins {
  readonly #layers: readonly LayerTree[];
  /** Origins of inodes other than directories: filled by the first lookup, since most readers make none. */
  #inodes: Map<FileNode, number> | null = null;

  /** Lowest first. */
  constructor(layers: readonly LayerTree[]) {
    this.#layers = layers;
  }

  /** Number of the layer, from 0. `path`: real, absolute. Null for directories that are only implied by a path. */
  of(path: ByteString, node: FileNode): number | null {
    if (node.type === 'dir') return this.#directory(path.split('/').filter((name) => name !== ''));
    this.#inodes ??= inodesOf(this.#layers);
    return this.#inodes.get(node) ?? null;
  }

  /**
   * The highest layer with an entry for the directory: layers that only have entries below it do not count. Entries below a
   * whiteout, or below something else of this name, are not in the same directory.
   */
  #directory(names: readonly ByteString[]): number | null {
    let implied: number | null = null;
    for (let at = this.#layers.length - 1; at >= 0; at--) {
      const { root, marks } = this.#layers[at]!;
      let here: FileNode | undefined = root;
      let isHidden = false;
      for (const name of names) {
        const mark = marks.get(here);
        if (mark?.opaque === true || mark?.whiteouts?.has(name) === true) isHidden = true;
        here = here.children?.get(name);
        if (here === undefined) break;
      }
      if (here !== undefined && here.type !== 'dir') return implied;
      if (here !== undefined) {
        if (marks.get(here)?.implicit !== true) return at;
        implied = at;
      }
      if (isHidden) return implied;
    }
    return implied;
  }
}

function inodesOf(layers: readonly LayerTree[]): Map<FileNode, number> {
  const found = new Map<FileNode, number>();
  for (const [at, { root, links }] of layers.entries()) {
    const todo = [root];
    for (let directory = todo.pop(); directory !== undefined; directory = todo.pop()) {
      for (const node of directory.children!.values()) {
        if (node.type === 'dir') todo.push(node);
        // A hard link to a lower layer's file is that file.
        else if (!links.has(node)) found.set(node, at);
      }
    }
  }
  return found;
}
