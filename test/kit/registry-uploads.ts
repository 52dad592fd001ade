/** Uploads of the registry of the tests: POST, PATCH, PUT, GET and DELETE of the distribution spec. */
import { randomUUID } from 'node:crypto';
import type { Reply } from './registry-faults.ts';
import { digestLike, type Storage } from './registry-storage.ts';

export interface UploadOptions {
  /** `Location` with scheme and host. Default false. */
  readonly absoluteLocations?: boolean;
  /** Bytes that a chunk that is not the last must have. */
  readonly chunkMinLength?: number;
  /** Whether `?mount=` works, or the status that refuses it. Default true. */
  readonly mounts?: boolean | 400 | 401 | 403 | 404 | 405;
  /** Bytes that a PATCH with a `Content-Range` may have; 416 to more, as GitHub's registry answers. */
  readonly chunkMaxLength?: number;
  /** False: 400 to every PATCH but the first of an upload, as Google's Artifact Registry answers. */
  readonly chunks?: boolean;
  /** False: 411 to a body without a `Content-Length`. */
  readonly streams?: boolean;
  /** Bytes that any body may have; 413 to more, as proxies answer. */
  readonly bodyMaxLength?: number;
  /** False: an upload is forgotten when a request of it was cut, as docker-registry 2.8 does. */
  readonly resumable?: boolean;
  /** What a PATCH and the last PUT are answered with. Default 202 and 201. */
  readonly statuses?: { readonly patch: number; readonly put: number };
  /** No `Location` and `Range`, but `Docker-Upload-UUID`; no `Docker-Content-Digest`. Default false. */
  readonly terse?: boolean;
}

interface Upload {
  readonly repository: string;
  readonly pieces: Buffer[];
  size: number;
  /** Changes with every answer: a client must use the newest Location. */
  state: string;
}

const error = (status: number, code: string): Reply => ({
  status,
  headers: { 'content-type': 'application/json' },
  body: Buffer.from(JSON.stringify({ errors: [{ code, message: code.toLowerCase().replaceAll('_', ' ') }] })),
});

const empty = (status: number, headers: Record<string, string>): Reply => ({ status, headers, body: Buffer.alloc(0) });

export class Uploads {
  readonly #storage: Storage;
  readonly #options: UploadOptions;
  readonly #uploads = new Map<string, Upload>();

  constructor(storage: Storage, options: UploadOptions) {
    this.#storage = storage;
    this.#options = options;
  }

  /** Uploads that were begun, and neither finished nor given up. */
  get open(): number {
    return this.#uploads.size;
  }

  begin(repository: string, query: URLSearchParams, origin: string): Reply {
    const mount = query.get('mount');
    const from = query.get('from');
    if (mount !== null && typeof this.#options.mounts === 'number') return error(this.#options.mounts, 'DENIED');
    if (mount !== null && from !== null && this.#options.mounts !== false) {
      const blob = this.#storage.repositories.get(from)?.blobs.get(mount);
      if (blob !== undefined) {
        this.#storage.repository(repository).blobs.set(mount, blob);
        return empty(201, { location: `/v2/${repository}/blobs/${mount}`, 'docker-content-digest': mount });
      }
    }
    const id = randomUUID();
    this.#uploads.set(id, { repository, pieces: [], size: 0, state: '' });
    const { chunkMinLength } = this.#options;
    const minimum = chunkMinLength === undefined ? {} : { 'oci-chunk-min-length': String(chunkMinLength) };
    if (this.#options.terse === true) return empty(202, { 'docker-upload-uuid': id });
    return this.#progress(202, id, origin, minimum);
  }

  handle(
    method: string,
    id: string,
    query: URLSearchParams,
    headers: NodeJS.Dict<string | string[]>,
    body: Buffer,
    origin: string,
    whole: boolean,
  ): Reply {
    const { streams, bodyMaxLength = Number.POSITIVE_INFINITY, resumable, terse = false } = this.#options;
    const upload = this.#uploads.get(id);
    // Asking is allowed with any Location: the newest one may have been lost with its answer.
    const isCurrent = terse || query.get('_state') === upload?.state || method === 'GET' || method === 'DELETE';
    if (upload === undefined || !isCurrent) return error(404, 'BLOB_UPLOAD_UNKNOWN');
    if (streams === false && headers['transfer-encoding'] !== undefined) return error(411, 'LENGTH_REQUIRED');
    if (body.length > bodyMaxLength) return error(413, 'SIZE_INVALID');
    if (!whole && resumable === false) {
      this.#uploads.delete(id);
      return error(500, 'UNKNOWN');
    }
    switch (method) {
      case 'GET':
        return this.#progress(204, id, origin);
      case 'DELETE':
        this.#uploads.delete(id);
        return empty(204, {});
      case 'PATCH': {
        const refused = this.#refusedChunk(upload, headers['content-range']?.toString() ?? null, body.length, whole);
        if (refused !== null) return refused;
        if (body.length > 0) upload.pieces.push(body);
        upload.size += body.length;
        // A cut request is never answered, so its Location stays the old one.
        if (!whole) return error(500, 'UNKNOWN');
        const { patch = 202 } = this.#options.statuses ?? {};
        return terse ? empty(patch, {}) : this.#progress(patch, id, origin);
      }
      case 'PUT':
        return whole ? this.#finish(upload, id, query.get('digest') ?? '', body) : error(500, 'UNKNOWN');
      default:
        return error(405, 'UNSUPPORTED');
    }
  }

  #refusedChunk(upload: Upload, range: string | null, length: number, whole: boolean): Reply | null {
    const { chunks, chunkMaxLength = Number.POSITIVE_INFINITY } = this.#options;
    if (chunks === false && upload.size > 0) return error(400, 'UNSUPPORTED');
    if (range === null) return null;
    if (length > chunkMaxLength) return error(416, 'REQUESTED_RANGE_NOT_SATISFIABLE');
    const [start, last] = range.split('-').map(Number);
    const isRight = start === upload.size && (!whole || last! - start + 1 === length);
    return isRight ? null : error(416, 'RANGE_INVALID');
  }

  #finish(upload: Upload, id: string, digest: string, body: Buffer): Reply {
    const bytes = Buffer.concat([...upload.pieces, body]);
    this.#uploads.delete(id);
    if (digestLike(digest, bytes) !== digest) return error(400, 'DIGEST_INVALID');
    this.#storage.repository(upload.repository).blobs.set(digest, bytes);
    const { statuses = { put: 201 }, terse = false } = this.#options;
    const headers = { location: `/v2/${upload.repository}/blobs/${digest}`, 'docker-content-digest': digest };
    return empty(statuses.put, terse ? {} : headers);
  }

  #progress(status: number, id: string, origin: string, headers: Record<string, string> = {}): Reply {
    const upload = this.#uploads.get(id)!;
    upload.state = `${randomUUID()}+/=`;
    const path = `/v2/${upload.repository}/blobs/uploads/${id}?_state=${encodeURIComponent(upload.state)}`;
    const location = this.#options.absoluteLocations === true ? origin + path : path;
    // As docker-registry does, also for an empty upload.
    return empty(status, { ...headers, location, range: `0-${Math.max(0, upload.size - 1)}` });
  }
}
