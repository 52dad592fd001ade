/** Bounds of an Attach: its time, and the memory for reading bootstraps. */
import { MAX_BOOTSTRAP_SIZE, MAX_META_SIZE } from '../formats/rafs/limits.ts';

/** Maximum seconds that a bootstrap waits while others are read. */
export const MAX_WAIT_SECONDS = 120;
/** Maximum seconds for reading a bootstrap, fetching its chunk info included. */
export const MAX_READ_SECONDS = 120;
/** Maximum seconds of an Attach, in addition to the timeout of any call. */
export const MAX_ATTACH_SECONDS = MAX_WAIT_SECONDS + MAX_READ_SECONDS;
/** Maximum bytes of JavaScript heap for reading a bootstrap, without the bootstrap and its tables. */
export const MAX_READ_HEAP = 1536 * 1024 * 1024;
/** Maximum bytes of bootstraps that are read at once: small and large ones do not wait for each other. */
export const SMALL_BOOTSTRAPS = { each: 16 * 1024 * 1024, together: 128 * 1024 * 1024 } as const;
export const LARGE_BOOTSTRAPS = { together: MAX_BOOTSTRAP_SIZE } as const;
/** Maximum bytes of chunk info that are decoded at once: small and large ones do not wait for each other. */
export const SMALL_METAS = { each: 16 * 1024 * 1024, together: 64 * 1024 * 1024 } as const;
export const LARGE_METAS = { together: MAX_META_SIZE } as const;
