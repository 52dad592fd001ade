/**
 * A small plain image that runs: a static busybox, in three layers that have what layers have (whiteouts, an opaque
 * directory, hard links, devices, extended attributes, set-id bits). Made with tar and gzip, no code of ours.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const sh = (cwd: string, script: string): void => {
  execFileSync('sh', ['-euc', script], { cwd, stdio: ['ignore', 'ignore', 'inherit'] });
};

const LAYERS = [
  `mkdir -p bin etc/app/old dev tmp usr/share/doc home/user
   cp /bin/busybox bin/busybox
   for name in sh ls cat find stat sleep echo sha256sum sort xargs; do ln -s busybox bin/$name; done
   echo 'root:x:0:0:root:/:/bin/sh' > etc/passwd
   echo one > etc/app/one; ln etc/app/one etc/app/one-again; echo old > etc/app/old/file
   echo doc > usr/share/doc/text; head -c 200000 /dev/zero | tr '\\0' x > usr/share/doc/big
   mknod dev/full c 1 7; mkfifo tmp/pipe; chmod 1777 tmp
   echo secret > home/user/file; chown -R 1000:1001 home/user; chmod 4750 home/user/file; chmod 2700 home/user
   setfattr -n user.note -v hello etc/app/one`,
  `mkdir -p etc/app/old usr/share/doc etc/new
   touch usr/share/doc/.wh.text etc/app/old/.wh..wh..opq
   echo fresh > etc/app/old/fresh; echo two > etc/app/two; echo changed > etc/passwd.new; echo n > etc/new/n`,
  `mkdir -p etc usr; touch etc/.wh.new; echo top > usr/top; chmod 0700 usr`,
];

/** Writes an OCI layout with the image under the ref name `box`. Needs root. */
export function makeBoxImage(layout: string): void {
  const staging = `${layout}.staging`;
  mkdirSync(join(layout, 'blobs', 'sha256'), { recursive: true });
  const put = (data: Buffer, mediaType: string) => {
    const hex = createHash('sha256').update(data).digest('hex');
    writeFileSync(join(layout, 'blobs', 'sha256', hex), data);
    return { mediaType, digest: `sha256:${hex}`, size: data.length };
  };
  const diffIds: string[] = [];
  const layers = LAYERS.map((script, at) => {
    const directory = join(staging, String(at));
    mkdirSync(directory, { recursive: true });
    sh(directory, script);
    const tar = execFileSync(
      'tar',
      ['--sort=name', '--numeric-owner', '--xattrs', '--xattrs-include=user.*', '--mtime=@1700000000', '-c', '.'],
      { cwd: directory, maxBuffer: 1 << 28 },
    );
    diffIds.push(`sha256:${createHash('sha256').update(tar).digest('hex')}`);
    return put(gzipSync(tar), 'application/vnd.oci.image.layer.v1.tar+gzip');
  });
  rmSync(staging, { recursive: true });
  const config = {
    architecture: { x64: 'amd64', arm64: 'arm64' }[process.arch as 'x64'],
    os: 'linux',
    config: { Env: ['PATH=/bin'], Cmd: ['/bin/sh'] },
    rootfs: { type: 'layers', diff_ids: diffIds },
  };
  const manifest = {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: put(Buffer.from(JSON.stringify(config)), 'application/vnd.oci.image.config.v1+json'),
    layers,
  };
  const entry = {
    ...put(Buffer.from(JSON.stringify(manifest)), manifest.mediaType),
    annotations: { 'org.opencontainers.image.ref.name': 'box' },
  };
  writeFileSync(join(layout, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [entry] }));
  writeFileSync(join(layout, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
}

/** Where the static busybox of the image comes from. */
export const BUSYBOX = '/bin/busybox';
