/** What can be chosen when converting, and the defaults with their reasons. */

import { LacunaError } from '../errors.ts';
import type { Compressor, Digester } from '../native/addon.ts';
import { type Log, silentLog } from '../observe/log.ts';
import type { OnProgress } from '../observe/progress.ts';
import type { StoreOptions } from '../registry/store.ts';

/**
 * A cold start reads some 230 scattered places of an image; smaller chunks carry fewer bytes that nobody asked for,
 * larger ones compress a little better. With 128 KiB a Python start needs 12 MB instead of 14 MB at 1 MiB, and the
 * whole image grows by a tenth.
 */
export const DEFAULT_CHUNK_SIZE = 128 * 1024;

/** RAFS v6 allows powers of two from 4 KiB to 16 MiB. */
export const MIN_CHUNK_SIZE = 4 * 1024;
export const MAX_CHUNK_SIZE = 16 * 1024 * 1024;

/** zstd's own default: twice as fast as level 6 for 3 % more bytes. */
export const DEFAULT_LEVEL = 3;

/** `merge`: each layer's blob is whole. `image`: chunks that a lower layer has are left out of the upper blobs. */
export type Dedup = 'merge' | 'image';

/** What decides the bytes of a blob, together with the layer. */
export interface LayerOptions {
  /** Bytes per chunk, a power of two. */
  readonly chunkSize: number;
  readonly compressor: Compressor;
  readonly level: number;
  readonly digester: Digester;
}

export interface ConvertOptions {
  /** `os/arch[/variant]`; of an index all platforms are converted when none is given. */
  readonly platforms?: readonly string[];
  readonly chunkSize?: number;
  readonly level?: number;
  readonly dedup?: Dedup;
  readonly source?: StoreOptions;
  readonly target?: StoreOptions;
  readonly log?: Log;
  readonly onProgress?: OnProgress;
  readonly signal?: AbortSignal;
}

/** {@link ConvertOptions} with everything decided. */
export interface ConvertPlan {
  readonly layer: LayerOptions;
  readonly dedup: Dedup;
  readonly log: Log;
  readonly onProgress: OnProgress;
  readonly signal: AbortSignal;
}

/** Checks the options and fills in the defaults. */
export function planOf(options: ConvertOptions): ConvertPlan {
  const chunkSize = options.chunkSize ?? DEFAULT_CHUNK_SIZE;
  const powerOfTwo = Number.isSafeInteger(chunkSize) && Number.isInteger(Math.log2(chunkSize));
  if (!powerOfTwo || chunkSize < MIN_CHUNK_SIZE || chunkSize > MAX_CHUNK_SIZE) {
    throw new LacunaError('USAGE', `chunk size ${chunkSize} is not a power of two from 4 KiB to 16 MiB`, {
      op: 'convert',
      hint: 'for example --chunk-size 128KiB',
    });
  }
  const level = options.level ?? DEFAULT_LEVEL;
  if (!Number.isInteger(level) || level < 1 || level > 19) {
    throw new LacunaError('USAGE', `zstd level ${level} is not from 1 to 19`, { op: 'convert' });
  }
  return {
    layer: { chunkSize, compressor: 3, level, digester: 0 },
    dedup: options.dedup ?? 'merge',
    log: options.log ?? silentLog,
    onProgress: options.onProgress ?? (() => {}),
    signal: options.signal ?? new AbortController().signal,
  };
}
