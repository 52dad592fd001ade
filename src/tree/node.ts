/**
 * FileTree, the tree of files that readers of all formats return and writers of bootstraps take. Pure data, no I/O.
 *
 * Names, link targets and xattr names are bytes. They are kept as *byte strings*: JavaScript strings with one
 * character per byte (latin1), so they compare bytewise with `<` and serve as Map keys. `display()` makes them readable.
 */
import type { Chunk } from '../blob/table.ts';

/** A string with one character (0–255) per byte. */
export type ByteString = string;

/** The type of an inode. */
export type NodeType = 'reg' | 'dir' | 'symlink' | 'char' | 'block' | 'fifo' | 'socket';

/** Seconds since the epoch (may be negative, floored) and nanoseconds 0…999 999 999. */
export interface Mtime {
  /** Seconds since 1970, floored; may be negative. */
  readonly sec: number;
  /** Nanoseconds, 0…999 999 999. */
  readonly nsec: number;
}

/**
 * A chunk of a file's content, and its blob. A chunk from a bootstrap is a view of the chunk table: its fields are getters,
 * so copy it with {@link plainChunk}, never with `{ ...chunk }`.
 */
export interface FileChunk extends Chunk {
  /** Lower-case hex sha256 of the blob. */
  readonly blob: string;
  /** Its index in the blob's own chunk info array. */
  readonly index: number;
  /** CRC-32C of the plain content, null where the format has none. */
  readonly crc32c: number | null;
}

/** A chunk as an object of its own, with `changes`. */
export function plainChunk(chunk: FileChunk, changes: Partial<FileChunk> = {}): FileChunk {
  const { uncompressedOffset, uncompressedSize, compressedOffset, compressedSize, compressor, digester } = chunk;
  const { digest, within, blob, index, crc32c } = chunk;
  const place = { uncompressedOffset, uncompressedSize, compressedOffset, compressedSize };
  return { ...place, compressor, digester, digest, within, blob, index, crc32c, ...changes };
}

/**
 * One inode. Hard links share one object. A node from a bootstrap is a view of it: fields are read on access and can throw
 * FormatError, so copy it field by field, never with `{ ...node }`.
 */
export interface FileNode {
  /** The type of the inode. */
  type: NodeType;
  /** Permission bits with setuid, setgid, sticky: 0…0o7777. */
  mode: number;
  /** The owner's user id. */
  uid: number;
  /** The owner's group id. */
  gid: number;
  /** Time of the last change. */
  mtime: Mtime;
  /** Content length of a regular file in bytes, else 0. */
  size: number;
  /** Device number of char and block nodes, else null. */
  rdev: { major: number; minor: number } | null;
  /** Link target of a symlink, else null. */
  target: ByteString | null;
  /** Full names (`user.x`, `security.capability`) → values; null when there are none. */
  xattrs: Map<ByteString, Buffer> | null;
  /** Entries of a directory, else null. */
  children: Map<ByteString, FileNode> | null;
  /** Number of names of the inode in the format; absent when only counting names in the whole tree gives it. */
  readonly nlink?: number;
  /** Number of the EROFS inode; absent when the node is not from an EROFS image. */
  readonly nid?: number;
  /** Content of a regular file, in file order, every chunk but the last of the same size; else empty. */
  chunks: readonly FileChunk[];
}

/** Bytes as a byte string. */
export const byteString = (bytes: Uint8Array): ByteString =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');

/** The bytes of a byte string. */
export const bytesOf = (text: ByteString): Buffer => Buffer.from(text, 'latin1');

/** Decodes a byte string as UTF-8 for display; invalid bytes become U+FFFD. */
export const display = (text: ByteString): string => bytesOf(text).toString('utf8');

/** The byte string of ordinary (UTF-8) text. */
export const fromText = (text: string): ByteString => Buffer.from(text, 'utf8').toString('latin1');

/** Extended attributes sorted bytewise by name, the order in which they are written and listed. */
export const sortedXattrs = (xattrs: ReadonlyMap<ByteString, Buffer> | null): Array<[ByteString, Buffer]> =>
  [...(xattrs ?? [])].sort(([a], [b]) => (a < b ? -1 : 1));

/** One name in a directory. */
export interface DirectoryEntry {
  /** The name as text; bytes that are not UTF-8 become U+FFFD. */
  readonly name: string;
  /** The bytes of the name. */
  readonly nameBytes: Buffer;
  /** The inode that the name leads to. */
  readonly node: FileNode;
}

/** The entries of a directory, sorted bytewise; empty for other nodes. */
export function* entriesOf({ children }: FileNode): Generator<DirectoryEntry> {
  for (const [name, node] of [...(children ?? [])].sort(([a], [b]) => (a < b ? -1 : 1))) {
    yield { name: display(name), nameBytes: bytesOf(name), node };
  }
}
