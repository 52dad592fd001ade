/**
 * What reading a bootstrap of a million files costs: memory per file over the bootstrap itself, for a part of it and
 * for all, and the time that one directory takes. `npm run bench:scale-read [-- FILES]`.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openBootstrap } from '../src/formats/rafs/open.ts';
import { writeBootstrap } from '../src/formats/rafs/write.ts';
import { listTree } from '../src/inspect/entries.ts';
import type { FileChunk, FileNode } from '../src/tree/node.ts';

const PER_DIRECTORY = 1000;
const CHUNK = 4096;
const BLOB = 'b'.repeat(64);

const files = Number(process.argv[2] ?? 1_000_000);
const plain = { mode: 0o644, uid: 0, gid: 0, rdev: null, target: null, xattrs: null };

/** `files` files of one chunk each, a thousand in a directory. */
function makeBootstrap(): Buffer {
  const chunk = (index: number): FileChunk => ({
    uncompressedOffset: index * CHUNK,
    uncompressedSize: CHUNK,
    compressedOffset: index * 1000,
    compressedSize: 1000,
    compressor: 3,
    digester: 1,
    digest: createHash('sha256').update(String(index)).digest(),
    within: null,
    blob: BLOB,
    index,
    crc32c: null,
  });
  const file = (index: number): FileNode => {
    const mtime = { sec: 1_700_000_000 + (index % 100), nsec: 0 };
    return { ...plain, type: 'reg', mtime, size: CHUNK, children: null, chunks: [chunk(index)] };
  };
  const directory = (children: Map<string, FileNode>): FileNode => ({
    ...plain,
    type: 'dir',
    mode: 0o755,
    mtime: { sec: 0, nsec: 0 },
    size: 0,
    children,
    chunks: [],
  });
  const root = directory(new Map());
  for (let first = 0; first < files; first += PER_DIRECTORY) {
    const count = Math.min(PER_DIRECTORY, files - first);
    const entries = Array.from({ length: count }, (_, i): [string, FileNode] => {
      return [`file-${String(first + i).padStart(8, '0')}`, file(first + i)];
    });
    root.children!.set(`dir-${first / PER_DIRECTORY}`, directory(new Map(entries)));
  }
  const sizes = { compressedSize: files * 1000 + 100_000, uncompressedSize: files * CHUNK };
  const ci = { ciOffset: files * 1000, ciCompressedSize: 1000, ciUncompressedSize: files * 16 };
  const toc = { tocSize: 0, tocDigest: Buffer.alloc(32), ciCompressor: 3 } as const;
  const none = { cipher: null, metaDigest: null, metaSize: 0 };
  const kinds = { chunkSize: CHUNK, chunkCount: files, compressor: 3, digester: 1, features: 1 } as const;
  const blob = { id: BLOB, ...kinds, ...sizes, ...ci, ...toc, ...none };
  return writeBootstrap(root, [blob], { chunkSize: CHUNK, compressor: 3, digester: 1 });
}

function inUse(): number {
  (globalThis as { gc?: () => void }).gc!();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Made by a process of its own, so that nothing of the making is counted. */
function bootstrapOfChild(): Buffer {
  const folder = mkdtempSync(join(tmpdir(), 'ls-'));
  try {
    const path = join(folder, 'bootstrap');
    execFileSync(process.execPath, [...process.execArgv, import.meta.filename, String(files), path]);
    return readFileSync(path);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (process.argv[3] !== undefined) {
  writeFileSync(process.argv[3], makeBootstrap());
  process.exit();
}

const bytes = bootstrapOfChild();
const before = inUse();
let begin = performance.now();
const report = (what: string, base = before): void => {
  const ms = performance.now() - begin;
  const grown = inUse() - base;
  console.log(
    `${what.padEnd(46)} ${ms.toFixed(0).padStart(7)} ms ${(grown / files).toFixed(1).padStart(8)} bytes per file`,
  );
  begin = performance.now();
};

console.log(`${files} files, a bootstrap of ${(bytes.length / files).toFixed(0)} bytes per file`);
begin = performance.now();
const image = openBootstrap(bytes, { subject: 'scale' });
const root = image.root();
report('open');
const rows = [...listTree(root, '/dir-0', { recursive: false })].length;
report(`list one directory, ${rows} rows`);
void root.children!.get('dir-1')!.children!.get('file-00001500')!.chunks;
report('chunks of one file, with the table indexed');
let count = 0;
for (const directory of root.children!.values()) count += directory.children!.size;
report(`the whole tree, ${count} files`);
let size = 0;
for (const directory of root.children!.values()) {
  for (const file of directory.children!.values()) for (const chunk of file.chunks) size += chunk.compressedSize;
}
report(`and all of its chunks, ${Math.round(size / 2 ** 20)} MiB`);
// Kept to the end, so that what was measured is still there.
console.log(`${image.blobs.length} blob, ${root.children!.size} directories`);
