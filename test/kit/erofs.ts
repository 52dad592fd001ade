/**
 * The kernel as an oracle: an EROFS image mounted by mount(2) with its devices, by a program that shares no code with
 * src.
 */
import { execFileSync, spawnSync } from 'node:child_process';

const MOUNT = `
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
image, target, *devices = map(os.fsencode, sys.argv[1:])
options = b",".join([b"user_xattr", b"acl"] + [b"device=" + device for device in devices])
MS_RDONLY = 1
if libc.mount(image, target, b"erofs", MS_RDONLY, options) != 0:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
`;

/**
 * Mounts a bootstrap file; `devices` are files of plain blob content in the order of the blob table. Unmounted when
 * disposed of.
 */
export function erofsMount(image: string, devices: readonly string[], target: string): Disposable {
  execFileSync('python3', ['-c', MOUNT, image, target, ...devices], { stdio: ['ignore', 'ignore', 'pipe'] });
  return { [Symbol.dispose]: () => void spawnSync('umount', [target]) };
}

/** What `fsck.erofs` finds wrong; empty when it is content. */
export function fsck(image: string, devices: readonly string[]): string {
  const flags = devices.map((device) => `--device=${device}`);
  const { status, stdout, stderr } = spawnSync('fsck.erofs', ['--extract', ...flags, image], { encoding: 'utf8' });
  return status === 0 ? '' : `exit ${status}: ${stdout}${stderr}`;
}
