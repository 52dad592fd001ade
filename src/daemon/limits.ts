/** How long the daemon may take for an Attach, and what reading a bootstrap may take of this host. */
import { MAX_BOOTSTRAP_SIZE, MAX_META_SIZE } from '../formats/rafs/limits.ts';

/** Seconds that a bootstrap waits while others are read. */
export const MAX_WAIT_SECONDS = 120;
/** Seconds that reading a bootstrap may take, its chunk info fetched. */
export const MAX_READ_SECONDS = 120;
/** Seconds that an Attach may take, besides those of any call. */
export const MAX_ATTACH_SECONDS = MAX_WAIT_SECONDS + MAX_READ_SECONDS;
/** Bytes of JavaScript's heap for reading a bootstrap, besides the bootstrap and its tables. */
export const MAX_READ_HEAP = 1536 * 1024 * 1024;
/** Bytes of bootstraps that are read at once, of those up to this size each and of larger ones: none waits for the others. */
export const SMALL_BOOTSTRAPS = { each: 16 * 1024 * 1024, together: 128 * 1024 * 1024 } as const;
export const LARGE_BOOTSTRAPS = { together: MAX_BOOTSTRAP_SIZE } as const;
/** Bytes of chunk info that are decoded at once, of images with so much each and of others. */
export const SMALL_METAS = { each: 16 * 1024 * 1024, together: 64 * 1024 * 1024 } as const;
export const LARGE_METAS = { together: MAX_META_SIZE } as const;
