/**
 * A tree → a directory. All is made in a new directory beside the target, below which the kernel follows no link, and
 * renamed when it is whole: a killed process leaves a directory with a name of its own, never a partial image.
 */
import { close as closeFd, fstatSync, ftruncate, write as writeFd } from 'node:fs';
import { mkdtemp, readdir, rename } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { promisify } from 'node:util';
import { isLacunaError, LacunaError, toLacunaError } from '../errors.ts';
import { makeDirectory } from '../make-directory.ts';
import { addon, type TreeDir } from '../native/addon.ts';
import { removeTree } from '../native/tree.ts';
import type { OpenedImage } from '../reader/image.ts';
import { bytesOf, type FileNode, sortedXattrs } from '../tree/node.ts';
import type { Skipped, UnpackPlan } from './options.ts';
import type { Placed, TreePlan } from './tree.ts';

const write = promisify(writeFd);
const truncate = promisify(ftruncate);
const close = promisify(closeFd);

/** Entries between two looks at the signal. */
const STEP = 512;
/** A run of zeros of at least this many bytes, aligned, becomes a hole. */
const HOLE = 4096;
const ZEROS = Buffer.alloc(HOLE);

/** Unpacks `image` to `target`, which must be missing or empty. What cannot be kept is counted in `skipped`. */
export async function unpackDirectory(
  image: OpenedImage,
  tree: TreePlan,
  target: string,
  plan: UnpackPlan,
): Promise<Skipped> {
  const path = resolve(target);
  await checkTarget(path);
  await makeDirectory(dirname(path));
  const temporary = await mkdtemp(join(dirname(path), `.${basename(path)}.lacuna-`));
  try {
    const skipped = await fill(image, tree, temporary, plan);
    await rename(temporary, path);
    return skipped;
  } catch (cause) {
    // A failed removal must not hide the first error.
    await removeTree(temporary).catch(() => {});
    throw toLacunaError(cause, { op: 'unpack', subject: target });
  }
}

async function checkTarget(path: string): Promise<void> {
  const names = await readdir(path).catch((cause: unknown) => {
    const error = toLacunaError(cause, { op: 'unpack', subject: path });
    if (error.code === 'NOT_FOUND') return [];
    throw error;
  });
  if (names.length === 0) return;
  throw new LacunaError('PRECONDITION', 'the directory is not empty', {
    op: 'unpack',
    subject: path,
    hint: 'name an empty or new one',
  });
}

async function fill(image: OpenedImage, tree: TreePlan, path: string, plan: UnpackPlan): Promise<Skipped> {
  const directory = addon().treeDir(Buffer.from(path));
  try {
    const writer = new TreeWriter(directory, tree, plan);
    await writer.make();
    await writer.fill(image);
    await writer.link();
    await writer.describe();
    return writer.skipped;
  } finally {
    directory.close();
  }
}

class TreeWriter {
  readonly skipped = { owners: 0, devices: 0, xattrs: 0, sockets: 0 };
  readonly #directory: TreeDir;
  readonly #tree: TreePlan;
  readonly #plan: UnpackPlan;
  /** Device nodes that were not made. */
  readonly #absent = new Set<FileNode>();

  constructor(directory: TreeDir, tree: TreePlan, plan: UnpackPlan) {
    this.#directory = directory;
    this.#tree = tree;
    this.#plan = plan;
  }

  /** Everything but content, further names and attributes. */
  async make(): Promise<void> {
    await this.#each(this.#tree.directories.slice(1), ({ path }) => this.#directory.directory(bytesOf(path)));
    await this.#each(this.#tree.inodes, ({ path, node }) => {
      if (node.type === 'symlink') this.#directory.symlink(bytesOf(path), bytesOf(node.target!));
      else if (node.type !== 'reg') this.#special(path, node);
    });
  }

  async fill(image: OpenedImage): Promise<void> {
    const files = this.#tree.inodes.filter(({ node }) => node.type === 'reg');
    await this.#each(files, ({ path, node }) => {
      if (node.size === 0) void closeFd(this.#directory.file(bytesOf(path)));
    });
    const nodes = files.map(({ node }) => node).filter(({ size }) => size > 0);
    let open: { readonly node: FileNode; readonly fd: number; at: number } | null = null;
    let done = 0;
    try {
      for await (const { node, data } of image.contents(nodes, { signal: this.#plan.signal })) {
        open ??= { node, fd: this.#directory.file(bytesOf(this.#tree.names.get(node)!)), at: 0 };
        await writeSparsely(open.fd, data, open.at);
        open.at += data.length;
        done += data.length;
        this.#plan.onProgress({ phase: 'unpack', subject: '', done, total: this.#tree.bytes, unit: 'bytes' });
        if (open.at < node.size) continue;
        // A hole at the end is not written by anything else.
        if (fstatSync(open.fd).size < node.size) await truncate(open.fd, node.size);
        await close(open.fd);
        open = null;
      }
    } finally {
      if (open !== null) await close(open.fd);
    }
  }

  async link(): Promise<void> {
    await this.#each(this.#tree.links, ({ path, target, node }) => {
      if (!this.#absent.has(node)) this.#directory.link(bytesOf(target), bytesOf(path));
    });
  }

  /** Owners, attributes, modes and times: of directories last and from below, since making things in them changes theirs. */
  async describe(): Promise<void> {
    const made = this.#tree.inodes.filter(({ node }) => !this.#absent.has(node));
    await this.#each(made, (placed) => this.#describe(placed));
    await this.#each([...this.#tree.directories].reverse(), (placed) => this.#describe(placed));
  }

  #special(path: string, node: FileNode): void {
    const isDevice = node.type === 'char' || node.type === 'block';
    if (isDevice && this.#plan.rootless) {
      this.#absent.add(node);
      this.skipped.devices++;
      return;
    }
    const { major, minor } = node.rdev ?? { major: 0, minor: 0 };
    this.#directory.node(bytesOf(path), node.type as 'char' | 'block' | 'fifo' | 'socket', major, minor);
  }

  #describe({ path, node }: Placed): void {
    const name = bytesOf(path);
    // A change of owner takes capabilities away, and a mode without write permission forbids setting attributes.
    if (!this.#plan.rootless) this.#directory.chown(name, node.uid, node.gid);
    else if (node.uid !== this.#plan.uid || node.gid !== this.#plan.gid) this.skipped.owners++;
    for (const [key, value] of sortedXattrs(node.xattrs)) this.#setXattr(name, bytesOf(key), value);
    if (node.type !== 'symlink') this.#directory.chmod(name, node.mode);
    this.#directory.setMtime(name, node.mtime.sec, node.mtime.nsec);
  }

  #setXattr(path: Buffer, key: Buffer, value: Buffer): void {
    try {
      this.#directory.setXattr(path, key, value);
    } catch (error) {
      // The file system does not support it, or the user may not.
      if (!isLacunaError(error) || !(error.code === 'UNSUPPORTED' || error.code === 'FORBIDDEN')) throw error;
      this.skipped.xattrs++;
    }
  }

  async #each<T>(items: readonly T[], work: (item: T) => void): Promise<void> {
    for (const [i, item] of items.entries()) {
      if (i % STEP === 0) {
        await setImmediate();
        this.#plan.signal.throwIfAborted();
      }
      work(item);
    }
  }
}

/** Writes all but runs of zeros. */
async function writeSparsely(fd: number, data: Buffer, position: number): Promise<void> {
  let start = 0;
  for (let at = 0; at < data.length; ) {
    // Blocks of the file, not of the piece.
    const end = Math.min(data.length, at + HOLE - ((position + at) % HOLE));
    const isHole = ZEROS.compare(data, at, end, 0, end - at) === 0;
    if (isHole) {
      await writeAll(fd, data.subarray(start, at), position + start);
      start = end;
    }
    at = end;
  }
  await writeAll(fd, data.subarray(start), position + start);
}

async function writeAll(fd: number, data: Buffer, position: number): Promise<void> {
  for (let at = 0; at < data.length; ) {
    const { bytesWritten } = await write(fd, data, at, data.length - at, position + at);
    at += bytesWritten;
  }
}
