/** How a registry takes blobs that are too large for one request: learned from its answers, once per process. */

/** What every registry takes as a chunk, whose `Content-Range` says where it lies: GitHub's takes no more. Bytes. */
export const UPLOAD_CHUNK_SIZE = 4 * 1024 * 1024;
/** Smaller chunks are not tried. Bytes. */
const MIN_CHUNK_SIZE = 256 * 1024;

/** The forms of one registry. */
export class UploadForms {
  /** `lost`: it takes them, but one was cut and could not be resumed. */
  #stream: 'untried' | 'lost' | 'refused' = 'untried';
  #takesChunks = true;
  #chunkSize = UPLOAD_CHUNK_SIZE;

  /** Whether the next blob goes as one request without an end known before; else it goes in chunks. */
  get streams(): boolean {
    return this.#stream === 'untried' || !this.#takesChunks;
  }

  get takesChunks(): boolean {
    return this.#takesChunks;
  }

  get chunkSize(): number {
    return this.#chunkSize;
  }

  /** A stream was refused, or lost so that it could not be resumed. */
  failedStream(how: 'lost' | 'refused'): void {
    if (this.#stream !== 'refused') this.#stream = how;
  }

  /** A chunk was refused, whatever its size. Returns whether streams are worth a try. */
  refusedChunk(): boolean {
    this.#takesChunks = false;
    return this.#stream !== 'refused';
  }

  /** A chunk was too large. Returns whether a smaller one is worth a try. */
  refusedSize(size: number): boolean {
    if (size <= MIN_CHUNK_SIZE) return false;
    this.#chunkSize = Math.max(MIN_CHUNK_SIZE, Math.floor(Math.min(this.#chunkSize, size) / 4));
    return true;
  }
}

const formsByApi = new Map<string, UploadForms>();

/** What is known of the registry whose API is at `base`. */
export function uploadFormsOf(base: URL): UploadForms {
  const forms = formsByApi.get(base.href) ?? new UploadForms();
  formsByApi.set(base.href, forms);
  return forms;
}
