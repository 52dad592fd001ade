/**
 * The interface of all stores of images: repositories of registries, OCI layouts, archives and directories. Interfaces
 * only; `openStore` is in open.ts.
 */

import type { CredentialSource } from '../access/credential-source.ts';
import type { Descriptor } from '../image/manifest.ts';
import type { Log } from '../observe/log.ts';

/** Retries of requests. Times in milliseconds. */
export interface RetryOptions {
  /** Maximum number of tries, the first included. */
  readonly attempts?: number;
  /** Maximum pause before the second try; doubled for each further one, and shortened at random (full jitter). */
  readonly minDelay?: number;
  /** Maximum pause of the exponential back-off. */
  readonly maxDelay?: number;
  /** Maximum pause that a registry may request with `Retry-After`; a longer one is an error at once. */
  readonly maxRetryAfter?: number;
  /** Maximum time from the first failure without progress to the start of the last try. */
  readonly total?: number;
}

/** Milliseconds without progress after which a request fails with TIMEOUT (and is tried again). */
export interface TimeoutOptions {
  /** Timeout for connecting, including TLS. */
  readonly connect?: number;
  /** Timeout from the end of the request to the head of the response. */
  readonly headers?: number;
  /**
   * Timeout between two pieces of a body. A body must also arrive with at least 1 byte per millisecond over this time.
   */
  readonly body?: number;
}

/**
 * Whether layers that a store does not have are fetched from the urls of their descriptors: from any address
 * (`always`), never (`never`), or only from public addresses unless the registry itself is in a private network
 * (`public`).
 */
export type ForeignLayerPolicy = 'public' | 'always' | 'never';

/** Options for opening a store. Those that do not apply to a layout or archive are ignored there. */
export interface StoreOptions {
  /** Source of credentials. Default: none. The CLI uses `storedCredentials()`. */
  readonly credentials?: CredentialSource;
  /** Use HTTP instead of HTTPS. Default: only for `localhost`, 127.0.0.0/8 and `[::1]`, unless `tlsVerify` is given. */
  readonly plainHttp?: boolean;
  /**
   * False: HTTPS with any certificate, or plain HTTP where the registry has no HTTPS, which a request detects when the
   * store is opened. Default true.
   */
  readonly tlsVerify?: boolean;
  /** PEM text of certificate authorities that are trusted in addition to the system's. */
  readonly ca?: string;
  /** PEM text of a client certificate. */
  readonly cert?: string;
  /** PEM text of the key of `cert`. */
  readonly key?: string;
  /** The HTTP client. Default `undici`. */
  readonly transport?: 'undici' | 'node-fetch';
  /** Log for warnings about the registry. Default: none. */
  readonly log?: Log;
  /** Retries of requests. */
  readonly retry?: RetryOptions;
  /** Maximum time that a request may make no progress. */
  readonly timeouts?: TimeoutOptions;
  /** Whether foreign layers are fetched. Default `public`: containerd and skopeo fetch such layers, too. */
  readonly foreignLayers?: ForeignLayerPolicy;
  /** Create a layout's directory when it is missing. Default false. */
  readonly create?: boolean;
}

/** Options of every method of a store. */
export interface SignalOptions {
  /** Aborts the call. */
  readonly signal?: AbortSignal;
}

/** Offsets and lengths in bytes. */
export interface ReadOptions extends SignalOptions {
  /** First byte to read. Default 0. */
  readonly offset?: number;
  /** Number of bytes to read. Default: up to the end. */
  readonly length?: number;
  /** Verify the digest of a whole read; its size is always checked. Default true. */
  readonly verify?: boolean;
  /**
   * True: the blob may be longer than its descriptor's size (the blob table of a Nydus image does not count a blob's
   * tail). Such a read is never a whole one, so its digest is not verified. Default false.
   */
  readonly partial?: boolean;
}

/** One repository of a registry, or one OCI layout, archive or directory. Every method throws LacunaErrors. */
export interface ImageStore extends AsyncDisposable {
  /** The reference as text, for messages. */
  readonly subject: string;
  /** Whether the reference names a digest, which fixes the content that it stands for. */
  readonly isPinned: boolean;
  /**
   * The descriptor of a tag, ref name or digest; null: of the store's own reference. NOT_FOUND when there is none.
   * The manifest's bytes are kept, so that `manifest` right after it costs no request.
   */
  resolve(ref: string | null, options?: SignalOptions): Promise<Descriptor>;
  /** The bytes of a manifest, index or config: at most 8 MiB, digest and size verified. */
  manifest(descriptor: Descriptor, options?: SignalOptions): Promise<Buffer>;
  /**
   * The bytes of a blob as they arrive. A whole read is verified: DIGEST_MISMATCH or SIZE_MISMATCH is thrown instead of
   * its last piece. A ranged read delivers exactly the range or fails, and the caller verifies its bytes. A body that
   * is cut is resumed at the byte reached.
   */
  open(descriptor: Descriptor, options?: ReadOptions): AsyncIterable<Buffer>;
  /** Whether the store has the blob. */
  has(descriptor: Descriptor, options?: SignalOptions): Promise<boolean>;
  /** Begins the upload of a new blob, which becomes visible with its `commit`. */
  upload(options?: SignalOptions): Promise<BlobUpload>;
  /** Adds a blob of `from` without transferring it. Resolves with false when that is not possible: upload it then. */
  mountFrom(descriptor: Descriptor, from: ImageStore, options?: SignalOptions): Promise<boolean>;
  /**
   * Stores a manifest, index or artifact under a tag, ref name or digest; null: under the store's own reference. A
   * layout replaces its index atomically and last; other entries are kept, one of the same name is replaced, and for a
   * digest only the blob is written. From then on a manifest with a `subject` is listed by {@link referrers} of that
   * subject.
   */
  pushManifest(bytes: Buffer, mediaType: string, ref: string | null, options?: SignalOptions): Promise<Descriptor>;
  /**
   * Manifests whose `subject` has this digest, in the store's order; only those of `artifactType` unless that is null.
   * The subject itself need not exist. The list is empty where a registry has neither the API nor the tag that replaces
   * it.
   */
  referrers(digest: string, artifactType: string | null, options?: SignalOptions): Promise<Descriptor[]>;
  /** Names of the store's images, in its order: tags, ref names, names of a docker archive. */
  tags(options?: SignalOptions): AsyncIterable<string>;
}

/** The upload of one blob. Callers must not overlap calls. */
export interface BlobUpload {
  /** Writes the next bytes. They are copied: the buffer may be reused once the promise has resolved. */
  write(data: Buffer): Promise<void>;
  /** Completes the blob, which must have this digest and size in bytes, else DIGEST_MISMATCH or SIZE_MISMATCH. */
  commit(digest: string, size: number): Promise<void>;
  /** Cancels the upload and removes its data. Idempotent; does nothing after a commit; never throws. */
  abort(): Promise<void>;
}
