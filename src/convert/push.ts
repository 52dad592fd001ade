/** Pushing what a conversion makes. */
import { isLacunaError, type LacunaError } from '../errors.ts';
import type { Descriptor } from '../image/manifest.ts';
import { MEDIA } from '../image/media.ts';
import { isGivenUp } from '../registry/retry.ts';
import type { BlobUpload, ImageStore } from '../registry/store.ts';
import type { ConvertPlan } from './options.ts';
import { NO_TRANSFER, type Transfer, transferOf } from './transfer.ts';

/** How often a blob is made at most: what was written of a lost upload is nowhere any more. */
const MAX_TRIES = 3;

/** Pushes a small blob unless the target has it. */
export async function pushBlob(
  to: ImageStore,
  data: Buffer,
  digest: string,
  signal: AbortSignal,
): Promise<'uploaded' | 'there'> {
  if (await to.has({ mediaType: MEDIA.ociLayer, digest, size: data.length }, { signal })) return 'there';
  const upload = await to.upload({ signal });
  try {
    await upload.write(data);
    await upload.commit(digest, data.length);
    return 'uploaded';
  } catch (error) {
    await upload.abort();
    throw error;
  }
}

/** What {@link pushMade} came to: what was made, and what it took to have its blob in the target. */
export interface Pushed<T> {
  readonly made: T;
  readonly transfer: Transfer;
}

/**
 * Pushes a blob that is not held in memory: `make` writes it and commits the upload (or aborts it when there is nothing),
 * and does so again when the registry has lost the upload (docker-registry 2.8 does so after a cut). `subject`: what is
 * made, for people.
 */
export async function pushMade<T>(
  to: ImageStore,
  { log, onProgress, force }: Pick<ConvertPlan, 'log' | 'onProgress' | 'force'>,
  signal: AbortSignal,
  subject: string,
  make: (upload: BlobUpload) => Promise<T>,
): Promise<Pushed<T>> {
  for (let tries = 1; ; tries++) {
    const begun = await to.upload({ signal });
    const upload = new CountedUpload(begun, {
      has: (blob) => to.has(blob, { signal }),
      onBytes: (done, total) => onProgress({ phase: 'push', subject, done, total, unit: 'bytes' }),
      force,
    });
    try {
      const made = await make(upload);
      return { made, transfer: upload.transfer };
    } catch (error) {
      await upload.abort();
      signal.throwIfAborted();
      if (tries === MAX_TRIES || !isLostUpload(error)) throw error;
      log.warn({ blob: subject, attempt: tries, error: error.message }, 'its upload was lost: making it again');
    }
  }
}

/** Reading has its own retries, which go on where it broke; a failed push is worth another upload, unless it had its own. */
const isLostUpload = (error: unknown): error is LacunaError =>
  isLacunaError(error) && error.code === 'UNAVAILABLE' && error.op === 'push' && !isGivenUp(error);

interface CountedUploadOptions {
  has(blob: Descriptor): Promise<boolean>;
  readonly onBytes: (done: number, total: number | null) => void;
  /** Store it anew also where the target has it: what is there may be damaged. */
  readonly force: boolean;
}

/** An upload that says how far it is, and does not store again what the target has. */
class CountedUpload implements BlobUpload {
  transfer: Transfer = NO_TRANSFER;
  readonly #upload: BlobUpload;
  readonly #options: CountedUploadOptions;
  #written = 0;

  constructor(upload: BlobUpload, options: CountedUploadOptions) {
    this.#upload = upload;
    this.#options = options;
  }

  async write(data: Buffer): Promise<void> {
    await this.#upload.write(data);
    this.#written += data.length;
    this.#options.onBytes(this.#written, null);
  }

  async commit(digest: string, size: number): Promise<void> {
    // Its digest is known only now.
    const isThere = await this.#options.has({ mediaType: MEDIA.ociLayer, digest, size });
    if (isThere && !this.#options.force) await this.#upload.abort();
    else await this.#upload.commit(digest, size);
    this.transfer = transferOf(isThere ? 'there' : 'uploaded', size);
    this.#options.onBytes(size, size);
  }

  async abort(): Promise<void> {
    await this.#upload.abort();
  }
}
