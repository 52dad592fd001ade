/** Folders for tests that make very many files: a busy disk would take minutes for them. */
import { existsSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A new folder in memory, where the host has such a file system; among the temporary files otherwise. */
export const memoryFolder = (prefix: string): string =>
  mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), prefix));
