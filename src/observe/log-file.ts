/** A log in a file, of bounded size. */
import { closeSync, fstatSync, openSync, renameSync, writeSync } from 'node:fs';

/** A file that would grow beyond this many bytes is put aside as `<path>.old`, in the place of an earlier one. */
export const MAX_LOG_FILE = 16 * 1024 * 1024;

export interface LogFile {
  /** Appends a line. A line that cannot be written is lost: a full disk must not end the process. */
  write(line: string): void;
}

/** Appends to `path` (0600). Opened anew after a failure, so that lines come again once there is room. */
export function openLogFile(path: string, limit = MAX_LOG_FILE): LogFile {
  let fd: number | null = null;
  let size = 0;
  const open = (): number => {
    const opened = openSync(path, 'a', 0o600);
    ({ size } = fstatSync(opened));
    return opened;
  };
  const close = (): void => {
    if (fd !== null) closeSync(fd);
    fd = null;
  };
  return {
    write(line) {
      try {
        fd ??= open();
        const bytes = Buffer.byteLength(line);
        if (size > 0 && size + bytes > limit) {
          renameSync(path, `${path}.old`);
          close();
          fd = open();
        }
        writeSync(fd, line);
        size += bytes;
      } catch {
        close();
      }
    },
  };
}
