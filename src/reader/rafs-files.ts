/**
 * A bootstrap in a file, in whatever form it comes: by itself, inside its blob, or in a bootstrap layer. `rafs:` names
 * such a file.
 */
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { fileSource, readRange } from '../blob/source.ts';
import { FormatError } from '../errors.ts';
import { EROFS_MAGIC, SUPERBLOCK_OFFSET } from '../formats/rafs/layout.ts';
import { MAX_BOOTSTRAP_SIZE } from '../formats/rafs/limits.ts';
import { detectCompression } from '../image/compression.ts';
import { isSha256Hex } from '../image/digest.ts';
import type { Codec } from '../native/codec.ts';
import { sizeOfRegular } from '../open-file.ts';
import { type Blob, findMembers, readInlineBootstrap } from './blob-members.ts';
import { type BootstrapLayer, readBootstrapTar } from './bootstrap.ts';
import { decompressTar } from './layer-stream.ts';

/** A bootstrap is recognised by its superblock, a tar by its first header. */
const HEAD_SIZE = SUPERBLOCK_OFFSET + 4;

export interface RafsFile extends BootstrapLayer {
  /** Hex id of the blob that the bootstrap lies in or was taken out of; null when unknown. */
  readonly blobId: string | null;
  /** Whether the file itself is that blob. */
  readonly isBlob: boolean;
}

/** Reads a bootstrap out of the file at `path`. NOT_FOUND, FORMAT. */
export async function readRafsFile(path: string, codec: Codec, signal: AbortSignal): Promise<RafsFile> {
  const size = await sizeOfRegular(path, { op: 'open' });
  const source = fileSource(path);
  const readAt = (offset: number, length: number) => readRange(source, offset, length, signal);
  const head = await readAt(0, Math.min(size, HEAD_SIZE));
  // A bootstrap taken out of its own blob cannot name it; by Nydus's custom its file is called ID or ID.boot.
  const stem = basename(path).replace(/\.boot$/, '');
  const blobId = isSha256Hex(stem) ? stem : null;
  if (head.length === HEAD_SIZE && head.readUInt32LE(SUPERBLOCK_OFFSET) === EROFS_MAGIC) {
    if (size > MAX_BOOTSTRAP_SIZE)
      throw new FormatError('bootstrap', `${size} bytes exceed the limit of ${MAX_BOOTSTRAP_SIZE}`, { subject: path });
    return { bootstrap: await readAt(0, size), metas: new Map(), blobId, isBlob: false };
  }
  const blob: Blob = { size, subject: path, readAt };
  if ((await findMembers(blob)).length > 0) {
    const bootstrap = await readInlineBootstrap(blob, codec);
    return {
      bootstrap,
      metas: new Map(),
      blobId: blobId ?? (await sha256Of(source.read(0, size, signal))),
      isBlob: true,
    };
  }
  if (!isTar(head) && detectCompression(head) === 'none') {
    throw new FormatError('magic', 'neither a bootstrap, nor a blob or layer that holds one', {
      op: 'open',
      subject: path,
      offset: SUPERBLOCK_OFFSET,
    });
  }
  const tar = decompressTar(source.read(0, size, signal), path);
  return { ...(await readBootstrapTar(tar, path, { signal })), blobId: null, isBlob: false };
}

const isTar = (head: Buffer): boolean => head.toString('latin1', 257, 262) === 'ustar';

async function sha256Of(pieces: AsyncIterable<Buffer>): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of pieces) hash.update(piece);
  return hash.digest('hex');
}
