/** Sources of a blob's bytes: a registry's repository, an OCI layout, or a folder of bare files. */
import { LacunaError } from '../errors.ts';
import { MEDIA } from '../image/media.ts';
import { openRegular } from '../open-file.ts';
import type { ImageStore } from '../registry/store.ts';

export interface BlobSource {
  /** Names the place in messages; never contains a secret. */
  readonly subject: string;
  /** Exactly the bytes offset … offset + length − 1 as they arrive, or an error. Unverified. */
  read(offset: number, length: number, signal: AbortSignal): AsyncIterable<Buffer>;
}

/** A blob in a repository or layout. `id`: hex sha256; `size`: bytes of the blob that are used. */
export function storeSource(store: ImageStore, id: string, size: number): BlobSource {
  const descriptor = { mediaType: MEDIA.nydusBlob, digest: `sha256:${id}`, size };
  return {
    subject: store.subject,
    read: (offset, length, signal) => store.open(descriptor, { offset, length, partial: true, signal }),
  };
}

/** Bytes that one system call reads of a file. */
const FILE_PIECE = 256 * 1024;

/** A blob in a file; `within`: the folder that holds it, when the user named the folder instead of the file. */
export function fileSource(path: string, within?: string): BlobSource {
  const purpose = { op: 'read blob', ...(within === undefined ? {} : { within }) };
  return {
    subject: path,
    async *read(offset, length, signal) {
      const { file } = await openRegular(path, purpose);
      try {
        for (let done = 0; done < length; ) {
          signal.throwIfAborted();
          const piece = Buffer.allocUnsafe(Math.min(FILE_PIECE, length - done));
          const { bytesRead } = await file.read(piece, 0, piece.length, offset + done);
          if (bytesRead === 0) throw truncated(path, offset + done);
          done += bytesRead;
          yield piece.subarray(0, bytesRead);
        }
      } finally {
        await file.close();
      }
    },
  };
}

const truncated = (path: string, at: number): LacunaError =>
  new LacunaError('SIZE_MISMATCH', `the file ends at byte ${at}`, { op: 'read blob', subject: path });

/** The bytes of a range in one buffer. SIZE_MISMATCH when there are fewer. */
export async function readRange(
  source: BlobSource,
  offset: number,
  length: number,
  signal: AbortSignal,
): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of source.read(offset, length, signal)) pieces.push(piece);
  const bytes = pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
  if (bytes.length === length) return bytes;
  throw new LacunaError('SIZE_MISMATCH', `the blob ended after ${bytes.length} of ${length} bytes`, {
    op: 'read blob',
    subject: source.subject,
  });
}
