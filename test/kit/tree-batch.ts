/** Many random trees in one image, so that mounting costs little for each; and one tree as the layers it may come from. */
import type { RafsBlob } from '../../src/formats/rafs/blob.ts';
import type { DirectoryMarks, LayerTree } from '../../src/tree/layer.ts';
import type { ByteString, FileChunk, FileNode } from '../../src/tree/node.ts';
import { plainNode, type RandomTree } from './random-tree.ts';

/** One tree with each of `trees` in a directory of its own, `0`, `1`, …; equal blobs of theirs become one, back to back. */
export function combine(trees: readonly RandomTree[]): RandomTree {
  const root = plainNode('dir');
  const blobs = new Map<string, RafsBlob>();
  const parts = new Map<string, Buffer[]>();
  for (const [i, tree] of trees.entries()) {
    const before = new Map(blobs);
    for (const blob of tree.blobs) blobs.set(blob.id, joined(before.get(blob.id), blob));
    for (const [id, device] of tree.devices) parts.set(id, [...(parts.get(id) ?? []), device]);
    const chunks = new Map<FileChunk, FileChunk>();
    const own = (chunk: FileChunk): FileChunk => {
      const known = chunks.get(chunk) ?? behind(before.get(chunk.blob), chunk);
      chunks.set(chunk, known);
      return known;
    };
    root.children!.set(
      String(i),
      mapTree(tree.root, (node) => ({ ...node, chunks: node.chunks.map(own) })),
    );
  }
  const devices = new Map([...parts].map(([id, pieces]) => [id, Buffer.concat(pieces)]));
  return { root, blobs: [...blobs.values()], devices };
}

const joined = (before: RafsBlob | undefined, blob: RafsBlob): RafsBlob =>
  before === undefined
    ? blob
    : {
        ...blob,
        chunkCount: before.chunkCount + blob.chunkCount,
        compressedSize: before.compressedSize + blob.compressedSize,
        uncompressedSize: before.uncompressedSize + blob.uncompressedSize,
        ciCompressedSize: before.ciCompressedSize + blob.ciCompressedSize,
        ciUncompressedSize: before.ciUncompressedSize + blob.ciUncompressedSize,
      };

const behind = (before: RafsBlob | undefined, chunk: FileChunk): FileChunk => ({
  ...chunk,
  index: chunk.index + (before?.chunkCount ?? 0),
  compressedOffset: chunk.compressedOffset + (before?.compressedSize ?? 0),
  uncompressedOffset: chunk.uncompressedOffset + (before?.uncompressedSize ?? 0),
});

/** A copy, hard links kept. */
function mapTree(node: FileNode, map: (node: FileNode) => FileNode, known = new Map<FileNode, FileNode>()): FileNode {
  const before = known.get(node);
  if (before !== undefined) return before;
  const copy = map(node);
  known.set(node, copy);
  if (node.children === null) return copy;
  copy.children = new Map([...node.children].map(([name, child]) => [name, mapTree(child, map, known)]));
  return copy;
}

/**
 * Two layers whose overlay is `root`: what the upper one adds, hides and replaces in the lower one is decided by
 * `random(n)`, a number below n. What the lower one has too much is whited out, directory by directory or name by name.
 */
export function asLayers(root: FileNode, random: (below: number) => number): readonly [LayerTree, LayerTree] {
  const marks = new Map<FileNode, DirectoryMarks>();
  const split = (node: FileNode): readonly [lower: FileNode, upper: FileNode] => {
    const lower: FileNode = { ...node, mode: random(0o1000), xattrs: null, children: new Map() };
    const upper: FileNode = { ...node, children: new Map() };
    const junk = new Set<ByteString>();
    for (const [name, child] of node.children!) {
      const place = random(5);
      if (child.type === 'dir' && place > 1) {
        const [below, above] = split(child);
        lower.children!.set(name, below);
        upper.children!.set(name, above);
        continue;
      }
      if (place === 0) lower.children!.set(name, plainNode(child.type === 'fifo' ? 'dir' : 'fifo'));
      // A directory that replaces something has no lower half; another one here is whole in the upper layer.
      if (place > 1) lower.children!.set(name, child);
      else upper.children!.set(name, child);
    }
    for (let i = random(3); i > 0; i--) {
      const name = `junk${i}`;
      if (node.children!.has(name)) continue;
      lower.children!.set(name, plainNode(random(2) === 0 ? 'dir' : 'socket'));
      junk.add(name);
    }
    const isEmptyBelow = [...node.children!.keys()].every((name) => upper.children!.has(name));
    const opaque = isEmptyBelow && ![...upper.children!.values()].some(({ type }) => type === 'dir') && random(2) === 0;
    marks.set(upper, { implicit: false, opaque, whiteouts: opaque || junk.size === 0 ? null : junk });
    return [lower, upper];
  };
  const [lower, upper] = split(root);
  return [
    { root: lower, marks: new Map(), links: new Map() },
    { root: upper, marks, links: new Map() },
  ];
}
