/** One repository of a registry that speaks the OCI distribution protocol. */
import { LacunaError } from '../../errors.ts';
import { type DigestAlgorithm, digestOf, isDigest, parseDigest } from '../../image/digest.ts';
import { manifestTypeOf } from '../../image/kind.ts';
import { type Descriptor, MAX_MANIFEST_SIZE } from '../../image/manifest.ts';
import { isDocument, MANIFEST_ACCEPT, MEDIA } from '../../image/media.ts';
import { type DockerReference, formatReference, isTag } from '../../image/reference.ts';
import { sizeMismatch } from '../range.ts';
import { RegistryReferrers, referrerOf } from '../referrers.ts';
import type { BlobUpload, ImageStore, ReadOptions, SignalOptions } from '../store.ts';
import { BlobReader } from './blob-reader.ts';
import { type ForeignLayers, isForeign, storedOrForeign } from './foreign.ts';
import type { RegistryHttp } from './http.ts';
import { ManifestCache } from './manifest-cache.ts';
import { contentLength, type RegistryResponse, readBody } from './response.ts';
import { listTags } from './tags.ts';
import { discard, type Transport } from './transport.ts';
import { RegistryUpload } from './upload.ts';

/** Statuses of a HEAD that is repeated as a GET: storage refuses a HEAD of a URL that is signed for GET. */
const NO_HEAD: readonly number[] = [400, 403, 405, 501];

export interface RegistryStoreOptions {
  readonly reference: DockerReference;
  readonly http: RegistryHttp;
  /** Closed with the store. */
  readonly transport: Transport;
  readonly foreign: ForeignLayers;
}

export class RegistryStore implements ImageStore {
  readonly subject: string;
  readonly isPinned: boolean;
  readonly #reference: DockerReference;
  readonly #http: RegistryHttp;
  readonly #transport: Transport;
  /** `https://HOST/v2/NAME/`. */
  readonly #url: URL;
  readonly #pull: readonly string[];
  readonly #push: readonly string[];
  readonly #reader: BlobReader;
  readonly #foreign: ForeignLayers;
  readonly #manifests = new ManifestCache();
  /** Repositories whose blobs the account may not mount. */
  readonly #unmountable = new Set<string>();
  readonly #referrers: RegistryReferrers;

  constructor({ reference, http, transport, foreign }: RegistryStoreOptions) {
    this.subject = formatReference(reference);
    this.isPinned = reference.digest !== null;
    this.#reference = reference;
    this.#http = http;
    this.#transport = transport;
    this.#foreign = foreign;
    this.#url = new URL(`${reference.repository}/`, http.base);
    this.#pull = [`repository:${reference.repository}:pull`];
    this.#push = [`repository:${reference.repository}:pull,push`];
    this.#reader = new BlobReader({
      http,
      repository: this.#url,
      scopes: this.#pull,
      subject: this.subject,
    });
    this.#referrers = new RegistryReferrers({
      http,
      repository: this.#url,
      pull: this.#pull,
      subject: this.subject,
      push: (bytes, tag, options) => this.pushManifest(bytes, MEDIA.ociIndex, tag, options),
    });
  }

  async resolve(ref: string | null, options: SignalOptions = {}): Promise<Descriptor> {
    const target = ref ?? this.#reference.digest ?? this.#reference.tag;
    if (target === null) throw this.#usage('the reference has neither a tag nor a digest');
    const { bytes, response } = await this.#getManifest(target, 'resolve', options);
    const algorithm = isDigest(target) ? parseDigest(target).algorithm : 'sha256';
    const digest = digestOf(bytes, algorithm);
    this.#compareDigest('resolve', isDigest(target) ? target : response.header('docker-content-digest'), bytes);
    const descriptor = { mediaType: this.#mediaType(bytes, response), digest, size: bytes.length };
    this.#manifests.put(digest, bytes);
    return descriptor;
  }

  async manifest(descriptor: Descriptor, options: SignalOptions = {}): Promise<Buffer> {
    const cached = this.#manifests.get(descriptor.digest);
    if (cached !== null && cached.length === descriptor.size) return cached;
    if (descriptor.size > MAX_MANIFEST_SIZE) {
      throw new LacunaError(
        'FORMAT',
        `${descriptor.size} bytes exceed the limit of ${MAX_MANIFEST_SIZE} for a manifest or config`,
        {
          op: 'pull',
          subject: descriptor.digest,
        },
      );
    }
    if (!isDocument(descriptor.mediaType)) {
      const pieces: Buffer[] = [];
      for await (const piece of this.#reader.read(descriptor, options)) pieces.push(piece);
      return Buffer.concat(pieces, descriptor.size);
    }
    const { bytes } = await this.#getManifest(descriptor.digest, 'pull', options);
    if (bytes.length !== descriptor.size) throw sizeMismatch(descriptor, this.subject, String(bytes.length));
    this.#compareDigest('pull', descriptor.digest, bytes);
    this.#manifests.put(descriptor.digest, bytes);
    return bytes;
  }

  open(descriptor: Descriptor, options: ReadOptions = {}): AsyncIterable<Buffer> {
    const stored = this.#reader.read(descriptor, options);
    return isForeign(descriptor) ? storedOrForeign(stored, this.#foreign, descriptor, options) : stored;
  }

  async has(descriptor: Descriptor, options: SignalOptions = {}): Promise<boolean> {
    const context = { op: 'look up', subject: this.subject };
    const kind = isDocument(descriptor.mediaType) ? 'manifests' : 'blobs';
    const lookUp = async (method: 'HEAD' | 'GET'): Promise<RegistryResponse> => {
      const response = await this.#http.send({
        ...context,
        method,
        url: new URL(`${kind}/${descriptor.digest}`, this.#url),
        headers: kind === 'manifests' ? { accept: MANIFEST_ACCEPT } : {},
        scopes: this.#pull,
        signal: options.signal ?? null,
        expect: method === 'HEAD' ? [200, 404, ...NO_HEAD] : [200, 404, 405, 501],
      });
      await discard(response);
      return response;
    };
    const head = await lookUp('HEAD');
    const response = NO_HEAD.includes(head.status) ? await lookUp('GET') : head;
    if (response.status !== 200) return false;
    const length = contentLength(response, context);
    return length === null || length === descriptor.size;
  }

  async upload(options: SignalOptions = {}): Promise<BlobUpload> {
    return this.#startUpload(options);
  }

  async mountFrom(descriptor: Descriptor, from: ImageStore, options: SignalOptions = {}): Promise<boolean> {
    if (!(from instanceof RegistryStore) || from.#http.base.href !== this.#http.base.href) return false;
    const source = from.#reference.repository;
    if (source === this.#reference.repository) return await this.has(descriptor, options);
    if (this.#unmountable.has(source)) return false;
    const url = new URL('blobs/uploads/', this.#url);
    url.searchParams.set('mount', descriptor.digest);
    url.searchParams.set('from', source);
    try {
      const response = await this.#http.send({
        op: 'mount',
        subject: this.subject,
        method: 'POST',
        url,
        scopes: [...this.#push, ...from.#pull],
        signal: options.signal ?? null,
        expect: [200, 201, 202, 204],
      });
      await discard(response);
      if (response.status !== 201) await this.#startUpload(options, response).abort();
      return response.status === 201;
    } catch (error) {
      // Registries and token servers refuse a mount with many different errors; uploading the blob shows whether
      // anything else is wrong.
      if (!(error instanceof LacunaError) || error.retryable || error.code === 'ABORTED') throw error;
      this.#http.log.debug(
        { digest: descriptor.digest, from: source, error: error.message },
        'could not mount the blob from another repository; it is uploaded',
      );
      if (error.code === 'UNAUTHORIZED' || error.code === 'FORBIDDEN') this.#unmountable.add(source);
      return false;
    }
  }

  async pushManifest(
    bytes: Buffer,
    mediaType: string,
    ref: string | null,
    options: SignalOptions = {},
  ): Promise<Descriptor> {
    const { tag, digest: own } = this.#reference;
    const target = ref ?? tag ?? own;
    const expected = ref === null ? own : isDigest(ref) ? ref : null;
    if (target !== null && !isDigest(target) && !isTag(target))
      throw this.#usage(`${JSON.stringify(target)} is not a tag`);
    if (bytes.length > MAX_MANIFEST_SIZE)
      throw this.#usage(`the manifest's ${bytes.length} bytes exceed the limit of ${MAX_MANIFEST_SIZE}`);
    if (expected !== null) this.#compareDigest('push', expected, bytes);
    const descriptor = { mediaType, digest: expected ?? digestOf(bytes), size: bytes.length };
    const response = await this.#http.send({
      op: 'push',
      subject: this.subject,
      method: 'PUT',
      url: new URL(`manifests/${target ?? descriptor.digest}`, this.#url),
      headers: { 'content-type': mediaType },
      body: bytes,
      scopes: this.#push,
      signal: options.signal ?? null,
      expect: [201, 200, 202, 204],
    });
    await discard(response);
    this.#compareDigest('push', response.header('docker-content-digest'), bytes);
    const referrer = referrerOf(bytes, descriptor, this.subject);
    // A registry with the referrers API sends this header.
    if (referrer !== null && response.header('oci-subject') === null) await this.#referrers.note(referrer, options);
    return descriptor;
  }

  async referrers(digest: string, artifactType: string | null, options: SignalOptions = {}): Promise<Descriptor[]> {
    return await this.#referrers.list(digest, artifactType, options);
  }

  tags(options: SignalOptions = {}): AsyncIterable<string> {
    const { subject } = this;
    return listTags({ http: this.#http, repository: this.#url, pull: this.#pull, subject }, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#transport.close();
  }

  #startUpload(options: SignalOptions, begun?: RegistryResponse): RegistryUpload {
    return new RegistryUpload({
      http: this.#http,
      repository: this.#url,
      scopes: this.#push,
      subject: this.subject,
      signal: options.signal ?? null,
      ...(begun === undefined ? {} : { begun }),
    });
  }

  async #getManifest(
    ref: string,
    op: string,
    options: SignalOptions,
  ): Promise<{ bytes: Buffer; response: RegistryResponse }> {
    const request = {
      op,
      subject: this.subject,
      method: 'GET' as const,
      url: new URL(`manifests/${ref}`, this.#url),
      headers: { accept: MANIFEST_ACCEPT },
      scopes: this.#pull,
      signal: options.signal ?? null,
      expect: [200],
    };
    // The body is part of the try: a manifest is small, so a cut one is requested again as a whole.
    return await this.#http.retrying(request, async () => {
      const response = await this.#http.once(request);
      const bytes = await readBody(response, MAX_MANIFEST_SIZE, request);
      const length = contentLength(response, request);
      if (length === null || length === bytes.length) return { bytes, response };
      throw new LacunaError('UNAVAILABLE', `the manifest's body ended at byte ${bytes.length}`, request);
    });
  }

  /** Throws DIGEST_MISMATCH unless `claimed` is the digest of `bytes`. Text that is not a digest is ignored. */
  #compareDigest(op: string, claimed: string | null, bytes: Buffer): void {
    if (claimed === null || !isDigest(claimed)) return;
    const algorithm: DigestAlgorithm = parseDigest(claimed).algorithm;
    const actual = digestOf(bytes, algorithm);
    if (actual === claimed) return;
    throw new LacunaError('DIGEST_MISMATCH', `the manifest ${claimed} hashes to ${actual}`, {
      op,
      subject: this.subject,
    });
  }

  #mediaType(bytes: Buffer, response: RegistryResponse): string {
    // Of several headers the last one counts, as in Go's clients.
    const [declared = ''] = (response.header('content-type') ?? '')
      .split(',')
      .at(-1)!
      .trim()
      .toLowerCase()
      .split(/[ ;]/);
    return manifestTypeOf(bytes, declared, this.subject);
  }

  #usage(problem: string): LacunaError {
    return new LacunaError('USAGE', problem, { op: 'open', subject: this.subject });
  }
}
