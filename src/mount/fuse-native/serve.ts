/**
 * The portable driver: an opened image served by the optional library fuse-native, in this process. For hosts without
 * EROFS or without root. Every read is a call into JavaScript, so it costs several times what the kernel's EROFS does.
 */
import { execFile } from 'node:child_process';
import { createRequire } from 'node:module';
import { promisify } from 'node:util';
import { LacunaError, toLacunaError } from '../../errors.ts';
import { limitedLog } from '../../observe/limited-log.ts';
import { errorRow, type Log, silentLog } from '../../observe/log.ts';
import type { OpenedImage } from '../../reader/image.ts';
import { bytesOf, display, type FileNode, fromText, sortedXattrs } from '../../tree/node.ts';
import { ERRNO } from '../errno.ts';
import { mountedAt } from '../mountinfo.ts';
import { BlockCache } from './block-cache.ts';
import { type FuseStat, FuseTree } from './tree.ts';

/** The file system's type as the table of mounts has it. */
export const FUSE_FSTYPE = 'fuse.lacuna';

/** An errno, negative, or 0 or a count. */
type Reply<T extends unknown[] = []> = (result: number, ...values: T) => void;

/** The library's operations that are implemented. Paths and names are text. */
interface Operations {
  getattr(path: string, reply: Reply<[FuseStat?]>): void;
  readdir(path: string, reply: Reply<[string[]?]>): void;
  readlink(path: string, reply: Reply<[string?]>): void;
  open(path: string, flags: number, reply: Reply<[number?]>): void;
  read(path: string, fd: number, target: Buffer, length: number, offset: number, reply: Reply): void;
  release(path: string, fd: number, reply: Reply): void;
  statfs(path: string, reply: Reply<[Record<string, number>?]>): void;
}

interface FuseInstance {
  mount(done: (error: Error | null) => void): void;
  unmount(done: (error: Error | null) => void): void;
  // The two calls that the library's own wrappers answer with more bytes than were asked for.
  _op_getxattr?(signal: Signal, path: string, name: string, target: Buffer): void;
  _op_listxattr?(signal: Signal, path: string, target: Buffer): void;
}

type Signal = (result: number, target: ArrayBufferLike) => void;

interface FuseLibrary {
  new (target: string, operations: object, options: object): FuseInstance;
  /** Called by every instance before it ends its thread. */
  unmount(target: string, done: (error: Error | null) => void): void;
}

/** Loads the optional library. UNSUPPORTED where it does not load. */
function loadLibrary(): FuseLibrary {
  try {
    return createRequire(import.meta.url)('fuse-native') as FuseLibrary;
  } catch (cause) {
    throw new LacunaError('UNSUPPORTED', 'cannot load the library fuse-native', {
      op: 'mount',
      subject: (cause as Error).message.split('\n', 1)[0]!,
      hint: 'install it with `npm install fuse-native`; it needs libfuse2 and fuse3 (Debian)',
      cause,
    });
  }
}

export interface FuseMount {
  /** Unmounts unless somebody did, and ends the serving thread. PRECONDITION while it is in use. */
  close(): Promise<void>;
}

export interface FuseOptions {
  readonly log?: Log;
  /** Whether setuid programs of the image work; root alone may give that. Default false. */
  readonly suid?: boolean;
  /** Whether device nodes of the image work; root alone may give that. Default false. */
  readonly dev?: boolean;
}

/** Serves `image` on `target`, an existing directory without links. The image stays the caller's. */
export async function serveFuse(image: OpenedImage, target: string, options: FuseOptions = {}): Promise<FuseMount> {
  const Library = loadLibrary();
  // The library's own asks a shell, and detaches what is in use.
  Library.unmount = (path, done) => {
    unmountFuse(path).then(() => done(null), done);
  };
  const isRoot = process.getuid?.() === 0;
  const server = new Server(image, limitedLog(options.log ?? silentLog));
  // The library calls the operations that exist by name; these two are answered below.
  const operations = { ...server.operations, getxattr() {}, listxattr() {} };
  const fuse = new Library(target, operations, {
    // A read waits as long as its source does.
    timeout: false,
    // Options without a field of their own: inode numbers are ours, and the kernel refuses to write.
    fsname: `lacuna,use_ino,ro,${options.suid ? 'suid' : 'nosuid'},${options.dev ? 'dev' : 'nodev'}`,
    subtype: 'lacuna',
    kernelCache: true,
    attrTimeout: CACHED_SECONDS,
    entryTimeout: CACHED_SECONDS,
    defaultPermissions: true,
    // Others may look only where the administrator allows it, and root is the administrator.
    allowOther: isRoot,
  });
  fuse._op_getxattr = (signal, path, name, buffer) => answer(signal, server.xattr(path, name), buffer);
  fuse._op_listxattr = (signal, path, buffer) => answer(signal, server.xattrNames(path), buffer);
  const problem = { op: 'mount', subject: target };
  await promisify(fuse.mount.bind(fuse))().catch((cause: unknown) => {
    throw toLacunaError(cause, problem);
  });
  return {
    async close() {
      await promisify(fuse.unmount.bind(fuse))().catch((cause: unknown) => {
        throw toLacunaError(cause, { op: 'unmount', subject: target });
      });
    },
  };
}

/** An image never changes, so the kernel may keep what it was told for a day. */
const CACHED_SECONDS = 86_400;

/** Unmounts the file system on `target`, without root where one mounted it oneself; does nothing where it is gone. */
export async function unmountFuse(target: string): Promise<void> {
  if ((await mountedAt(target))?.fstype !== FUSE_FSTYPE) return;
  try {
    await promisify(execFile)('fusermount', ['-u', '--', target]);
  } catch (cause) {
    const { stderr = '', code } = cause as { stderr?: string; code?: unknown };
    if (/busy/i.test(stderr)) {
      throw new LacunaError('PRECONDITION', 'it is in use', {
        op: 'unmount',
        subject: target,
        hint: 'end what has files or its working directory below it (`fuser -vm DIR` names it)',
        cause,
      });
    }
    const hint = code === 'ENOENT' ? { hint: 'Debian: apt install fuse3' } : {};
    throw new LacunaError('SYSTEM', stderr.trim() || String(cause), { op: 'unmount', subject: target, cause, ...hint });
  }
}

/** As getxattr(2) wants it: the length when the buffer is empty, ERANGE when it is too small. Never more than it holds. */
function answer(signal: Signal, value: Buffer | number, target: Buffer): void {
  const { buffer } = target;
  if (typeof value === 'number') signal(value, buffer);
  else if (target.length === 0) signal(value.length, buffer);
  else if (value.length > target.length) signal(-ERRNO.ERANGE, buffer);
  else signal(value.copy(target), buffer);
}

class Server {
  readonly #tree: FuseTree;
  readonly #log: Log;
  readonly #blocks: BlockCache;
  readonly #open = new Map<number, FileNode>();
  #nextFd = 1;

  constructor(image: OpenedImage, log: Log) {
    this.#tree = new FuseTree(image.root);
    this.#log = log;
    this.#blocks = new BlockCache(image);
  }

  readonly operations: Operations = {
    getattr: (path, reply) => {
      const node = this.#tree.find(path);
      if (node === null) reply(-ERRNO.ENOENT);
      else reply(0, this.#tree.stat(node));
    },
    readdir: (path, reply) => {
      const node = this.#tree.find(path);
      if (node === null) reply(-ERRNO.ENOENT);
      else if (node.type !== 'dir') reply(-ERRNO.ENOTDIR);
      else reply(0, ['.', '..', ...this.#tree.names(node)]);
    },
    readlink: (path, reply) => {
      const node = this.#tree.find(path);
      if (node === null) reply(-ERRNO.ENOENT);
      else if (node.type !== 'symlink') reply(-ERRNO.EINVAL);
      else reply(0, display(node.target!));
    },
    open: (path, _flags, reply) => {
      const node = this.#tree.find(path);
      if (node === null) return reply(-ERRNO.ENOENT);
      const fd = this.#nextFd++;
      this.#open.set(fd, node);
      reply(0, fd);
    },
    read: (path, fd, target, length, offset, reply) => {
      const node = this.#open.get(fd);
      if (node === undefined) return reply(-ERRNO.EBADF);
      this.#blocks.read(node, target.subarray(0, length), offset).then(reply, (error: unknown) => {
        this.#log.error({ path, error: errorRow(error) }, 'a read of a mounted image failed');
        reply(-ERRNO.EIO);
      });
    },
    release: (_path, fd, reply) => {
      this.#open.delete(fd);
      reply(0);
    },
    statfs: (_path, reply) => {
      reply(0, { bsize: 4096, frsize: 4096, files: this.#tree.inodes, namemax: 255 });
    },
  };

  /** The value, or a negative errno. */
  xattr(path: string, name: string): Buffer | number {
    const node = this.#tree.find(path);
    return node === null ? -ERRNO.ENOENT : (node.xattrs?.get(fromText(name)) ?? -ERRNO.ENODATA);
  }

  /** The names, each with a NUL behind it, or a negative errno. */
  xattrNames(path: string): Buffer | number {
    const node = this.#tree.find(path);
    if (node === null) return -ERRNO.ENOENT;
    return bytesOf(
      sortedXattrs(node.xattrs)
        .map(([name]) => `${name}\0`)
        .join(''),
    );
  }
}
