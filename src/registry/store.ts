/**
 * Where images come from and go to: the one interface that a repository of a registry and an OCI layout have in common.
 * Interfaces only; `openStore` is in open.ts.
 */

import type { CredentialSource } from '../access/credential-source.ts';
import type { Descriptor } from '../image/manifest.ts';
import type { Log } from '../observe/log.ts';

/** How often and how patiently a request is tried again. Times in milliseconds. */
export interface RetryOptions {
  /** Tries in all, the first included. */
  readonly attempts?: number;
  /** Longest pause before the second try; doubled for each further one, and cut at random (full jitter). */
  readonly minDelay?: number;
  /** Longest pause of the back-off itself. */
  readonly maxDelay?: number;
  /** Longest pause that a registry can ask for with `Retry-After`; a longer wish is an error at once. */
  readonly maxRetryAfter?: number;
  /** From the first failure without progress to the beginning of the last try. */
  readonly total?: number;
}

/** Milliseconds without progress after which a request fails with TIMEOUT (and is tried again). */
export interface TimeoutOptions {
  /** For connecting, TLS included. */
  readonly connect?: number;
  /** From the end of the request to the head of the response. */
  readonly headers?: number;
  /** Between two pieces of a body; also for so much of it as comes at 1 byte per millisecond. */
  readonly body?: number;
}

/**
 * Whether layers that a store does not have are fetched from the urls of their descriptors: from anywhere (`always`), from
 * nowhere (`never`), or from the Internet alone unless the registry itself is in a private network (`public`).
 */
export type ForeignLayerPolicy = 'public' | 'always' | 'never';

/** How a registry is reached. Options that do not apply to a layout or archive are ignored there. */
export interface StoreOptions {
  /** Default: nobody's. The CLI gives `storedCredentials()`. */
  readonly credentials?: CredentialSource;
  /** HTTP instead of HTTPS. Default: only for `localhost`, 127.0.0.0/8 and `[::1]`, unless `tlsVerify` is given. */
  readonly plainHttp?: boolean;
  /**
   * False: HTTPS with whatever certificate, or plain HTTP where the registry has no HTTPS; a request finds out when the
   * store is opened. Default true.
   */
  readonly tlsVerify?: boolean;
  /** PEM text of certificate authorities trusted beside the system's. */
  readonly ca?: string;
  /** PEM texts of a client certificate and its key. */
  readonly cert?: string;
  /** PEM text of the key of `cert`. */
  readonly key?: string;
  /** The HTTP client. Default `undici`. */
  readonly transport?: 'undici' | 'node-fetch';
  /** Gets warnings about the registry. Default: nothing is logged. */
  readonly log?: Log;
  /** How often and how patiently requests are tried again. */
  readonly retry?: RetryOptions;
  /** How long a request may make no progress. */
  readonly timeouts?: TimeoutOptions;
  /** Default `public`: containerd and skopeo fetch such layers, too. */
  readonly foreignLayers?: ForeignLayerPolicy;
  /** Make a layout's directory when it is missing. Default false. */
  readonly create?: boolean;
}

/** What every method of a store takes. */
export interface SignalOptions {
  /** Aborts the call. */
  readonly signal?: AbortSignal;
}

/** Offsets and lengths in bytes. */
export interface ReadOptions extends SignalOptions {
  /** Default 0. */
  readonly offset?: number;
  /** Default: up to the end. */
  readonly length?: number;
  /** False when the caller hashes a whole read itself; its size is checked always. Default true. */
  readonly verify?: boolean;
  /**
   * The descriptor's size is only how far the blob is used; it may be longer. (The blob table of a Nydus image does not
   * count a blob's tail.) Never a whole read, so nothing is verified.
   */
  readonly partial?: boolean;
}

/** One repository of a registry, or one OCI layout. Every method throws LacunaErrors; all take a signal. */
export interface ImageStore extends AsyncDisposable {
  /** The reference, for messages. */
  readonly subject: string;
  /** Whether the reference names a digest: then nothing but what that digest covers is meant. */
  readonly isPinned: boolean;
  /**
   * The descriptor of a tag, ref name or digest; null = what the reference itself names. NOT_FOUND when there is none.
   * The manifest's bytes are kept, so that `manifest` right after it costs no request.
   */
  resolve(ref: string | null, options?: SignalOptions): Promise<Descriptor>;
  /** A manifest, index or config, whole: at most 8 MiB, digest and size verified. */
  manifest(descriptor: Descriptor, options?: SignalOptions): Promise<Buffer>;
  /**
   * The bytes of a blob as they arrive. A whole read is verified: DIGEST_MISMATCH or SIZE_MISMATCH comes instead of its
   * last piece. A ranged read delivers exactly the range or fails, and its bytes are the caller's to verify.
   * A body that is cut goes on at the byte reached.
   */
  open(descriptor: Descriptor, options?: ReadOptions): AsyncIterable<Buffer>;
  /** Whether the store has the blob. */
  has(descriptor: Descriptor, options?: SignalOptions): Promise<boolean>;
  /** A new blob; nothing is visible before its `commit`. */
  upload(options?: SignalOptions): Promise<BlobUpload>;
  /** Makes a blob of `from` ours without moving it; false = not possible here, upload it. */
  mountFrom(descriptor: Descriptor, from: ImageStore, options?: SignalOptions): Promise<boolean>;
  /**
   * Stores a manifest, index or config-less artifact under a tag, ref name or digest; null = what the reference names.
   * In a layout the index is replaced atomically and last, its other entries are kept, an equal ref is replaced, and
   * with a digest only the blob is written: an index that lists it comes later. One with a `subject` is found by
   * {@link referrers} of that subject from then on.
   */
  pushManifest(bytes: Buffer, mediaType: string, ref: string | null, options?: SignalOptions): Promise<Descriptor>;
  /**
   * Manifests whose `subject` has this digest, in the store's order, of `artifactType` alone when it is given. The subject
   * itself need not be there. None where a registry knows neither the API nor the tag that stands for it.
   */
  referrers(digest: string, artifactType: string | null, options?: SignalOptions): Promise<Descriptor[]>;
  /** Names of the images here, in the store's order: tags, ref names, names of a docker archive. */
  tags(options?: SignalOptions): AsyncIterable<string>;
}

/** A blob on its way into a store. One call at a time. */
export interface BlobUpload {
  /** Takes the next bytes; they are copied, so the buffer may be used again once the promise has resolved. */
  write(data: Buffer): Promise<void>;
  /** Ends the blob, which must have this digest and size in bytes. DIGEST_MISMATCH or SIZE_MISMATCH leaves nothing behind. */
  commit(digest: string, size: number): Promise<void>;
  /** Gives the upload up and removes what it left. Idempotent, does nothing after a commit, never throws. */
  abort(): Promise<void>;
}
