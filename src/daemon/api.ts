/** The messages of `proto/lacuna/daemon/v1/daemon.proto` as TypeScript sees them. */
import type { ServiceDefinition } from '@grpc/grpc-js';
import { loadService } from '../grpc/proto.ts';

export const daemonService = (): ServiceDefinition =>
  loadService('lacuna/daemon/v1/daemon.proto', 'lacuna.daemon.v1.Daemon');

export interface RegistrySource {
  /** `host[:port]`. */
  readonly host: string;
  readonly repository: string;
  /** HTTP instead of HTTPS; null: for loopback hosts only. */
  readonly plainHttp?: boolean | null;
  /** Path of a PEM file to trust besides the system's authorities; empty: none. */
  readonly ca?: string;
}

/** Where blobs come from: exactly one of the three. */
export type Source =
  | { readonly registry: RegistrySource }
  /** Files named by the blob's hex digest. */
  | { readonly directory: { readonly path: string } }
  /** An OCI image layout. */
  | { readonly layout: { readonly path: string } };

export interface AttachRequest {
  /** Letters, digits, `.`, `_`, `-`; at most 128. */
  readonly id: string;
  /**
   * Absolute path; the file must stay there until Detach. The chunk info of blobs that need it may lie beside it as
   * `<blob hex>.blob.meta`; otherwise it is fetched.
   */
  readonly bootstrap: string;
  /** Tried in order. */
  readonly sources: readonly Source[];
  /** Hex digests in blob table order, for bootstraps whose table lacks them; default none. */
  readonly blobIds?: readonly string[];
}

export interface AttachResponse {
  /** Absolute paths in blob table order: EROFS's `device=` options. */
  readonly devices: string[];
}

export interface SetCredentialsRequest {
  readonly host: string;
  readonly username?: string;
  readonly password?: string;
  /** Instead of username and password. */
  readonly identityToken?: string;
}

export interface ImageStatus {
  readonly id: string;
  readonly bootstrap: string;
  readonly devices: string[];
  /** Why it could not be attached after a restart; empty when it is. */
  readonly problem: string;
}

export interface DeviceStatus {
  readonly name: string;
  readonly blob: string;
  /** Bytes. */
  readonly size: number;
  readonly chunks: number;
  /** Chunks that are not in the cache. */
  readonly missing: number;
  /** Id of the image whose device it is. */
  readonly images: string[];
}

/** Counters of this process, from 0 at its start. */
interface Counters {
  readonly reads: number;
  readonly readBytes: number;
  readonly hits: number;
  readonly misses: number;
  readonly resent: number;
  readonly takenOver: boolean;
  readonly delivered: number;
  readonly digestFailures: number;
  readonly errors: number;
  readonly shed: number;
  readonly waiting: number;
  readonly reverified: number;
  readonly requests: number;
  readonly fetchedBytes: number;
  readonly retries: number;
  readonly failures: number;
  readonly neighbourChunks: number;
  readonly neighbourBytes: number;
  readonly joined: number;
}

export interface Status {
  readonly pid: number;
  readonly version: string;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  readonly images: ImageStatus[];
  readonly devices: DeviceStatus[];
  readonly counters: Counters;
}
