/** Pushing what a conversion makes. */
import type { Descriptor } from '../image/manifest.ts';
import { MEDIA } from '../image/media.ts';
import { errorRow } from '../observe/log.ts';
import type { BlobUpload, ImageStore } from '../registry/store.ts';
import { uploadBlob } from '../registry/upload-blob.ts';
import type { ConvertPlan } from './options.ts';
import { NO_TRANSFER, type Transfer, transferOf } from './transfer.ts';

/** Pushes a small blob unless the target has it. */
export async function pushBlob(
  to: ImageStore,
  data: Buffer,
  digest: string,
  signal: AbortSignal,
): Promise<'uploaded' | 'there'> {
  if (await to.has({ mediaType: MEDIA.ociLayer, digest, size: data.length }, { signal })) return 'there';
  const write = async (upload: BlobUpload): Promise<void> => {
    await upload.write(data);
    await upload.commit(digest, data.length);
  };
  await uploadBlob(to, write, { signal });
  return 'uploaded';
}

/** Result of {@link pushMade}: what was made, and the transfer of its blob. */
export interface Pushed<T> {
  readonly made: T;
  readonly transfer: Transfer;
}

/**
 * Pushes a blob that is not held in memory: `make` writes it and commits the upload (or aborts it when it is empty),
 * and does so again when the registry has lost the upload. `subject`: name of the blob for people.
 */
export async function pushMade<T>(
  to: ImageStore,
  { log, onProgress, force }: Pick<ConvertPlan, 'log' | 'onProgress' | 'force'>,
  signal: AbortSignal,
  subject: string,
  make: (upload: BlobUpload) => Promise<T>,
): Promise<Pushed<T>> {
  const onRepeat = (error: Error, attempt: number): void =>
    log.warn({ blob: subject, attempt, error: errorRow(error) }, 'the registry lost the upload; making the blob again');
  const count = async (begun: BlobUpload): Promise<Pushed<T>> => {
    const upload = new CountedUpload(begun, {
      has: (blob) => to.has(blob, { signal }),
      onBytes: (done, total) => onProgress({ phase: 'push', subject, done, total, unit: 'bytes' }),
      force,
    });
    const made = await make(upload);
    return { made, transfer: upload.transfer };
  };
  return await uploadBlob(to, count, { signal, onRepeat });
}

interface CountedUploadOptions {
  has(blob: Descriptor): Promise<boolean>;
  readonly onBytes: (done: number, total: number | null) => void;
  /** Store it anew also where the target has it: what is there may be damaged. */
  readonly force: boolean;
}

/** An upload that reports progress, and does not store a blob that the target has. */
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
