/** A root with its real daemon for one test file: images are attached and mounted, and nothing of it stays. */
import { createCipheriv } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Source } from '../../src/daemon/api.ts';
import type { DaemonClient } from '../../src/daemon/client.ts';
import { type Supervisor, superviseDaemon } from '../../src/daemon/supervise.ts';
import { cleanup } from '../../src/mount/cleanup.ts';
import { mountErofs, unmount } from '../../src/mount/erofs.ts';
import type { FileNode } from '../../src/tree/node.ts';
import type { Contents } from './layers.ts';
import { makeImage } from './make-image.ts';
import { unmountBelow } from './mounts.ts';
import { run } from './process.ts';

export class DaemonFixture implements AsyncDisposable {
  readonly dir: string;
  readonly root: string;
  readonly #supervisor: Supervisor;
  readonly #mounted = new Set<string>();

  /** `fetch`: lines of the configuration's section. */
  static async start(fetch = ''): Promise<DaemonFixture> {
    const dir = mkdtempSync(join(tmpdir(), 'lcd-'));
    const config = join(dir, 'lacuna.toml');
    writeFileSync(config, `version = 1\n[fetch]\n${fetch}\n`);
    const root = join(dir, 'root');
    try {
      return new DaemonFixture(dir, root, await superviseDaemon(root, { config, logLevel: 'warn' }));
    } catch (error) {
      rmSync(dir, { recursive: true });
      throw error;
    }
  }

  constructor(dir: string, root: string, supervisor: Supervisor) {
    this.dir = dir;
    this.root = root;
    this.#supervisor = supervisor;
  }

  get client(): DaemonClient {
    return this.#supervisor.client;
  }

  /** Attaches an image and mounts it; gives the directory. */
  async mount(id: string, bootstrap: string, sources: readonly Source[], blobIds: string[] = []): Promise<string> {
    const { devices } = await this.client.attach({ id, bootstrap, sources, blobIds });
    const target = join(this.dir, `mnt-${id}`);
    mkdirSync(target, { recursive: true });
    await mountErofs({ bootstrap, devices, target });
    this.#mounted.add(id);
    return target;
  }

  async unmount(id: string): Promise<void> {
    this.#mounted.delete(id);
    await unmount(join(this.dir, `mnt-${id}`));
    await this.client.detach(id);
  }

  /** A new folder of this room. */
  folder(name: string): string {
    const path = join(this.dir, name);
    mkdirSync(path);
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      // What is still attached would be waited for by the clean-up.
      for (const id of this.#mounted) await this.unmount(id).catch(() => {});
      await this.#supervisor.close();
      await cleanup(this.root, { force: true });
    } finally {
      unmountBelow(this.dir);
      rmSync(this.dir, { recursive: true });
    }
  }
}

/** What is read next comes from the file systems themselves. */
export async function dropPageCache(): Promise<void> {
  await run('sh', ['-c', 'sync; echo 3 > /proc/sys/vm/drop_caches']);
}

/** `size` bytes that do not compress, the same for the same seed. */
export function noise(seed: number, size: number): Buffer {
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, seed & 0xff), Buffer.alloc(16, seed >> 8));
  return cipher.update(Buffer.alloc(size));
}

export interface MadeImage {
  readonly bootstrap: string;
  /** Holds the blob under its hex digest. */
  readonly dir: string;
}

/** A one-blob image of these files, all in its root directory. */
export async function makeFlatImage(
  files: Readonly<Record<string, Buffer>>,
  chunkSize: number,
  dir: string,
): Promise<MadeImage> {
  const plain = { uid: 0, gid: 0, mtime: { sec: 1, nsec: 0 }, rdev: null, target: null, xattrs: null, chunks: [] };
  const contents: Contents = new Map();
  const children = new Map<string, FileNode>();
  for (const [name, content] of Object.entries(files)) {
    const node: FileNode = { ...plain, type: 'reg', mode: 0o644, size: content.length, children: null };
    children.set(name, node);
    contents.set(node, content);
  }
  const root: FileNode = { ...plain, type: 'dir', mode: 0o755, size: 0, children };
  return { bootstrap: await makeImage(root, contents, chunkSize, dir), dir };
}
