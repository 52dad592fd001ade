/** Nydus's own reader and tools as oracles; see `test/oracle/programs`. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { oraclePath } from '#cache';
import { run, start, waitUntil } from './process.ts';

/**
 * Mounts a RAFS image as nydusd would: `blobDir` holds the blobs under their ids; `metas`, a blob's
 * chunk info by its id, is what nydus-snapshotter takes out of the bootstrap's layer. Unmounted when disposed of.
 * Compare with `nydusReaderTime`; the reader shows a time of 0 as the time of mounting.
 */
export async function nydusMount(
  bootstrap: string,
  blobDir: string,
  mountpoint: string,
  metas: ReadonlyMap<string, Buffer> = new Map(),
): Promise<AsyncDisposable> {
  const cache = mkdtempSync(join(tmpdir(), 'nydus-cache-'));
  for (const [id, meta] of metas) writeFileSync(join(cache, `${id}.blob.meta`), meta);
  const program = start(oraclePath('nydus-mount'), [bootstrap, blobDir, cache, mountpoint]);
  const dispose = async (): Promise<void> => {
    await program.stop();
    // The program unmounts when it is asked to end; when it had to be killed, the dead mount is still there.
    if (program.child.signalCode !== null) spawnSync('umount', ['-l', mountpoint], { stdio: 'ignore' });
    rmSync(cache, { recursive: true, force: true });
  };
  try {
    await waitUntil(program, 'nydus-mount', () => program.output().includes('mounted\n'));
  } catch (error) {
    await dispose();
    throw error;
  }
  return { [Symbol.asyncDispose]: dispose };
}

/**
 * What `nydus-image check` 2.2.0 says of a bootstrap; throws when it is not content. `blobDir` holds the blobs under their
 * ids, where they are needed. It refuses `system.posix_acl_access`, also in what it has written itself.
 */
export async function nydusCheck(bootstrap: string, blobDir: string): Promise<string> {
  const { stdout, stderr } = await run(oraclePath('nydus-image'), ['check', '-D', blobDir, bootstrap]);
  return stdout + stderr;
}
