/** One upload session at a registry (distribution-spec, "Pushing blobs"): its requests and their responses. */
import { LacunaError } from '../../errors.ts';
import type { RegistryHttp, RegistryRequest } from './http.ts';
import { resolveLocation } from './redirect.ts';
import { type RegistryResponse, readLength } from './response.ts';
import { discard, type StreamedBody } from './transport.ts';

/** Maximum milliseconds for the request that cancels an upload. */
const ABORT_TIMEOUT = 5_000;

const OP = 'push';
const BYTES = { 'content-type': 'application/octet-stream' };

/** Statuses that mean success for any request of an upload: registries differ from each other and from the spec. */
const DONE: readonly number[] = [200, 201, 202, 204];

/** Bytes `at` to `at + size − 1` of the blob. */
export interface Chunk {
  readonly at: number;
  readonly size: number;
  readonly body: StreamedBody;
}

export interface SessionOptions {
  readonly http: RegistryHttp;
  /** `https://HOST/v2/NAME/`. */
  readonly repository: URL;
  readonly scopes: readonly string[];
  readonly subject: string;
}

export class UploadSession {
  readonly #options: SessionOptions;
  readonly #signal: AbortSignal;
  #location: URL | null = null;
  /** `OCI-Chunk-Min-Length` of the registry, in bytes. */
  chunkMinLength = 0;

  constructor(options: SessionOptions, signal: AbortSignal) {
    this.#options = options;
    this.#signal = signal;
  }

  get isOpen(): boolean {
    return this.#location !== null;
  }

  /** Begins a session, after ending the previous one. */
  async begin(): Promise<void> {
    await this.end(this.#signal);
    const url = new URL('blobs/uploads/', this.#options.repository);
    const response = await this.#options.http.send(this.#request({ method: 'POST', url }));
    await discard(response);
    this.begun(response);
  }

  /** Continues the session that the registry began with this response. */
  begun(response: RegistryResponse): void {
    const uuid = response.header('docker-upload-uuid');
    this.#location =
      response.header('location') === null && uuid !== null && /^[\w.=-]{1,256}$/.test(uuid)
        ? new URL(`blobs/uploads/${uuid}`, this.#options.repository)
        : this.#locationOf(response);
    this.chunkMinLength = readLength(response.header('oci-chunk-min-length')) ?? 0;
  }

  /** Streams the whole blob without its length. Only the end of the upload shows whether all of it has arrived. */
  async stream(body: StreamedBody): Promise<void> {
    await this.#patch(body, {});
  }

  /** Sends a chunk. Returns how many bytes of the blob the registry has. */
  async chunk({ at, size, body }: Chunk): Promise<number> {
    const end = at + size;
    const response = await this.#patch(body, { 'content-range': `${at}-${end - 1}` });
    const reached = parseUploadRange(response.header('range')) ?? end;
    if (reached >= at && reached <= end) return reached;
    throw this.#protocol(`claims to have ${reached} bytes of an upload after ${end} bytes were sent`);
  }

  /** How many bytes the registry has; null when it has lost the upload, or cannot tell. */
  async position(): Promise<number | null> {
    const expect = [...DONE, 400, 404, 405, 410, 416, 501];
    const response = await this.#options.http.send(this.#request({ method: 'GET', url: this.#location!, expect }));
    await discard(response);
    if (!DONE.includes(response.status)) return null;
    this.#follow(response);
    const text = response.header('range');
    // docker-registry sends `0-0` for an empty upload, too (handlers/blobupload.go).
    return text === '0-0' ? 0 : (parseUploadRange(text) ?? 0);
  }

  /** Completes the upload with `body`, the rest of the blob. */
  async finish(digest: string, body: StreamedBody | null): Promise<void> {
    // The query is the registry's state and must stay byte for byte.
    const url = new URL(this.#location!);
    url.search = `${url.search === '' ? '?' : `${url.search}&`}digest=${encodeURIComponent(digest)}`;
    const response = await this.#once({ method: 'PUT', url, headers: BYTES, body: body ?? Buffer.alloc(0) });
    await discard(response);
    const stored = response.header('docker-content-digest');
    if (stored === null || stored === digest) return;
    throw new LacunaError('DIGEST_MISMATCH', `the registry stored the blob as ${stored.slice(0, 160)}`, {
      op: OP,
      subject: digest,
    });
  }

  async has(digest: string): Promise<boolean> {
    const url = new URL(`blobs/${digest}`, this.#options.repository);
    const response = await this.#once({ method: 'HEAD', url, expect: [200, 400, 403, 404, 405, 501] });
    await discard(response);
    return response.status === 200;
  }

  /** Cancels the upload at the registry. Never throws, and waits at most {@link ABORT_TIMEOUT} milliseconds. */
  async end(signal: AbortSignal | null = null): Promise<void> {
    const url = this.#location;
    this.#location = null;
    if (url === null) return;
    const timeout = AbortSignal.timeout(ABORT_TIMEOUT);
    try {
      const either = signal === null ? timeout : AbortSignal.any([timeout, signal]);
      await discard(await this.#once({ method: 'DELETE', url, expect: [...DONE, 404], signal: either }));
    } catch {
      // Registries remove unfinished uploads by themselves; some refuse DELETE.
    }
  }

  async #patch(body: StreamedBody, headers: Readonly<Record<string, string>>): Promise<RegistryResponse> {
    const response = await this.#once({
      method: 'PATCH',
      url: this.#location!,
      headers: { ...BYTES, ...headers },
      body,
    });
    await discard(response);
    this.#follow(response);
    return response;
  }

  #follow(response: RegistryResponse): void {
    if (response.header('location') !== null) this.#location = this.#locationOf(response);
  }

  #locationOf(response: RegistryResponse): URL {
    return resolveLocation(response, { op: OP, subject: this.#options.subject });
  }

  #request(part: Pick<RegistryRequest, 'method' | 'url'> & Partial<RegistryRequest>): RegistryRequest {
    const { scopes, subject } = this.#options;
    return { op: OP, subject, scopes, signal: this.#signal, expect: DONE, ...part };
  }

  async #once(part: Pick<RegistryRequest, 'method' | 'url'> & Partial<RegistryRequest>): Promise<RegistryResponse> {
    return await this.#options.http.once(this.#request(part));
  }

  #protocol(problem: string): LacunaError {
    const { subject, repository } = this.#options;
    return new LacunaError('PROTOCOL', `${repository.host} ${problem}`, { op: OP, subject });
  }
}

/** How many bytes the registry has, from the `Range: 0-LAST` of an upload; null when it does not say. */
function parseUploadRange(value: string | null): number | null {
  const match = /^(?:bytes[= ])?0-([0-9]{1,15})$/.exec(value ?? '');
  return match === null ? null : Number(match[1]) + 1;
}
