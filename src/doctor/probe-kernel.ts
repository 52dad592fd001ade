/** Probes of the kernel: a tiny lazy image is mounted, read and covered with an overlay, in a folder of its own. */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { writeBootstrap } from '../formats/rafs/write.ts';
import { type MountDriver, mountErofs, unmount } from '../mount/erofs.ts';
import { ERRNO, errnoOf } from '../mount/errno.ts';
import { isBelow, readMounts } from '../mount/mountinfo.ts';
import { addon, findAddon } from '../native/addon.ts';
import type { FileNode } from '../tree/node.ts';
import { type Finding, missing, ok, type ProbeResult, refused, row } from './probe-result.ts';

/** Options of {@link doctor}. */
export interface ProbeOptions {
  /** A folder, or where one will be, e.g. the future root: its file system is tried. Default: that of temporary files. */
  readonly folder?: string;
}

const NOT_ROOT = 'run it as root, e.g. with sudo';

export async function probeKernel({ folder = tmpdir() }: ProbeOptions): Promise<ProbeResult[]> {
  const isRoot = process.getuid?.() === 0;
  const rows = [
    await row('root', () => (isRoot ? ok('user 0') : refused('not root: mounts are refused', NOT_ROOT))),
    await row('fuse', probeFuse),
  ];
  if (!isRoot) return [...rows, ...all(refused('not root', NOT_ROOT))];
  if (findAddon() === null) return [...rows, ...all(refused('not tested: needs the addon'))];
  let dir: string;
  try {
    dir = await mkdtemp(join(await existing(folder), 'lacuna-doctor-'));
  } catch (error) {
    return [...rows, ...all(refused((error as Error).message, 'name a folder of a writable file system'))];
  }
  try {
    return [...rows, ...(await probeMounts(await writeImage(dir)))];
  } finally {
    await unmountAll(dir);
    await rm(dir, { recursive: true, force: true });
  }
}

/** The nearest folder above `path` that is there: what is made at `path` will be of its file system. */
async function existing(path: string): Promise<string> {
  const whole = resolve(path);
  for (let folder = whole; ; folder = dirname(folder)) {
    try {
      if ((await stat(folder)).isDirectory()) return folder;
      throw new Error(`${folder} is not a folder`);
    } catch (error) {
      if (errnoCode(error) !== 'ENOENT' || folder === dirname(folder)) throw error;
    }
  }
}

const errnoCode = (error: unknown): unknown => (error instanceof Error && 'code' in error ? error.code : null);

const MOUNTS = ['erofs by file', 'erofs over loop', 'overlay', 'overlay on erofs', 'overlay on overlay'] as const;

const all = (finding: Finding): ProbeResult[] => MOUNTS.map((name) => ({ name, ...finding }));

/** One after the other: each builds on what the ones before it have shown. */
async function probeMounts(image: Awaited<ReturnType<typeof writeImage>>): Promise<ProbeResult[]> {
  const file = await row(MOUNTS[0], () => image.tryDriver('erofs-file'));
  const loop = await row(MOUNTS[1], () => image.tryDriver('erofs-loop'));
  const plain = await row(MOUNTS[2], () => image.tryOverlay());
  const works = file.status === 'ok' || loop.status === 'ok';
  const driver = file.status === 'ok' ? 'erofs-file' : 'erofs-loop';
  const needsErofs = refused('not tested: needs EROFS');
  const onErofs = await row(MOUNTS[3], () => (works ? image.tryOverlayOn(driver, 1) : needsErofs));
  const onOverlay = await row(MOUNTS[4], () => (works ? image.tryOverlayOn(driver, 2) : needsErofs));
  return [file, loop, plain, onErofs, onOverlay];
}

async function probeFuse(): Promise<Finding> {
  try {
    await using _device = await open('/dev/fuse', 'r+');
    return ok('/dev/fuse can be opened');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'EACCES' || code === 'EPERM') return refused(message, NOT_ROOT);
    return missing(`${message}: no blob device can be served`, 'load it with `modprobe fuse` (CONFIG_FUSE_FS)');
  }
}

const FILE = 'file';
const CONTENT = Buffer.from('A lacuna is a hole.\n');

/** Tries mounts with one image in `dir`; each mount is gone when its try is over. */
async function writeImage(dir: string) {
  const path = (name: string): string => join(dir, name);
  const [bootstrap, device, target] = [path('bootstrap'), path('device'), path('mnt')];
  await writeFile(bootstrap, tinyBootstrap());
  await writeFile(device, Buffer.concat([CONTENT, Buffer.alloc(BLOCK - CONTENT.length)]));
  await mkdir(target);
  await mkdir(path('plain'));
  await writeFile(join(path('plain'), FILE), CONTENT);

  const mounted = async (driver: MountDriver, work: () => Promise<Finding>): Promise<Finding> => {
    await mountErofs({ bootstrap, devices: [device], target }, { driver });
    try {
      return await work();
    } finally {
      await unmount(target, { detach: true });
    }
  };
  /** `depth` overlays, one upon the other, on `lower`. */
  const overlaid = async (lower: string, depth: number): Promise<Finding> => {
    const folder = await mkdtemp(path('overlay-'));
    const [merged, upper, work] = [join(folder, 'merged'), join(folder, 'upper'), join(folder, 'work')];
    for (const it of [merged, upper, work]) await mkdir(it);
    const options = [`lowerdir=${lower}`, `upperdir=${upper}`, `workdir=${work}`];
    await addon().mount({
      fstype: 'overlay',
      source: 'overlay',
      target: merged,
      options,
      readonly: false,
      nosuid: true,
      nodev: true,
    });
    try {
      if (depth > 1) return await overlaid(merged, depth - 1);
      return await readsRight(merged);
    } finally {
      await unmount(merged, { detach: true });
    }
  };
  return {
    tryDriver: (driver: MountDriver) => explained(driver, () => mounted(driver, () => readsRight(target))),
    tryOverlay: () => explained('overlay', () => overlaid(path('plain'), 1)),
    tryOverlayOn: (driver: MountDriver, depth: 1 | 2) =>
      explained(depth === 1 ? 'on-erofs' : 'on-overlay', () => mounted(driver, () => overlaid(target, depth))),
  };
}

async function readsRight(folder: string): Promise<Finding> {
  const got = await readFile(join(folder, FILE));
  return got.equals(CONTENT) ? ok('mounted and read') : refused('mounted, but a read returned wrong bytes');
}

/** Consequence and hint of a failed probe. */
const MEANING = {
  'erofs-file': ['loop devices are used instead', 'Linux 6.12 or newer mounts files (CONFIG_EROFS_FS_BACKED_BY_FILE)'],
  'erofs-loop': [
    'there is no substitute where the kernel cannot mount files',
    'load it with `modprobe loop` (CONFIG_BLK_DEV_LOOP)',
  ],
  overlay: ['containers need it', 'load it with `modprobe overlay`; the folder must not lie on an overlay itself'],
  'on-erofs': ['containers need it', 'choose a root on another file system, e.g. ext4 or xfs'],
  'on-overlay': ['containers that mount overlays over their own root fail', 'a newer kernel may allow it'],
} as const;

async function explained(what: keyof typeof MEANING, attempt: () => Promise<Finding>): Promise<Finding> {
  try {
    return await attempt();
  } catch (error) {
    const [meaning, hint] = MEANING[what];
    const message = `${(error as Error).message}: ${meaning}`;
    if (errnoOf(error) !== ERRNO.ENODEV) return refused(message, hint);
    const fstype = what.startsWith('erofs') ? 'erofs' : 'overlay';
    return missing(`this kernel has no ${fstype}: ${meaning}`, `load it with \`modprobe ${fstype}\``);
  }
}

/** Removes everything, also after a probe that timed out. */
async function unmountAll(dir: string): Promise<void> {
  const left = (await readMounts()).filter(({ target }) => isBelow(target, dir)).reverse();
  for (const { target } of left) await unmount(target, { detach: true });
}

const BLOCK = 4096;

/** One file in one chunk of one blob. */
function tinyBootstrap(): Buffer {
  const plain = { mode: 0o755, uid: 0, gid: 0, mtime: { sec: 0, nsec: 0 }, rdev: null, target: null, xattrs: null };
  const digest = createHash('sha256').update(CONTENT).digest();
  const kinds = { compressor: 0, digester: 1 } as const;
  const place = { uncompressedOffset: 0, compressedOffset: 0, index: 0, crc32c: null, within: null };
  const sizes = { uncompressedSize: CONTENT.length, compressedSize: CONTENT.length };
  const chunk = { ...kinds, ...place, ...sizes, digest, blob: digest.toString('hex') };
  const file: FileNode = { ...plain, type: 'reg', size: CONTENT.length, children: null, chunks: [chunk] };
  const root: FileNode = { ...plain, type: 'dir', size: 0, children: new Map([[FILE, file]]), chunks: [] };
  const blob = {
    ...kinds,
    id: chunk.blob,
    chunkSize: BLOCK,
    chunkCount: 1,
    features: 0,
    compressedSize: BLOCK,
    uncompressedSize: BLOCK,
    tocSize: 0,
    tocDigest: Buffer.alloc(32),
    ciCompressor: 0,
    ciOffset: 0,
    ciCompressedSize: 0,
    ciUncompressedSize: 0,
    cipher: null,
    metaDigest: null,
    metaSize: 0,
  } as const;
  return writeBootstrap(root, [blob], { ...kinds, chunkSize: BLOCK });
}
