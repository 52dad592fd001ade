// Made from proto/lacuna/daemon/v1/daemon.proto by `npm run build:proto`.

export interface Daemon {
  /**
   * Makes the blob devices of an image. Remembered under the root: a restarted daemon attaches it again by itself.
   * Idempotent for the same request; another request under the same id replaces the sources.
   */
  readonly Attach: { readonly request: AttachRequest; readonly response: AttachResponse };
  /**
   * Takes an image's devices away and frees the cache of blobs that no image uses any more. Nothing may be mounted
   * from them. NOT_FOUND when the id is unknown.
   */
  readonly Detach: { readonly request: DetachRequest; readonly response: DetachResponse };
  /**
   * Credentials for a registry host, kept in memory only. After a restart the daemon has those of docker's config,
   * until they are set again.
   */
  readonly SetCredentials: { readonly request: SetCredentialsRequest; readonly response: SetCredentialsResponse };
  readonly Status: { readonly request: StatusRequest; readonly response: StatusResponse };
  /** One event at once; the stream then stays open, and its end is the end of the daemon. */
  readonly Watch: { readonly request: WatchRequest; readonly response: WatchEvent; readonly streams: true };
  /** Ends the process as SIGTERM does: mounts and devices stay, reads wait for the next daemon. */
  readonly Stop: { readonly request: StopRequest; readonly response: StopResponse };
}

/** Where blobs come from. Sources are tried in order, those that proved silent last; at most 16. */
export type Source =
  | { readonly registry: RegistrySource }
  /** Files named by the blob's hex digest. */
  | { readonly directory: DirectorySource }
  /** An OCI image layout: blobs/sha256/<hex>. */
  | { readonly layout: LayoutSource };

export interface RegistrySource {
  /** host[:port] */
  readonly host: string;
  readonly repository: string;
  /** HTTP instead of HTTPS. Absent: HTTP for loopback hosts only. */
  readonly plainHttp?: boolean;
  /** Path of a PEM file with the authority to trust besides the system's; empty: none. */
  readonly ca: string;
}

export interface DirectorySource {
  readonly path: string;
}

export interface LayoutSource {
  readonly path: string;
}

export interface AttachRequest {
  /** Chosen by the caller: letters, digits, `.`, `_`, `-`; at most 128. */
  readonly id: string;
  /**
   * Absolute path of the bootstrap file. It must stay there until Detach. The chunk info of blobs that need it may lie
   * beside it as `<blob hex>.blob.meta`; otherwise it is fetched.
   */
  readonly bootstrap: string;
  readonly sources: readonly Source[];
  /** Hex digests in blob table order, for bootstraps whose table does not have them; else empty. */
  readonly blobIds: readonly string[];
}

export interface AttachResponse {
  /** Absolute paths of the device files, in the order of the bootstrap's blob table: EROFS's `device=` options. */
  readonly devices: readonly string[];
}

export interface DetachRequest {
  readonly id: string;
}

export type DetachResponse = object;

export interface SetCredentialsRequest {
  readonly host: string;
  readonly username: string;
  readonly password: string;
  /** Instead of username and password. */
  readonly identityToken: string;
}

export type SetCredentialsResponse = object;

export type StatusRequest = object;

export interface StatusResponse {
  readonly pid: number;
  readonly version: string;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  readonly images: readonly ImageStatus[];
  readonly devices: readonly DeviceStatus[];
  readonly counters: Counters | null;
}

export interface ImageStatus {
  readonly id: string;
  readonly bootstrap: string;
  readonly devices: readonly string[];
  /** Why it could not be attached after a restart; empty when it is. */
  readonly problem: string;
  /** Advice; empty when there is none. */
  readonly hint: string;
}

export interface DeviceStatus {
  readonly name: string;
  readonly blob: string;
  readonly size: number;
  readonly chunks: number;
  /** How many of them are not in the cache. */
  readonly missing: number;
  /** The one whose device it is. */
  readonly images: readonly string[];
}

/** Of this process, from 0 at its start. */
export interface Counters {
  /** The FUSE session's. */
  readonly reads: number;
  readonly readBytes: number;
  /** Reads answered without asking JavaScript. */
  readonly hits: number;
  /** Reads that had to wait for at least one chunk. */
  readonly misses: number;
  /** Requests that the kernel resent to this process after a predecessor died. */
  readonly resent: number;
  /** Whether this session was taken over from the holder. */
  readonly takenOver: boolean;
  readonly delivered: number;
  /** Deliveries that were rejected: bytes that do not decode, or not to their digest. */
  readonly digestFailures: number;
  /** Reads answered with an error. */
  readonly errors: number;
  /** Of these, reads refused at once because too much of their image waited already. */
  readonly shed: number;
  /** Reads that wait for a chunk now. */
  readonly waiting: number;
  /** Chunks found in a store written under another boot id and verified again. */
  readonly reverified: number;
  /** Chunks that could not be kept (the disk is full, read-only or broken): their readers were served from memory, the next will fetch again. */
  readonly storeErrors: number;
  /** False once the file system was unmounted or its connection aborted. */
  readonly connected: boolean;
  /** The fetcher's. */
  readonly requests: number;
  readonly fetchedBytes: number;
  readonly retries: number;
  readonly failures: number;
  readonly neighbourChunks: number;
  readonly neighbourBytes: number;
  readonly joined: number;
}

export type WatchRequest = object;

export interface WatchEvent {
  readonly pid: number;
}

export type StopRequest = object;

export type StopResponse = object;
