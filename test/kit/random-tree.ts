/** Random trees with their blobs, for property tests: descriptions that shrink, and what is built from one. */
import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import type { RafsBlob } from '../../src/formats/rafs/blob.ts';
import type { ByteString, FileChunk, FileNode, NodeType } from '../../src/tree/node.ts';
import { rowsOf } from './layers.ts';
import type { Row } from './tree.ts';

export const CHUNK_SIZE = 8192;
const BLOCK = 4096;
const BLOBS = 3;

interface Common {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sec: number;
  readonly nsec: number;
  readonly xattrs: ReadonlyArray<readonly [ByteString, number]>;
}

type Spec = Common &
  (
    | { kind: 'dir'; entries: ReadonlyArray<readonly [ByteString, Spec]>; fill: number }
    | { kind: 'reg'; chunks: ReadonlyArray<{ seed: number; blob: number }>; tail: number }
    | { kind: 'symlink'; target: ByteString }
    | { kind: 'char' | 'block'; major: number; minor: number }
    | { kind: 'fifo' | 'socket' }
    | { kind: 'link'; pick: number }
  );

const byte = fc.integer({ min: 1, max: 255 });
const bytes = (maxLength: number) =>
  fc.array(byte, { minLength: 1, maxLength, size: 'max' }).map((values) => String.fromCharCode(...values));
const name = fc
  .oneof({ weight: 4, arbitrary: bytes(12) }, { weight: 1, arbitrary: bytes(255) })
  .map((text) => text.replaceAll('/', '_'))
  .filter((text) => text !== '.' && text !== '..');
// 2^32 − 1 means "nobody" to the kernel.
const id = fc.oneof(fc.constantFrom(0, 1000), fc.integer({ min: 0, max: 0xffff_fffe }));
const xattr = fc.tuple(
  fc
    .tuple(fc.constantFrom('user.', 'trusted.', 'security.'), bytes(40))
    // ASCII: the walker has no way to print others.
    .map(([prefix, suffix]) => prefix + suffix.replace(/[^!-~]/g, 'x'))
    // A security attribute that the kernel interprets cannot be random.
    .filter((full) => !full.startsWith('security.') || full.length > 30),
  fc.oneof(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 6000 })),
);

const common = fc.record({
  mode: fc.integer({ min: 0, max: 0o7777 }),
  uid: id,
  gid: id,
  sec: fc.oneof(fc.integer({ min: -(2 ** 33), max: 2 ** 33 }), fc.constant(0)),
  nsec: fc.integer({ min: 0, max: 999_999_999 }),
  xattrs: fc.oneof(
    { weight: 3, arbitrary: fc.constant([]) },
    { weight: 1, arbitrary: fc.array(xattr, { maxLength: 4 }) },
  ),
});

const chunk = fc.record({ seed: fc.integer({ min: 0, max: 8 }), blob: fc.integer({ min: 0, max: BLOBS - 1 }) });
const leaf = fc.oneof(
  fc.record({
    kind: fc.constant('reg' as const),
    chunks: fc.oneof(
      { weight: 20, arbitrary: fc.array(chunk, { maxLength: 6 }) },
      // As a sparse file comes out of a tar: one chunk again and again.
      { weight: 1, arbitrary: fc.tuple(chunk, fc.integer({ min: 7, max: 400 })).map(([one, n]) => Array(n).fill(one)) },
    ),
    tail: fc.integer({ min: 1, max: CHUNK_SIZE }),
  }),
  fc.record({
    kind: fc.constant('symlink' as const),
    target: fc.oneof({ weight: 3, arbitrary: bytes(60) }, { weight: 1, arbitrary: bytes(4095) }),
  }),
  fc.record({
    kind: fc.constantFrom('char' as const, 'block' as const),
    // Of a layer, a device 0:0 is a whiteout.
    major: fc.integer({ min: 1, max: 0xfff }),
    minor: fc.integer({ min: 0, max: 0xfffff }),
  }),
  fc.record({ kind: fc.constantFrom('fifo' as const, 'socket' as const) }),
  fc.record({ kind: fc.constant('link' as const), pick: fc.nat(1000) }),
);

const { directory } = fc.letrec<{ directory: Spec & { kind: 'dir' }; node: Spec }>((tie) => ({
  node: fc.oneof(
    { maxDepth: 5, depthSize: 'small', withCrossShrink: true },
    { weight: 3, arbitrary: fc.tuple(common, leaf).map(([a, b]) => ({ ...a, ...b })) },
    { weight: 1, arbitrary: tie('directory') },
  ),
  directory: fc
    .tuple(
      common,
      fc.array(fc.tuple(name, tie('node')), { maxLength: 8 }),
      fc.oneof({ weight: 30, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(700) }),
    )
    .map(([fields, entries, fill]) => ({ ...fields, kind: 'dir' as const, entries, fill })),
}));

/** A tree that can be written, its blobs, and what their devices hold. */
export interface RandomTree {
  readonly root: FileNode;
  readonly blobs: readonly RafsBlob[];
  /** Blob id → the device's bytes. */
  readonly devices: ReadonlyMap<string, Buffer>;
}

export const randomTree = (): fc.Arbitrary<RandomTree> => directory.map((spec) => new Builder().build(spec));

const blobId = (index: number): string => createHash('sha256').update(`blob ${index}`).digest('hex');

/** Chunks are stored raw and back to back, their places in the device aligned. */
class Builder {
  readonly #known = new Map<string, FileChunk>();
  readonly #parts: Buffer[][] = Array.from({ length: BLOBS }, () => []);
  readonly #plainEnd = new Array<number>(BLOBS).fill(0);
  readonly #storedEnd = new Array<number>(BLOBS).fill(0);
  readonly #linkable: FileNode[] = [];

  build(spec: Spec): RandomTree {
    const root = this.#node(spec);
    const devices = new Map(this.#parts.map((parts, i) => [blobId(i), Buffer.concat(parts)]));
    return { root, devices, blobs: this.#parts.map((parts, i) => this.#blob(i, parts.length)) };
  }

  #blob(index: number, chunkCount: number): RafsBlob {
    return {
      id: blobId(index),
      chunkSize: CHUNK_SIZE,
      chunkCount,
      compressor: 3,
      digester: 1,
      features: 0x7000_0021,
      compressedSize: this.#storedEnd[index]! + 10_000,
      uncompressedSize: this.#plainEnd[index]!,
      tocSize: 1024,
      tocDigest: Buffer.alloc(32, index),
      ciCompressor: 3,
      ciOffset: this.#storedEnd[index]! + 512,
      ciCompressedSize: chunkCount,
      ciUncompressedSize: 16 * chunkCount,
      cipher: null,
      metaDigest: null,
      metaSize: 0,
    };
  }

  #node(spec: Spec): FileNode {
    if (spec.kind === 'link') {
      const target = this.#linkable[spec.pick % Math.max(1, this.#linkable.length)];
      if (target !== undefined) return target;
    }
    const node: FileNode = {
      type: spec.kind === 'link' ? 'fifo' : spec.kind,
      mode: spec.kind === 'symlink' ? 0o777 : spec.mode,
      uid: spec.uid,
      gid: spec.gid,
      mtime: { sec: spec.sec, nsec: spec.nsec },
      size: 0,
      rdev: spec.kind === 'char' || spec.kind === 'block' ? { major: spec.major, minor: spec.minor } : null,
      target: spec.kind === 'symlink' ? spec.target : null,
      xattrs: xattrsOf(spec),
      children: null,
      chunks: [],
    };
    if (spec.kind === 'dir') node.children = this.#children(spec);
    else this.#linkable.push(node);
    if (spec.kind === 'reg') {
      const lengths = spec.chunks.map((_, i) => (i < spec.chunks.length - 1 ? CHUNK_SIZE : spec.tail));
      node.chunks = spec.chunks.map(({ seed, blob }, i) => this.#chunk(seed, blob, lengths[i]!));
      node.size = lengths.reduce((sum, length) => sum + length, 0);
    }
    return node;
  }

  #children(spec: Spec & { kind: 'dir' }): Map<ByteString, FileNode> {
    const children = new Map(spec.entries.map(([key, child]) => [key, this.#node(child)]));
    for (let i = 0; i < spec.fill; i++) {
      const key = `${i}-`.padEnd(1 + ((i * 37) % 200), 'x');
      children.set(key, plainNode('fifo'));
    }
    return children;
  }

  #chunk(seed: number, blob: number, length: number): FileChunk {
    const key = `${seed} ${blob} ${length}`;
    const before = this.#known.get(key);
    if (before !== undefined) return before;
    const data = Buffer.alloc(length);
    for (let i = 0, state = seed * 7919 + length; i < length; i++) {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      data[i] = state >>> 16;
    }
    const made: FileChunk = {
      uncompressedOffset: this.#plainEnd[blob]!,
      uncompressedSize: length,
      compressedOffset: this.#storedEnd[blob]!,
      compressedSize: length,
      compressor: 0,
      digester: 1,
      digest: createHash('sha256').update(data).digest(),
      blob: blobId(blob),
      index: this.#parts[blob]!.length,
      crc32c: null,
      within: null,
    };
    const padded = Buffer.alloc(Math.ceil(length / BLOCK) * BLOCK);
    data.copy(padded);
    this.#parts[blob]!.push(padded);
    this.#plainEnd[blob]! += padded.length;
    this.#storedEnd[blob]! += length;
    this.#known.set(key, made);
    return made;
  }
}

function xattrsOf(spec: Spec): FileNode['xattrs'] {
  // Linux has user.* only on files and directories.
  const allowed = spec.xattrs.filter(([key]) => !key.startsWith('user.') || spec.kind === 'reg' || spec.kind === 'dir');
  return allowed.length === 0 ? null : new Map(allowed.map(([key, length]) => [key, Buffer.alloc(length, length)]));
}

/** A node with nothing special about it. */
export const plainNode = (type: NodeType, fields: Partial<FileNode> = {}): FileNode => ({
  type,
  mode: type === 'dir' ? 0o755 : type === 'symlink' ? 0o777 : 0o644,
  uid: 0,
  gid: 0,
  mtime: { sec: 0, nsec: 0 },
  size: 0,
  rdev: null,
  target: null,
  xattrs: null,
  children: type === 'dir' ? new Map() : null,
  chunks: [],
  ...fields,
});

/** The rows of a random tree, with the digests of its files. */
export function expectedRows(root: FileNode, devices: ReadonlyMap<string, Buffer>): Row[] {
  const contents = new Map<FileNode, Buffer>();
  const todo = [root];
  for (const node of todo) {
    todo.push(...(node.children?.values() ?? []));
    const parts = node.chunks.map(({ blob, uncompressedOffset: at, uncompressedSize }) =>
      devices.get(blob)!.subarray(at, at + uncompressedSize),
    );
    if (node.type === 'reg') contents.set(node, Buffer.concat(parts));
  }
  return rowsOf(root, contents);
}
