/** Pushing what a conversion makes. */
import { isLacunaError, type LacunaError } from '../errors.ts';
import { MEDIA } from '../image/media.ts';
import { isGivenUp } from '../registry/retry.ts';
import type { BlobUpload, ImageStore } from '../registry/store.ts';
import type { ConvertPlan } from './options.ts';

/** How often a blob is made at most: what was written of a lost upload is nowhere any more. */
const MAX_TRIES = 3;

/** Pushes a small blob unless the target has it. */
export async function pushBlob(to: ImageStore, data: Buffer, digest: string, plan: ConvertPlan): Promise<void> {
  const signal = { signal: plan.signal };
  if (await to.has({ mediaType: MEDIA.ociLayer, digest, size: data.length }, signal)) return;
  const upload = await to.upload(signal);
  try {
    await upload.write(data);
    await upload.commit(digest, data.length);
  } catch (error) {
    await upload.abort();
    throw error;
  }
}

/**
 * Pushes a blob that is not held in memory: `make` writes it and commits the upload (or aborts it when there is nothing),
 * and does so again when the registry has lost the upload (docker-registry 2.8 does so after a cut). `subject`: what is
 * made, for the log.
 */
export async function pushMade<T>(
  to: ImageStore,
  { log }: Pick<ConvertPlan, 'log'>,
  signal: AbortSignal,
  subject: string,
  make: (upload: BlobUpload) => Promise<T>,
): Promise<T> {
  for (let tries = 1; ; tries++) {
    const upload = await to.upload({ signal });
    try {
      return await make(upload);
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
