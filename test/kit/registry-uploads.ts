/** Uploads of the registry of the tests: POST, PATCH, PUT, GET and DELETE of the distribution spec. */
import { randomUUID } from 'node:crypto';
import type { Reply } from './registry-faults.ts';
import { digestLike, type Storage } from './registry-storage.ts';

export interface UploadOptions {
  /** `Location` with scheme and host. Default false. */
  readonly absoluteLocations?: boolean;
  /** Bytes that a chunk that is not the last must have. */
  readonly chunkMinLength?: number;
  /** Whether `?mount=` works. Default true. */
  readonly mounts?: boolean;
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
    const upload = this.#uploads.get(id);
    // Asking is allowed with any Location: the newest one may have been lost with its answer.
    const isCurrent = query.get('_state') === upload?.state || method === 'GET' || method === 'DELETE';
    if (upload === undefined || !isCurrent) return error(404, 'BLOB_UPLOAD_UNKNOWN');
    switch (method) {
      case 'GET':
        return this.#progress(204, id, origin);
      case 'DELETE':
        this.#uploads.delete(id);
        return empty(204, {});
      case 'PATCH': {
        const [start, last] = String(headers['content-range'] ?? `${upload.size}-`)
          .split('-')
          .map(Number);
        if (start !== upload.size) return error(416, 'RANGE_INVALID');
        if (whole && last! - start + 1 !== body.length) return error(416, 'RANGE_INVALID');
        if (body.length > 0) upload.pieces.push(body);
        upload.size += body.length;
        // A cut request is never answered, so its Location stays the old one.
        return whole ? this.#progress(202, id, origin) : error(500, 'UNKNOWN');
      }
      case 'PUT':
        return whole ? this.#finish(upload, id, query.get('digest') ?? '', body) : error(500, 'UNKNOWN');
      default:
        return error(405, 'UNSUPPORTED');
    }
  }

  #finish(upload: Upload, id: string, digest: string, body: Buffer): Reply {
    const bytes = Buffer.concat([...upload.pieces, body]);
    this.#uploads.delete(id);
    if (digestLike(digest, bytes) !== digest) return error(400, 'DIGEST_INVALID');
    this.#storage.repository(upload.repository).blobs.set(digest, bytes);
    return empty(201, { location: `/v2/${upload.repository}/blobs/${digest}`, 'docker-content-digest': digest });
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
