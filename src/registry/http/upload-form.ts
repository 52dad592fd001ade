/** Forms of upload that a registry accepts for large blobs, learned from its responses once per process. */

/** Size of a chunk that every registry accepts: the maximum of GitHub's registry. Bytes. */
export const UPLOAD_CHUNK_SIZE = 4 * 1024 * 1024;
/** Minimum size of a chunk. Bytes. */
const MIN_CHUNK_SIZE = 256 * 1024;

/** Forms that one registry accepts. */
export class UploadForms {
  /** `lost`: the registry accepts streams, but one was cut and could not be resumed. */
  #stream: 'untried' | 'lost' | 'refused' = 'untried';
  #takesChunks = true;
  #chunkSize = UPLOAD_CHUNK_SIZE;

  /** Whether the next blob is streamed in one request of unknown length; else it is sent in chunks. */
  get streams(): boolean {
    return this.#stream === 'untried' || !this.#takesChunks;
  }

  get takesChunks(): boolean {
    return this.#takesChunks;
  }

  get chunkSize(): number {
    return this.#chunkSize;
  }

  /** Records that a stream was refused, or lost so that it could not be resumed. */
  failedStream(how: 'lost' | 'refused'): void {
    if (this.#stream !== 'refused') this.#stream = how;
  }

  /** Records that chunks are refused at any size. Returns whether streams may work. */
  refusedChunk(): boolean {
    this.#takesChunks = false;
    return this.#stream !== 'refused';
  }

  /** Records that a chunk of `size` bytes was too large. Returns whether a smaller one may work. */
  refusedSize(size: number): boolean {
    if (size <= MIN_CHUNK_SIZE) return false;
    this.#chunkSize = Math.max(MIN_CHUNK_SIZE, Math.floor(Math.min(this.#chunkSize, size) / 4));
    return true;
  }
}

const formsByApi = new Map<string, UploadForms>();

/** The forms of the registry whose API is at `base`. */
export function uploadFormsOf(base: URL): UploadForms {
  const forms = formsByApi.get(base.href) ?? new UploadForms();
  formsByApi.set(base.href, forms);
  return forms;
}
