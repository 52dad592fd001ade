/** Pushing a blob from a source that can be read again: the one place where a lost upload is repeated. */

import { isAborted } from './http/transport.ts';
import type { BlobUpload, ImageStore, SignalOptions } from './store.ts';
import { UploadLost } from './upload-window.ts';

/** A stream that was cut, chunks that are refused then, and a stream once more. */
const MAX_TRIES = 3;

export interface UploadBlobOptions extends SignalOptions {
  /** Called before the blob is made once more. */
  readonly onRepeat?: (error: Error, tries: number) => void;
}

/**
 * Makes a blob of `to`: `make` writes it to an upload and commits that (or aborts it when there is nothing). It is called
 * again, with another upload, when the registry has lost what was sent before and cannot be sent again from memory.
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
