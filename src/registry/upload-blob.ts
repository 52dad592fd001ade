/** Pushes a blob from a source that can be read again: the one place where a lost upload is repeated. */

import { isAborted } from './http/transport.ts';
import type { BlobUpload, ImageStore, SignalOptions } from './store.ts';
import { UploadLost } from './upload-window.ts';

/** Three tries: a stream that is cut, then chunks that are refused, then a stream again. */
const MAX_TRIES = 3;

export interface UploadBlobOptions extends SignalOptions {
  /** Called before the blob is written again. */
  readonly onRepeat?: (error: Error, tries: number) => void;
}

/**
 * Adds a blob to `to`: `make` writes it to an upload and commits it, or aborts it when there is nothing to add. `make`
 * is called again with a new upload when the registry has lost bytes that are no longer in memory.
 */
export async function uploadBlob<T>(
  to: ImageStore,
  make: (upload: BlobUpload) => Promise<T>,
  options: UploadBlobOptions = {},
): Promise<T> {
  for (let tries = 1; ; tries++) {
    const upload = await to.upload(options);
    try {
      return await make(upload);
    } catch (error) {
      await upload.abort();
      if (tries === MAX_TRIES || !(error instanceof UploadLost) || isAborted(options.signal ?? null)) throw error;
      options.onRepeat?.(error, tries);
    }
  }
}
