/** Pushing what a conversion makes. */
import { MEDIA } from '../image/media.ts';
import type { BlobUpload, ImageStore } from '../registry/store.ts';
import { uploadBlob } from '../registry/upload-blob.ts';
import type { ConvertPlan } from './options.ts';

/** Pushes a small blob unless the target has it. */
export async function pushBlob(to: ImageStore, data: Buffer, digest: string, plan: ConvertPlan): Promise<void> {
  const signal = { signal: plan.signal };
  if (await to.has({ mediaType: MEDIA.ociLayer, digest, size: data.length }, signal)) return;
  const write = async (upload: BlobUpload): Promise<void> => {
    await upload.write(data);
    await upload.commit(digest, data.length);
  };
  await uploadBlob(to, write, signal);
}

/**
 * Pushes a blob that is not held in memory: `make` writes it and commits the upload (or aborts it when there is nothing),
 * and does so again when the registry has lost the upload. `subject`: what is made, for the log.
 */
export async function pushMade<T>(
  to: ImageStore,
  { log }: Pick<ConvertPlan, 'log'>,
  signal: AbortSignal,
  subject: string,
  make: (upload: BlobUpload) => Promise<T>,
): Promise<T> {
  const onRepeat = (error: Error, attempt: number): void =>
    log.warn({ blob: subject, attempt, error: error.message }, 'its upload was lost: making it again');
  return await uploadBlob(to, make, { signal, onRepeat });
}
