/** Which errno a failed native call had: the bridge's errors carry it in their text. */
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

/** The number behind `(os error N)`; null when the error is no failed system call. */
export function errnoOf(error: unknown): number | null {
  const match = error instanceof Error ? /\(os error (\d+)\)/.exec(error.message) : null;
  return match === null ? null : Number(match[1]);
}
