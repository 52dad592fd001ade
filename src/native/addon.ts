/**
 * Types of all functions of the native addon, and the only code that loads it.
 *
 * Names and field order equal those in `native/addon/src`. `null`, never `undefined`. Numbers are doubles that hold
 * integers below 2^53; native code refuses others. Buffers given to an asynchronous call must not be touched until its
 * promise settles. Errors are `Error`s whose `code` is an {@link ErrorCode} of `errors.ts`; a promise that fails for a
 * system call has its `errno` (positive) as well.
 */
import { createRequire } from 'node:module';
import { LacunaError } from '../errors.ts';
import { BUILD_HINT } from './build-hint.ts';

/** Compressor numbers as in the RAFS blob table: 0 none, 1 lz4_block, 2 gzip, 3 zstd. */
export type Compressor = 0 | 1 | 2 | 3;
/** Digester numbers as in the RAFS blob table: 0 BLAKE3, 1 SHA-256. */
export type Digester = 0 | 1;

/** Decoder of a unit, a range that is fetched and decoded as a whole. */
export type Decoder =
  /** Small chunks compressed together (compressor 0: stored raw). */
  | { readonly kind: 'batch'; readonly compressor: Compressor }
  /**
   * From the middle of a gzip stream: `window` (0 … 32768 bytes) is the plain text just before it; `bits` (0 … 7) of `byte`,
   * the byte before the range, belong to it. Decoding continues over the ends of gzip members and stops at the unit's size.
   */
  | { readonly kind: 'zran'; readonly window: Buffer; readonly bits: number; readonly byte: number }
  /** AES-128-XTS over the compressed bytes, one data unit: `key` is 32 bytes, `iv` 16 (the raw tweak). */
  | { readonly kind: 'encrypted'; readonly key: Buffer; readonly iv: Buffer; readonly compressor: Compressor };

export interface LayerDigests {
  /** Lower-case hex sha256 and length of the input (the layer as stored in the registry). */
  compressedDigest: string;
  compressedSize: number;
  /** Lower-case hex sha256 and length of the output (the tar; its digest is the diffID). */
  uncompressedDigest: string;
  uncompressedSize: number;
}

/** Places from which a gzip layer can be decoded, in its order. */
export interface Checkpoints {
  /**
   * Five numbers each: in_offset (where a deflate block begins, in whole bytes of the layer), out_offset (the same in the
   * tar), ctx_bits (number of high bits of the byte before in_offset that belong to the block), ctx_byte (that byte; 0
   * without bits), and the length of the window.
   */
  places: Float64Array;
  /** The windows, concatenated: the plain text before each place, up to 32 KiB, of the same gzip member. */
  windows: Buffer;
  /** Pairs: the first `in_end` bytes of the layer give the first `out_end` bytes of the tar. Ascending. */
  marks: Float64Array;
}

/** A layer's stream: compressed bytes in, tar bytes out, both hashed. One writer and one reader may run at once. */
export interface LayerStream {
  /** Hashes and queues compressed bytes; resolves when the queue has room (bounded to a few MiB). */
  write(data: Buffer): Promise<void>;
  /** No more input: `read` gets the rest, then 0. */
  end(): void;
  /**
   * Fills `target` from `offset` to its end with decoded bytes; resolves with how many were written, less than asked
   * only at the end of the stream, 0 after it. Rejects with FORMAT on damaged or truncated input and on trailing
   * garbage after a gzip or zstd stream (zero bytes are accepted, further members and frames are read).
   */
  read(target: Buffer, offset: number): Promise<number>;
  /**
   * Checkpoints of an `indexed-gzip` stream in the data read since the last call. Call it after each read, so that windows
   * do not accumulate: there is one of 32 KiB per 512 KiB of input or 1 MiB of output. The result
   * depends on the layer alone, not on the pieces it is written and read in. `convert/spans.ts` makes spans of it.
   */
  checkpoints(): Checkpoints;
  /** After `read` gave 0. */
  digests(): LayerDigests;
  /** Rejects pending calls with an error and frees all memory. Idempotent. */
  close(): void;
}

/** A running SHA-256 over what will become a blob; calls are executed in order, off the JavaScript thread. */
export interface Sha256Stream {
  /** Hashes the first `length` bytes of `data`. */
  update(data: Buffer, length: number): Promise<void>;
  /** Lower-case hex digest of all data so far; more may follow. */
  digest(): Promise<string>;
}

export interface CompressResult {
  /** How many bytes of `output` were used; chunk data lies back to back in order. */
  length: number;
  /**
   * Three numbers per chunk: stored size, 1 if compressed else 0 (stored raw unless strictly smaller), CRC-32C of the
   * plain bytes.
   */
  records: Uint32Array;
}

/** Chunks that a device's readers wait for and that this device has not reported as missing yet. */
export interface Miss {
  /** The device's handle, see {@link BlobFs.addDevice}. */
  device: number;
  /** Indexes into the device's chunk table, ascending. */
  chunks: number[];
}

export interface BlobFsOptions {
  /**
   * Directory on which the FUSE file system of device files is (or gets) mounted. Made when absent; its parent must
   * exist. Do not stat it or look into it before the promise of `blobFs` settles: after the death of a predecessor
   * nobody answers until then.
   */
  mountpoint: string;
  /** UNIX socket of the holder process; it must be listening. */
  holderSocket: string;
  /** Threads that read FUSE requests. */
  threads: number;
  /** Threads that decode, verify and write fetched chunks. */
  workers: number;
}

export interface DeviceOptions {
  /** File name in the flat directory, the same in every process. */
  name: string;
  /**
   * The kernel's number of the file, 3 or more, the same in every process. It is never reused for another
   * device: the kernel may still know a removed one.
   */
  node: number;
  /** The image that the device belongs to. Waiting reads and decoding are bounded and scheduled by image. */
  image: string;
  /** Size of the device file in bytes: the blob's uncompressed address space, a multiple of 4096. */
  size: number;
  /** The chunk table: records of `blob/table.ts`, sorted by uncompressed offset, not overlapping. */
  table: Buffer;
  /** Units that chunks of the table lie within, as `blob/units.ts` encodes them; null when every chunk is stored alone. */
  units: Buffer | null;
  /** Directory of the blob's store (files `data` and `map`), shared by every device of this blob. Must exist. */
  sharedDir: string;
  /**
   * Directory of this device's own store, used for chunks whose place in the shared one is taken by another record.
   * Must exist.
   */
  ownDir: string;
}

export interface BlobFsCounters {
  reads: number;
  readBytes: number;
  /** Reads answered without calling JavaScript. */
  hits: number;
  /** Reads that had to wait for at least one chunk. */
  misses: number;
  /** Requests that the kernel resent to this process after a predecessor died. */
  resent: number;
  /** True when this session was taken over from the holder. */
  takenOver: boolean;
  delivered: number;
  /** Rejected deliveries: bytes that do not decode, or do not match their digest. */
  digestFailures: number;
  /** Reads answered with an error. */
  errors: number;
  /** Of these, reads refused at once because too many reads of their image waited already. */
  shed: number;
  /** Reads that wait for a chunk now. */
  waiting: number;
  /** Chunks found in a store written under another boot id and verified again. */
  reverified: number;
  /** Chunks that could not be stored (the disk is full): their readers were served from memory, later ones fetch again. */
  storeErrors: number;
  /** False once the file system was unmounted or its connection aborted: close and start anew. */
  connected: boolean;
}

/** The one FUSE session of a host: one flat directory of read-only device files. */
export interface BlobFs {
  /**
   * Adds a device and its file. Throws FORMAT for a table or units that break their rules, PRECONDITION when there is
   * one of this name or node. Devices with equal tables on the same stores share them in memory. Reads the map of the store when this is the first device on it.
   */
  addDevice(options: DeviceOptions): number;
  /**
   * Call it when all devices of a predecessor are added again. Until then requests for unknown names and nodes wait, since
   * their device may be about to be added; from then on they fail.
   */
  ready(): void;
  /** Removes a device and its file; readers that still wait get EIO. */
  removeDevice(device: number): void;
  /** Those of the chunks first … first+count−1 that are not in the cache, ascending. */
  missing(device: number, first: number, count: number): Uint32Array;
  /**
   * Decodes, verifies and stores chunk `chunk` from its stored (compressed) bytes, and wakes its readers. For a chunk within
   * a unit, `data` holds the unit's stored bytes, and all chunks of the device in it are stored; a mismatching one is an
   * error only if a reader waits for it.
   * Rejects with DIGEST_MISMATCH or FORMAT, and the readers keep waiting: fetch again, or {@link fail}. A chunk that is
   * in the cache already is accepted and ignored. Readers of other devices of the blob with an equal record are woken too.
   */
  deliver(device: number, chunk: number, data: Buffer): Promise<void>;
  /**
   * Ends the wait of all this device's readers of these chunks with `errno` (positive). The chunks stay absent and can
   * be fetched again. Readers of other devices, which miss chunks of their own, keep waiting.
   */
  fail(device: number, chunks: number[], errno: number): void;
  counters(): BlobFsCounters;
  /**
   * Stops the threads and closes this process's descriptor; Node may exit then. The mount and the holder's descriptor
   * stay, and waiting reads keep waiting for the next process. Deliveries under way are finished. Idempotent.
   */
  close(): Promise<void>;
}

export interface MountOptions {
  fstype: string;
  source: string;
  target: string;
  /** Each `key=value` or `key`; passed one by one with fsconfig, so their total length is not limited. */
  options: string[];
  readonly: boolean;
  /** Setuid, setgid and file capabilities have no effect. */
  nosuid: boolean;
  /** Device nodes cannot be opened. */
  nodev: boolean;
}

/** Held until closed, also by a duplicate in a child that inherits it. */
export interface LoopDevice {
  /** `/dev/loopN`, read-only, autoclear: goes away when the last mount that uses it goes and this handle is closed. */
  path: string;
  close(): void;
}

/** A process at the other end of a UNIX socket. */
export interface Peer {
  /** 0 when it lives in a PID namespace that cannot be seen from here. */
  pid: number;
  uid: number;
}

/**
 * A directory tree that no path leaves. Paths are bytes relative to it, `` the directory itself. Symbolic links and mounts
 * are not followed: one on the way is an error. Errors: FORBIDDEN (EPERM, EACCES), UNSUPPORTED
 * (not possible on the file system), SYSTEM.
 */
export interface TreeDir {
  directory(path: Buffer): void;
  symlink(path: Buffer, target: Buffer): void;
  node(path: Buffer, kind: 'char' | 'block' | 'fifo' | 'socket', major: number, minor: number): void;
  /** A new file, open for writing; the caller owns the descriptor. */
  file(path: Buffer): number;
  /**
   * A regular file, open for reading; the caller owns the descriptor. Null when there is none: the path does not exist, is
   * not a regular file, or leads over a link or a mount.
   */
  openFile(path: Buffer): number | null;
  link(existing: Buffer, path: Buffer): void;
  chown(path: Buffer, uid: number, gid: number): void;
  /** Not for symbolic links. */
  chmod(path: Buffer, mode: number): void;
  setMtime(path: Buffer, sec: number, nsec: number): void;
  setXattr(path: Buffer, name: Buffer, value: Buffer): void;
  /** Idempotent. */
  close(): void;
}

export interface TreeUsage {
  /** Bytes on disk. */
  size: number;
  inodes: number;
}

/**
 * A tree that other processes may still write to, walked by descriptor, never by path, on a thread of its own: entries that
 * are exchanged meanwhile cannot lead out of it, and no path in it is too long. Mounts in it are not entered.
 */
export interface TreeWalk {
  /**
   * Disk usage of the directory with everything below it; zeros when it does not exist. An inode with several names counts
   * once. UNSUPPORTED for more than 1 048 592 directories inside each other.
   */
  usage(): Promise<TreeUsage>;
  /**
   * Deletes the tree; does nothing when it does not exist. Entries deleted before an error stay deleted, so it may be called
   * again. PRECONDITION at a mount point, and when another process keeps filling a directory.
   */
  remove(): Promise<void>;
  /** Ends a walk under way with ABORTED, and later ones. The end of Node stops walks, too. */
  stop(): void;
}

/** Result of a host name lookup. */
export interface Resolved {
  /** IPv4 and IPv6 addresses in the order in which they are to be tried. */
  addresses: string[];
  /** 0, or the number of getaddrinfo(3) that says why there are none. */
  failure: number;
}

export interface Addon {
  version(): string;

  /** `indexed-gzip` is gzip with {@link Checkpoints}. */
  layerStream(compression: 'gzip' | 'indexed-gzip' | 'zstd' | 'none'): LayerStream;
  sha256Stream(): Sha256Stream;
  /** `ranges`: offset and length of each chunk in `data`. Resolves with 32 bytes per chunk. */
  hashChunks(data: Buffer, ranges: Uint32Array, digester: Digester): Promise<Buffer>;
  /**
   * Compresses each chunk alone into `output` (which must be as long as the sum of the chunks), CRC-32C included.
   * UNSUPPORTED for compressor 2; `level` is zstd's and must be one of its levels, other compressors have none. A batch is one
   * chunk here.
   */
  compressChunks(
    data: Buffer,
    ranges: Uint32Array,
    output: Buffer,
    compressor: Compressor,
    level: number,
  ): Promise<CompressResult>;
  /** The plain bytes of one stored chunk, checked against `digest` (32 bytes) and `usize`. */
  decodeChunk(
    data: Buffer,
    compressor: Compressor,
    compressed: boolean,
    usize: number,
    digester: Digester,
    digest: Buffer,
  ): Promise<Buffer>;
  /** The plain bytes of a unit of each {@link Decoder}: exactly `size`, at most 32 MiB, FORMAT otherwise. Unverified. */
  decodeBatch(data: Buffer, compressor: Compressor, size: number): Promise<Buffer>;
  decodeZran(data: Buffer, window: Buffer, bits: number, byte: number, size: number): Promise<Buffer>;
  decodeEncrypted(data: Buffer, key: Buffer, iv: Buffer, compressor: Compressor, size: number): Promise<Buffer>;
  /** The 32-byte digest of small metadata, synchronous; chunks go through {@link hashChunks}. */
  hash(data: Buffer, digester: Digester): Buffer;
  /** One zstd frame at `level`; small metadata, synchronous. */
  zstdCompress(data: Buffer, level: number): Buffer;
  /** Decoded bytes, at most `limit` of them (FORMAT beyond). */
  zstdDecompress(data: Buffer, limit: number): Buffer;
  crc32c(data: Buffer): number;

  /**
   * Takes the FUSE session over from the holder (`src/native/holder.ts` starts it). Without one makes it, passes it to the
   * holder and mounts it. `onMiss` must not throw.
   */
  blobFs(options: BlobFsOptions, onMiss: (miss: Miss) => void): Promise<BlobFs>;

  /**
   * New-style mount (fsopen, fsconfig, fsmount, move_mount). SYSTEM with the kernel's own message of the fs context.
   * Asynchronous, as the two after it: a file on the blob file system may wait for a daemon that its caller restarts.
   */
  mount(options: MountOptions): Promise<void>;
  /** `flags` as in umount2(2): 0, 1 MNT_FORCE, 2 MNT_DETACH. */
  umount(target: string, flags: number): Promise<void>;
  loopAttach(path: string): Promise<LoopDevice>;
  /** Opens an existing directory. */
  treeDir(path: Buffer): TreeDir;
  /** Follows links on the way to the last name: they are the caller's own. */
  treeWalk(path: Buffer): TreeWalk;
  /**
   * Exclusive advisory lock (flock) on an open file or directory, held until its last descriptor is closed; false when
   * another process has it. UNSUPPORTED where the file system has no locks.
   */
  flock(fd: number): boolean;
  /**
   * A listening UNIX socket at `path` (at most 107 bytes, nothing there yet) that only its owner may open, from its first
   * moment on; the descriptor is the caller's.
   */
  listenPrivate(path: string): number;
  /** The process that connected the UNIX socket with this descriptor. */
  peerOf(socket: number): Peer;
  /** Looks a host's name up as the system does (getaddrinfo), on a thread of its own; may take half a minute. */
  resolve(name: string): Promise<Resolved>;
  /** For tests of the bridge: panics inside a native function; must arrive as an INTERNAL error. */
  panicForTest(): void;
  panicForTestAsync(): Promise<void>;
}

let loaded: Addon | null = null;
let reason: LacunaError | null = null;

/** The addon, or null where it is not built for this platform; {@link addonProblem} says why. */
export function findAddon(): Addon | null {
  if (loaded !== null || reason !== null) return loaded;
  try {
    loaded = createRequire(import.meta.url)('../../dist/native/lacuna.node') as Addon;
  } catch (cause) {
    reason = new LacunaError('UNSUPPORTED', 'the native addon could not be loaded', {
      op: 'load addon',
      subject: `${process.platform}-${process.arch}, Node ${process.version}`,
      hint: BUILD_HINT,
      cause,
    });
  }
  return loaded;
}

/** Why {@link findAddon} returned null. */
export function addonProblem(): LacunaError | null {
  findAddon();
  return reason;
}

/** The addon; throws UNSUPPORTED where there is none. */
export function addon(): Addon {
  const found = findAddon();
  if (found === null) throw addonProblem();
  return found;
}
