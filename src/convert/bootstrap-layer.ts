/**
 * The last layer of a lazy image: a small tar.gz with `image/image.boot` and one `image/<blob>.blob.meta` per blob, so
 * that a mount need not fetch the chunk information out of every blob. Same input → same bytes.
 */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { createGzip } from 'node:zlib';
import type { BlobUpload } from '../registry/store.ts';
import { encodeTarHeader, USTAR_MAGIC } from '../tree/tarheader.ts';
import { TAR_END, tarPadding } from '../tree/tarwriter.ts';

export interface BootstrapLayer {
  /** `sha256:` of the gzip bytes, and how many there are. */
  readonly digest: string;
  readonly size: number;
  /** `sha256:` of the tar inside. */
  readonly diffId: string;
}

/** Byte 9 of a gzip header says which system made it; zlib fills in its own platform. 255 = unknown, RFC 1952. */
const GZIP_OS_OFFSET = 9;
const GZIP_OS_UNKNOWN = 255;

/** Bytes that come out of gzip at once. */
const GZIP_PIECE = 256 * 1024;

/**
 * Writes the layer to an upload and commits it. `metas`: the name of a blob's `blob.meta` file before the dot → its
 * bytes, in the order of the blob table.
 */
export async function packBootstrapLayer(
  bootstrap: Buffer,
  metas: ReadonlyMap<string, Buffer>,
  upload: BlobUpload,
): Promise<BootstrapLayer> {
  const members = [member('image/', '5', 0o755, Buffer.alloc(0)), member('image/image.boot', '0', 0o444, bootstrap)];
  for (const [id, meta] of metas) members.push(member(`image/${id}.blob.meta`, '0', 0o444, meta));
  // Piece by piece: a bootstrap of millions of files is not held twice.
  const tar = createHash('sha256');
  const hashed = function* () {
    for (const piece of [...members.flat(), TAR_END]) {
      tar.update(piece);
      yield piece;
    }
  };
  const gzip = Readable.from(hashed()).pipe(createGzip({ level: 6, chunkSize: GZIP_PIECE }));
  const hash = createHash('sha256');
  let size = 0;
  for await (const piece of gzip as AsyncIterable<Buffer>) {
    // The whole header comes at once.
    if (size === 0) piece[GZIP_OS_OFFSET] = GZIP_OS_UNKNOWN;
    hash.update(piece);
    size += piece.length;
    await upload.write(piece);
  }
  const digest = `sha256:${hash.digest('hex')}`;
  await upload.commit(digest, size);
  return { digest, size, diffId: `sha256:${tar.digest('hex')}` };
}

/** One ustar member, padded; times and owners are zero. */
function member(name: string, typeflag: '0' | '5', mode: number, data: Buffer): Buffer[] {
  const plain = { name, mode, uid: 0, gid: 0, size: data.length, mtime: 0 };
  return [encodeTarHeader({ ...plain, typeflag, magic: USTAR_MAGIC }), data, tarPadding(data.length)];
}
