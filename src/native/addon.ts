/**
 * The one typed list of everything the native addon offers. Nothing else loads it.
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

/** How the stored bytes of a unit become plain ones. A unit is what is fetched and decoded in one piece. */
export type Decoder =
  /** Small chunks compressed together (compressor 0: kept raw). */
  | { readonly kind: 'batch'; readonly compressor: Compressor }
  /**
   * From the middle of a gzip stream: `window` (0 … 32768 bytes) is the plain text just before, `bits` (0 … 7) of `byte`, the
   * byte before the range, belong to it. Decoding goes on over the ends of gzip members and stops at the unit's size.
   */
  | { readonly kind: 'zran'; readonly window: Buffer; readonly bits: number; readonly byte: number }
  /** AES-128-XTS over the compressed bytes, one data unit: `key` is 32 bytes, `iv` 16 (the raw tweak). */
  | { readonly kind: 'encrypted'; readonly key: Buffer; readonly iv: Buffer; readonly compressor: Compressor };

export interface LayerDigests {
  /** Lower-case hex sha256 and length of what was written in (the layer as the registry has it). */
  compressedDigest: string;
  compressedSize: number;
  /** Lower-case hex sha256 and length of what came out (the tar: the diffID). */
  uncompressedDigest: string;
  uncompressedSize: number;
}

/** Places from which a gzip layer can be decoded, in its order. */
export interface Checkpoints {
  /**
   * Five numbers each: in_offset (where a deflate block begins, in whole bytes of the layer), out_offset (the same in the
   * tar), ctx_bits (so many high bits of the byte before in_offset belong to the block), ctx_byte (that byte; 0 without
   * bits), and the length of the window.
   */
  places: Float64Array;
  /** The windows one behind the other: the plain text before each place, up to 32 KiB, of the same gzip member. */
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
   * Of an `indexed-gzip` stream: what was found since the last call in all that was read. Call it after each read, so
   * that windows do not pile up: there is one of 32 KiB per 512 KiB of input or 1 MiB of output. It depends on the layer
   * alone, not on the pieces it is written and read in. `convert/spans.ts` makes spans of it.
   */
  checkpoints(): Checkpoints;
  /** After `read` gave 0. */
  digests(): LayerDigests;
  /** Wakes whoever waits with an error, frees everything. Idempotent. */
  close(): void;
}

/** A running SHA-256 over what will become a blob; calls are executed in order, off the JavaScript thread. */
export interface Sha256Stream {
  /** Hashes the first `length` bytes of `data`. */
  update(data: Buffer, length: number): Promise<void>;
  /** Lower-case hex of all that was given so far; more may follow. */
  digest(): Promise<string>;
}

export interface CompressResult {
  /** How many bytes of `output` were used; chunk data lies back to back in order. */
  length: number;
  /**
   * Three numbers per chunk: stored size, 1 if compressed else 0 (kept raw when not strictly smaller), CRC-32C of the
   * plain bytes.
   */
  records: Uint32Array;
}

/** Chunks that a device's readers wait for and that it was not asked for yet, whatever other devices were asked for. */
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
   * The kernel's number of the file, 3 or more, the same in every process. It was and will be no other device's: the
   * kernel may know one that is gone.
   */
  node: number;
  /** Whose device it is. What waits and what is decoded is bounded and shared out by this name. */
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
  /** Reads answered without asking JavaScript. */
  hits: number;
  /** Reads that had to wait for at least one chunk. */
  misses: number;
  /** Requests that the kernel resent to this process after a predecessor died. */
  resent: number;
  /** True when this session was taken over from the holder. */
  takenOver: boolean;
  delivered: number;
  /** Deliveries that were rejected: bytes that do not decode, or not to their digest. */
  digestFailures: number;
  /** Reads answered with an error. */
  errors: number;
  /** Of these, reads refused at once because too much of their image waited already. */
  shed: number;
  /** Reads that wait for a chunk now. */
  waiting: number;
  /** Chunks found in a store written under another boot id and verified again. */
  reverified: number;
  /** Chunks that could not be kept (the disk is full): their readers were served from memory, the next will fetch again. */
  storeErrors: number;
  /** False once the file system was unmounted or its connection aborted: close and start anew. */
  connected: boolean;
}

/** The one FUSE session of a host: one flat directory of read-only device files. */
export interface BlobFs {
  /**
   * The device's file appears. Throws FORMAT for a table or units that break their rules, PRECONDITION when there is
   * one of this name or node. Devices with equal tables on the same stores share them in memory. Reads the map of the store when this is the first device on it.
   */
  addDevice(options: DeviceOptions): number;
  /**
   * All devices that a predecessor had are added again. Until then requests for unknown names and nodes wait (somebody
   * may be reading what is just being attached again); from then on they fail.
   */
  ready(): void;
  /** The device's file disappears; readers that still wait get EIO. */
  removeDevice(device: number): void;
  /** Of the chunks first … first+count−1 those that are not in the cache, ascending. */
  missing(device: number, first: number, count: number): Uint32Array;
  /**
   * Decodes, verifies, stores chunk `chunk` from its stored (compressed) bytes and wakes its readers. For a chunk that
   * lies within a unit `data` is the unit's, and all chunks of the device in it are stored; one that is wrong is an error
   * only if somebody waits for it.
   * Rejects with DIGEST_MISMATCH or FORMAT, the readers go on waiting: fetch again, or {@link fail}. A chunk that is
   * there already is accepted and ignored. Readers of other devices of the blob with an equal record are woken too.
   */
  deliver(device: number, chunk: number, data: Buffer): Promise<void>;
  /**
   * Ends the wait of all this device's readers of these chunks with `errno` (positive). The chunks stay absent and can
   * be asked for again. Readers of other devices, which were asked for themselves, go on waiting.
   */
  fail(device: number, chunks: number[], errno: number): void;
  counters(): BlobFsCounters;
  /**
   * Stops the threads and closes this process's descriptor; Node may exit then. The mount and the holder's descriptor
   * stay, and what still waits goes on waiting for the next process. Deliveries under way are finished. Idempotent.
   */
  close(): Promise<void>;
}

export interface MountOptions {
  fstype: string;
  source: string;
  target: string;
  /** Each `key=value` or `key`; handed over one by one with fsconfig, so their sum is not limited. */
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
 * A directory with a tree of which nothing leads anywhere else. Paths are bytes relative to it, `` the directory itself;
 * nothing is followed: a symbolic link or a mount on the way is an error. Errors: FORBIDDEN (EPERM, EACCES), UNSUPPORTED
 * (what the file system cannot keep), SYSTEM.
 */
export interface TreeDir {
  directory(path: Buffer): void;
  symlink(path: Buffer, target: Buffer): void;
  node(path: Buffer, kind: 'char' | 'block' | 'fifo' | 'socket', major: number, minor: number): void;
  /** A new file; the descriptor, open for writing, is the caller's. */
  file(path: Buffer): number;
  /**
   * A regular file, open for reading; the descriptor is the caller's. Null when there is none: nothing, something else, or
   * a link or a mount on the way.
   */
  openFile(path: Buffer): number | null;
  link(existing: Buffer, path: Buffer): void;
  chown(path: Buffer, uid: number, gid: number): void;
  /** Not of a symbolic link. */
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
 * A tree that others may still write to, walked on a thread of its own by descriptor and never by path: nothing that is
 * exchanged meanwhile leads out of it, and no path in it is too long. What is mounted there is not entered.
 */
export interface TreeWalk {
  /**
   * What the directory with all that is below it takes; zeros when it is not there. An inode with several names counts
   * once. UNSUPPORTED for more than 1 048 592 directories inside each other.
   */
  usage(): Promise<TreeUsage>;
  /**
   * Deletes it; nothing there is fine. What was deleted before an error stays deleted, so it may be called again.
   * PRECONDITION at a mount point, and when somebody keeps filling a directory.
   */
  remove(): Promise<void>;
  /** Ends a walk under way with ABORTED, and later ones. The end of Node stops walks, too. */
  stop(): void;
}

/** What a lookup of a host's name gave. */
export interface Resolved {
  /** IPv4 and IPv6 addresses in the order in which they are to be tried. */
  addresses: string[];
  /** 0, or the number of getaddrinfo(3) that says why there are none. */
  failure: number;
}

export interface Addon {
  version(): string;

  /** `indexed-gzip` is gzip that leaves {@link Checkpoints}. */
  layerStream(compression: 'gzip' | 'indexed-gzip' | 'zstd' | 'none'): LayerStream;
  sha256Stream(): Sha256Stream;
  /** `ranges`: offset and length of each chunk in `data`. Resolves with 32 bytes per chunk. */
  hashChunks(data: Buffer, ranges: Uint32Array, digester: Digester): Promise<Buffer>;
  /**
   * Compresses each chunk alone into `output` (which must be as long as the sum of the chunks), CRC-32C included.
   * UNSUPPORTED for compressor 2; `level` is zstd's and must be one of its levels, others have none. A batch is one
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
   * Takes the FUSE session over from the holder (`src/native/holder.ts` starts it), or makes one, hands it to the
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
  /** Links on the way to the last name are followed: they are the caller's own. */
  treeWalk(path: Buffer): TreeWalk;
  /**
   * Exclusive advisory lock (flock) on an open file or directory, held until its last descriptor is closed; false when
   * somebody else has it. UNSUPPORTED where the file system has no locks.
   */
  flock(fd: number): boolean;
  /**
   * A listening UNIX socket at `path` (at most 107 bytes, nothing there yet) that only its owner may open, from its first
   * moment on; the descriptor is the caller's.
   */
  listenPrivate(path: string): number;
  /** Who connected the UNIX socket with this descriptor. */
  peerOf(socket: number): Peer;
  /** Looks a host's name up as the system does (getaddrinfo), on a thread that nobody else waits for; may take half a minute. */
  resolve(name: string): Promise<Resolved>;
  /** For tests of the bridge: panics inside a native function; must arrive as an INTERNAL error. */
  panicForTest(): void;
  panicForTestAsync(): Promise<void>;
}

let loaded: Addon | null = null;
let reason: LacunaError | null = null;

/** The addon, or null where it is not built for this platform; {@link addonProblem} tells why. */
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

/** Why {@link findAddon} gave null. */
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
