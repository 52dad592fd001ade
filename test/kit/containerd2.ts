/** containerd 2, which Debian 12 does not have: built once with Go, kept in the cache folder. */
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { cacheDir } from '../../scripts/cache.mjs';
import { run } from './process.ts';

/** The long-term line. */
const VERSION = 'v2.3.7';
const PROGRAMS = ['containerd', 'ctr', 'containerd-shim-runc-v2'];

/** How long building may take, in milliseconds. */
export const BUILD_MILLISECONDS = 15 * 60_000;

/** The folder with containerd's programs. */
export async function containerd2(): Promise<string> {
  const folder = join(cacheDir(), `containerd-${VERSION}`);
  if (existsSync(folder)) return folder;
  const building = `${folder}.${process.pid}`;
  mkdirSync(building, { recursive: true });
  for (const name of PROGRAMS) {
    const module = `github.com/containerd/containerd/v2/cmd/${name}@${VERSION}`;
    await run('go', ['install', module], { env: { ...process.env, GOBIN: building }, timeout: BUILD_MILLISECONDS });
  }
  renameSync(building, folder);
  return folder;
}
