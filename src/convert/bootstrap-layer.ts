/**
 * The last layer of a lazy image: a small tar.gz with `image/image.boot` and one `image/<blob>.blob.meta` per blob, so
 * that a mount need not fetch the chunk information out of every blob. Same input → same bytes.
 */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { createGzip } from 'node:zlib';
import type { BlobUpload } from '../registry/store.ts';

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
    for (const piece of [...members.flat(), Buffer.alloc(1024)]) {
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
function member(name: string, type: '0' | '5', mode: number, data: Buffer): Buffer[] {
  const header = Buffer.alloc(512);
  header.write(name, 0, 100, 'latin1');
  octal(header, mode, 100, 8);
  octal(header, 0, 108, 8); // uid
  octal(header, 0, 116, 8); // gid
  octal(header, data.length, 124, 12);
  octal(header, 0, 136, 12); // mtime
  header.fill(' ', 148, 156); // the checksum counts as spaces
  header.write(type, 156, 'latin1');
  header.write('ustar\0' + '00', 257, 'latin1');
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return [header, data, Buffer.alloc((512 - (data.length % 512)) % 512)];
}

function octal(header: Buffer, value: number, at: number, width: number): void {
  header.write(`${value.toString(8).padStart(width - 1, '0')}\0`, at, 'latin1');
}
