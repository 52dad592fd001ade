/** The errno of a failed system call, of the addon or of Node. */
/** Linux's numbers (asm-generic/errno-base.h, errno.h) of what mounting decides by and a file system answers. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  EBADF: 9,
  ENOTBLK: 15,
  EBUSY: 16,
  ENODEV: 19,
  ENOTDIR: 20,
  EINVAL: 22,
  ERANGE: 34,
  ENODATA: 61,
  EOPNOTSUPP: 95,
} as const;

/** The errno of a failed system call, or of the one that caused `error`; null when there was none. Node's are negative. */
export function errnoOf(error: unknown): number | null {
  if (!(error instanceof Error)) return null;
  if ('errno' in error && typeof error.errno === 'number') return Math.abs(error.errno);
  return errnoOf(error.cause);
}
