/**
 * The kernel's overlayfs as an oracle for layers: each unpacked by tar into a directory of its own, none applied to
 * another.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Turns the markers of layers into those of overlayfs: `.wh.NAME` into a device 0:0 called NAME, `.wh..wh..opq` into an
 * attribute of its directory. A whiteout hides lower layers only: beside an entry of its own layer it makes a directory
 * opaque and says nothing about anything else.
 */
const MARKERS = `
import os, stat, sys
for folder, _, names in (entry for top in sys.argv[1:] for entry in os.walk(os.fsencode(top))):
    times = os.lstat(folder)
    for name in names:
        if not name.startswith(b".wh."):
            continue
        os.unlink(os.path.join(folder, name))
        hidden = os.path.join(folder, name[4:])
        if name == b".wh..wh..opq":
            os.setxattr(folder, "trusted.overlay.opaque", b"y")
        elif not os.path.lexists(hidden):
            os.mknod(hidden, stat.S_IFCHR, 0)
        elif stat.S_ISDIR(os.lstat(hidden).st_mode):
            os.setxattr(hidden, "trusted.overlay.opaque", b"y")
    os.utime(folder, ns=(times.st_atime_ns, times.st_mtime_ns))
`;

/** Mounts the layers' tars, lowest first, at `dir`/merged. Unmounted when disposed of. */
export function overlayMount(tars: readonly Buffer[], dir: string): Disposable & { readonly target: string } {
  const unpacked = tars.map((tar, index) => {
    const [file, folder] = [join(dir, `${index}.tar`), join(dir, String(index))];
    writeFileSync(file, tar);
    mkdirSync(folder);
    const flags = ['--xattrs', '--xattrs-include=*', '--numeric-owner', '--delay-directory-restore'];
    execFileSync('tar', [...flags, '-xpf', file, '-C', folder], { stdio: ['ignore', 'ignore', 'pipe'] });
    return folder;
  });
  execFileSync('python3', ['-c', MARKERS, ...unpacked]);
  const [lower, target] = [[...unpacked].reverse().join(':'), join(dir, 'merged')];
  mkdirSync(target);
  // A single lower directory is refused without an upper one; an empty one below changes nothing.
  mkdirSync(join(dir, 'empty'));
  const options = `ro,lowerdir=${lower}:${join(dir, 'empty')}`;
  execFileSync('mount', ['-t', 'overlay', '-o', options, 'overlay', target]);
  return { target, [Symbol.dispose]: () => void spawnSync('umount', [target]) };
}
