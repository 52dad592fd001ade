/** `export`: a lazy image as one self-contained EROFS file, for `mount` and for virtual machines. */
import { randomUUID } from 'node:crypto';
import { open, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { callback, LacunaError, toLacunaError } from '../errors.ts';
import { alignUp, BLOCK } from '../formats/rafs/layout.ts';
import { type PlacedChunk, type PlainImage, planPlain } from '../formats/rafs/plain.ts';
import type { OnProgress } from '../observe/progress.ts';
import type { OpenedImage, OpenImageOptions } from '../reader/image.ts';
import { openImage } from '../reader/open.ts';
import { type ImageInput, inputName } from '../registry/source.ts';
import type { FileNode } from '../tree/node.ts';
import { SparseFile } from './sparse.ts';

/** Options of {@link exportImage}. */
export interface ExportOptions extends OpenImageOptions {
  /** Called with the progress of the export, in bytes of content. */
  readonly onProgress?: OnProgress;
}

/** The result of {@link exportImage}. */
export interface ExportResult {
  /** The reference of the exported image. */
  readonly reference: string;
  /** Path of the file that was written. */
  readonly path: string;
  /** Bytes of the file, and those of it that are metadata. The rest of its blocks that hold only zeros are holes. */
  readonly size: number;
  /** Bytes of the file that are metadata. */
  readonly metadataSize: number;
  /** Distinct chunks, each written once, and their bytes. */
  readonly chunks: number;
  /** Plain bytes of the distinct chunks. */
  readonly contentSize: number;
  /** Extended attributes that EROFS has no place for, and which are left out. */
  readonly dropped: number;
}

/**
 * Writes the tree and content of a lazy image to `path`, which appears when all of it is there and verified; the same
 * image gives the same bytes. Memory is bounded by the metadata. USAGE for an ordinary image.
 */
export async function exportImage(input: ImageInput, path: string, options: ExportOptions = {}): Promise<ExportResult> {
  await refuseSpecial(path);
  const reference = inputName(input);
  await using image = await openImage(input, options);
  if (image.rafs === null) {
    throw new LacunaError('USAGE', 'only lazy images can be exported', {
      op: 'export',
      subject: reference,
      hint: 'convert it first: `lacuna convert SOURCE TARGET`',
    });
  }
  let dropped = 0;
  const plan = planPlain(image.root, () => dropped++);
  const temporary = join(dirname(path), `.${basename(path)}.${randomUUID()}`);
  try {
    await writeImage(image, plan, temporary, options);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw toLacunaError(error, { op: 'export', subject: path });
  }
  const contentSize = plan.chunks.reduce((sum, { chunk }) => sum + chunk.uncompressedSize, 0);
  const { size, metadata, chunks } = plan;
  return { reference, path, size, metadataSize: metadata.length, chunks: chunks.length, contentSize, dropped };
}

/** A file must not replace a device or a directory. */
async function refuseSpecial(path: string): Promise<void> {
  const found = await stat(path).catch(() => null);
  if (found === null || found.isFile()) return;
  throw new LacunaError('USAGE', 'exists and is not a regular file', { op: 'export', subject: path });
}

async function writeImage(image: OpenedImage, plan: PlainImage, path: string, options: ExportOptions): Promise<void> {
  const handle = await open(path, 'wx', 0o644);
  try {
    const file = new SparseFile(handle);
    await file.write(plan.metadata);
    for (const chunks of byBlob(plan.chunks)) await copyChunks(image, chunks, file, options);
    await file.finish();
    await handle.datasync();
  } finally {
    await handle.close();
  }
}

function byBlob(chunks: readonly PlacedChunk[]): PlacedChunk[][] {
  const groups: PlacedChunk[][] = [];
  for (const placed of chunks) {
    if (groups.at(-1)?.[0]?.chunk.blob === placed.chunk.blob) groups.at(-1)!.push(placed);
    else groups.push([placed]);
  }
  return groups;
}

/** Streams the chunks of one blob into the file, each to the end of its last block. */
async function copyChunks(
  image: OpenedImage,
  placed: readonly PlacedChunk[],
  file: SparseFile,
  options: ExportOptions,
): Promise<void> {
  const chunks = placed.map(({ chunk }) => chunk);
  const total = chunks.reduce((sum, { uncompressedSize }) => sum + uncompressedSize, 0);
  const subject = chunks[0]!.blob.slice(0, 12);
  const signal = options.signal === undefined ? {} : { signal: options.signal };
  const onProgress = callback(options.onProgress, 'onProgress');
  let [at, left, done] = [0, chunks[0]!.uncompressedSize, 0];
  for await (let piece of image.read(asFile(chunks, total), signal)) {
    done += piece.length;
    while (piece.length > 0) {
      const part = piece.subarray(0, left);
      await file.write(part);
      piece = piece.subarray(part.length);
      left -= part.length;
      if (left > 0) continue;
      const { uncompressedSize } = chunks[at++]!;
      await file.skip(alignUp(uncompressedSize, BLOCK) - uncompressedSize);
      left = chunks[at]?.uncompressedSize ?? 0;
    }
    onProgress({ phase: 'export', subject, done, total, unit: 'bytes' });
  }
}

/** The needed chunks of a blob as one file: read in few requests, units decoded once, everything verified. */
const asFile = (chunks: FileNode['chunks'], size: number): FileNode => ({
  type: 'reg',
  mode: 0,
  uid: 0,
  gid: 0,
  mtime: { sec: 0, nsec: 0 },
  size,
  rdev: null,
  target: null,
  xattrs: null,
  children: null,
  chunks,
});
