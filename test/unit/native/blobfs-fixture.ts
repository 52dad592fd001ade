/**
 * A place for tests of the blob file system: blobs whose content is known, a holder, a mount, readers that are other
 * processes.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Chunk, encodeTable } from '../../../src/blob/table.ts';
import { type BlobFs, type Digester, findAddon, type Miss } from '../../../src/native/addon.ts';
import { ensureHolder, quitHolder } from '../../../src/native/holder.ts';
import { unmountBelow } from '../../kit/mounts.ts';
import { run } from '../../kit/process.ts';

export const addon = findAddon()!;

export const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

/** A blob with its truth: what its device must read like. */
export interface TestBlob {
  readonly size: number;
  readonly table: Buffer;
  readonly chunks: readonly Chunk[];
  /** The remote blob. */
  readonly stored: Buffer;
  /** What the device must hold, gaps as zeros. */
  readonly truth: Buffer;
}

export const storedChunk = ({ stored, chunks }: TestBlob, chunk: number): Buffer => {
  const { compressedOffset, compressedSize } = chunks[chunk]!;
  return stored.subarray(compressedOffset, compressedOffset + compressedSize);
};

/** Chunks of the given sizes, each on the next multiple of 4096; a negative size is a gap. Content depends on `seed`. */
export async function makeBlob(seed: number, sizes: readonly number[], digester: Digester = 0): Promise<TestBlob> {
  const chunks: Chunk[] = [];
  const stored: Buffer[] = [];
  const plain: [number, Buffer][] = [];
  let [at, storedAt] = [0, 0];
  for (const size of sizes) {
    if (size > 0) {
      const content = Buffer.alloc(size);
      for (let i = 0; i < size; i += 1) content[i] = (i * seed + (i >>> 8) * 7 + chunks.length * 31 + 1) & 0xff;
      const compressed = addon.zstdCompress(content, 3);
      const raw = compressed.length >= size;
      chunks.push({
        uncompressedOffset: at,
        uncompressedSize: size,
        compressedOffset: storedAt,
        compressedSize: raw ? size : compressed.length,
        compressor: raw ? 0 : 3,
        digester,
        digest: await addon.hashChunks(content, Uint32Array.of(0, size), digester),
        within: null,
      });
      stored.push(raw ? content : compressed);
      storedAt += raw ? size : compressed.length;
      plain.push([at, content]);
    }
    at = Math.ceil((at + Math.abs(size)) / 4096) * 4096;
  }
  const truth = Buffer.alloc(at);
  for (const [offset, content] of plain) content.copy(truth, offset);
  return { size: at, table: encodeTable(chunks), chunks, stored: Buffer.concat(stored), truth };
}

/** Misses in the order in which they came, and what to do about them. */
export interface Opened {
  readonly fs: BlobFs;
  readonly misses: Miss[];
}

export class BlobFsFixture {
  readonly dir = mkdtempSync(join(tmpdir(), 'lacuna-blobfs-'));
  readonly mountpoint = join(this.dir, 'fuse');
  readonly holderSocket = join(this.dir, 'holder.sock');
  readonly #open: BlobFs[] = [];

  /** The file system with the holder behind it. Misses are only collected when `onMiss` is left out. */
  async open(onMiss: (fs: BlobFs, miss: Miss) => void | Promise<void> = () => {}): Promise<Opened> {
    await ensureHolder(this.holderSocket);
    const misses: Miss[] = [];
    const { mountpoint, holderSocket } = this;
    const fs = await addon.blobFs({ mountpoint, holderSocket, threads: 2, workers: 2 }, (miss) => {
      misses.push(miss);
      void onMiss(fs, miss);
    });
    this.#open.push(fs);
    return { fs, misses };
  }

  /** As {@link open}, with devices whose misses are answered from their blobs. */
  async serve(blobs: Record<string, TestBlob>, shared = 'shared'): Promise<Opened & { devices: number[] }> {
    const served = new Map<number, TestBlob>();
    const opened = await this.open(async (fs, { device, chunks }) => {
      for (const chunk of chunks) await fs.deliver(device, chunk, storedChunk(served.get(device)!, chunk));
    });
    const devices = Object.entries(blobs).map(([name, blob]) => {
      const device = this.add(opened.fs, name, blob, shared);
      served.set(device, blob);
      return device;
    });
    opened.fs.ready();
    return { ...opened, devices };
  }

  add(fs: BlobFs, name: string, { size, table }: Pick<TestBlob, 'size' | 'table'>, shared = 'shared'): number {
    return fs.addDevice({ ...identity(name), size, table, units: null, ...this.stores(name, shared) });
  }

  stores(name: string, shared = 'shared'): { sharedDir: string; ownDir: string } {
    const dirs = { sharedDir: join(this.dir, shared), ownDir: join(this.dir, `own-${name}`) };
    for (const dir of Object.values(dirs)) mkdirSync(dir, { recursive: true });
    return dirs;
  }

  path(name: string): string {
    return join(this.mountpoint, name);
  }

  /** sha256 of the whole device file, read by another process. */
  async hash(name: string): Promise<string> {
    return (await run('sha256sum', [this.path(name)])).stdout.slice(0, 64);
  }

  /** sha256 and length of a range of the file, read by another process with one read(2). */
  async range(name: string, offset: number, length: number): Promise<string> {
    const script =
      'import os,sys,hashlib\nf=os.open(sys.argv[1],0)\nb=os.pread(f,int(sys.argv[3]),int(sys.argv[2]))\nprint(hashlib.sha256(b).hexdigest(),len(b))';
    return (await run('python3', ['-c', script, this.path(name), `${offset}`, `${length}`])).stdout.trim();
  }

  async closeAll(): Promise<void> {
    await Promise.all(this.#open.splice(0).map((fs) => fs.close()));
  }

  /** Ends everything, whatever state it is in. */
  async remove(): Promise<void> {
    unmountBelow(this.dir);
    await this.closeAll();
    await quitHolder(this.holderSocket);
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** A device of an image of its own; its node is the same in every process. */
export const identity = (name: string): { name: string; node: number; image: string } => ({
  name,
  node: 3 + createHash('sha256').update(name).digest().readUIntBE(0, 6),
  image: name,
});
