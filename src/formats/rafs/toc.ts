/**
 * The end of a blob with metadata: members, each *followed* by its tar header so that readers can start at the end, and a
 * table of contents (nydus, storage/src/meta/toc.rs).
 */

import { bytes, text, u32, u64, zeros } from '../../binary/fields.ts';
import { Reader } from '../../binary/reader.ts';
import { type Decoded, struct } from '../../binary/struct.ts';
import type { Compressor } from '../../native/addon.ts';
import { encodeTarHeader, GNU_MAGIC, TAR_HEADER, tarChecksum, untilNul } from '../../tree/tarheader.ts';
import { META_RS } from './layout.ts';
import { MAX_TOC_SIZE } from './limits.ts';

const OP = 'read blob';

export const TOC_ENTRY = struct('TocEntry', `${META_RS}/toc.rs`, 128, {
  flags: u32(0, 'flags', '1 not compressed, 2 zstd, 4 lz4'),
  reserved: zeros(4, 4, 'reserved1'),
  name: text(8, 16, 'name', 'of the member, and NULs'),
  digest: bytes(24, 32, 'uncompressed_digest', 'sha256 of the plain bytes; of `image.blob` that of the stored ones'),
  compressedOffset: u64(56, 'compressed_offset', 'bytes, in the blob'),
  compressedSize: u64(64, 'compressed_size', 'bytes'),
  uncompressedSize: u64(72, 'uncompressed_size', 'bytes'),
  reserved2: zeros(80, 48, 'reserved2'),
});

/** Names of members, in the order of the blob. */
export const MEMBER = {
  data: 'image.blob',
  meta: 'blob.meta',
  digests: 'blob.digest',
  bootstrap: 'image.boot',
  toc: 'rafs.blob.toc',
} as const;
const NAMES: readonly string[] = Object.values(MEMBER);
/** Name of the entry for the header at the end of `blob.meta`, which is not a member of its own. */
export const META_HEADER = 'blob.meta.header';

/** A member whose header lies at the end of its content. */
export interface MemberHeader {
  readonly name: string;
  /** Bytes before the header. */
  readonly size: number;
}

const HEADER = TAR_HEADER.fields;

/** Decodes the 512 bytes at the end of a blob, or before another member, as a header; null when they are not one. */
export function parseMemberHeader(header: Buffer): MemberHeader | null {
  if (header.length !== TAR_HEADER.size) return null;
  const reader = new Reader(header, 'tar header', OP);
  if (!HEADER.magic.read(reader, 0).startsWith('ustar')) return null;
  if (HEADER.checksum.read(reader, 0) !== tarChecksum(header, 0)) return null;
  const name = untilNul(HEADER.name.read(reader, 0));
  const size = HEADER.size.read(reader, 0);
  return NAMES.includes(name) && size !== null ? { name, size } : null;
}

/** The GNU header that Nydus's builder writes: name, size and mtime 0 only. */
export const memberHeader = (name: string, size: number): Buffer =>
  encodeTarHeader({ name, size, mtime: 0, typeflag: '0', magic: GNU_MAGIC }, 7);

/** A decoded entry; its flags may be unknown. */
export type RawTocEntry = Decoded<typeof TOC_ENTRY>;

export interface TocEntry extends Omit<RawTocEntry, 'flags'> {
  readonly compressor: Compressor;
}

/** Compression of an entry by its flags. */
export const TOC_COMPRESSOR: ReadonlyMap<number, 0 | 1 | 3> = new Map([
  [1, 0],
  [2, 3],
  [4, 1],
]);

/** Encodes an entry. `digest`: hex. The compressor must be one that we write: zstd, or none. */
export const encodeTocEntry = (entry: Omit<TocEntry, 'digest'> & { readonly digest: string }): Buffer =>
  TOC_ENTRY.encoded({ ...entry, digest: Buffer.from(entry.digest, 'hex'), flags: entry.compressor === 3 ? 2 : 1 });

/** Decodes the entry at `at` without checking values. Throws FormatError beyond the end. */
export function decodeTocEntry(reader: Reader, at: number): RawTocEntry {
  const entry = TOC_ENTRY.decode(reader, at);
  return { ...entry, name: entry.name.replace(/\0+$/, '') };
}

/** Decodes a table of contents. Throws FormatError for a wrong length, an unknown flag, or a duplicate name. */
export function decodeToc(toc: Buffer, subject: string): TocEntry[] {
  const reader = new Reader(toc, subject, OP);
  if (toc.length % TOC_ENTRY.size !== 0 || toc.length > MAX_TOC_SIZE) {
    throw reader.bad(MEMBER.toc, `${toc.length} bytes are not a valid size of a table of contents`, 0);
  }
  const entries: TocEntry[] = [];
  for (let at = 0; at < toc.length; at += TOC_ENTRY.size) {
    const { flags, ...entry } = decodeTocEntry(reader, at);
    const compressor = TOC_COMPRESSOR.get(flags);
    if (compressor === undefined)
      throw TOC_ENTRY.fields.flags.bad(reader, at, `unknown compression 0x${flags.toString(16)}`);
    if (entries.some(({ name }) => name === entry.name))
      throw TOC_ENTRY.fields.name.bad(reader, at, `duplicate entry ${entry.name}`);
    entries.push({ ...entry, compressor });
  }
  return entries;
}
