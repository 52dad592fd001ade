/**
 * What lies at the end of a blob that brings more than chunks: members with their tar headers *behind* them, so that
 * they are found from the end, and a table of contents (nydus, storage/src/meta/toc.rs).
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

/** Names of members, in their order. */
export const MEMBER = {
  data: 'image.blob',
  meta: 'blob.meta',
  digests: 'blob.digest',
  bootstrap: 'image.boot',
  toc: 'rafs.blob.toc',
} as const;
const NAMES: readonly string[] = Object.values(MEMBER);
/** What the table of contents has of the end of `blob.meta`, which is no member. */
export const META_HEADER = 'blob.meta.header';

/** A member whose header lies at the end of its content. */
export interface MemberHeader {
  readonly name: string;
  /** Bytes before the header. */
  readonly size: number;
}

const HEADER = TAR_HEADER.fields;

/** The header that the 512 bytes before the end of a blob, or before another member, are; null when they are none. */
export function parseMemberHeader(header: Buffer): MemberHeader | null {
  if (header.length !== TAR_HEADER.size) return null;
  const reader = new Reader(header, 'tar header', OP);
  if (!HEADER.magic.read(reader, 0).startsWith('ustar')) return null;
  if (HEADER.checksum.read(reader, 0) !== tarChecksum(header, 0)) return null;
  const name = untilNul(HEADER.name.read(reader, 0));
  const size = HEADER.size.read(reader, 0);
  return NAMES.includes(name) && size !== null ? { name, size } : null;
}

/** The bare GNU header that Nydus's builder makes: name, size, mtime 0, nothing else. */
export const memberHeader = (name: string, size: number): Buffer =>
  encodeTarHeader({ name, size, mtime: 0, typeflag: '0', magic: GNU_MAGIC }, 7);

/** An entry as it is; its flags may be unknown. */
export type RawTocEntry = Decoded<typeof TOC_ENTRY>;

export interface TocEntry extends Omit<RawTocEntry, 'flags'> {
  readonly compressor: Compressor;
}

/** What the flags of an entry say of its compression. */
export const TOC_COMPRESSOR: ReadonlyMap<number, 0 | 1 | 3> = new Map([
  [1, 0],
  [2, 3],
  [4, 1],
]);

/** The bytes of an entry. `digest`: hex. Of compressors only those that we write: zstd, or none. */
export const encodeTocEntry = (entry: Omit<TocEntry, 'digest'> & { readonly digest: string }): Buffer =>
  TOC_ENTRY.encoded({ ...entry, digest: Buffer.from(entry.digest, 'hex'), flags: entry.compressor === 3 ? 2 : 1 });

/** The entry at `at`, nothing checked but that it is there. */
export function decodeTocEntry(reader: Reader, at: number): RawTocEntry {
  const entry = TOC_ENTRY.decode(reader, at);
  return { ...entry, name: entry.name.replace(/\0+$/, '') };
}

/** The entries of a table of contents. FormatError for an unknown flag, a name twice, or what cannot be a table. */
export function decodeToc(toc: Buffer, subject: string): TocEntry[] {
  const reader = new Reader(toc, subject, OP);
  if (toc.length % TOC_ENTRY.size !== 0 || toc.length > MAX_TOC_SIZE) {
    throw reader.bad(MEMBER.toc, `${toc.length} bytes are no table of contents`, 0);
  }
  const entries: TocEntry[] = [];
  for (let at = 0; at < toc.length; at += TOC_ENTRY.size) {
    const { flags, ...entry } = decodeTocEntry(reader, at);
    const compressor = TOC_COMPRESSOR.get(flags);
    if (compressor === undefined) throw TOC_ENTRY.fields.flags.bad(reader, at, `0x${flags.toString(16)}`);
    if (entries.some(({ name }) => name === entry.name)) throw TOC_ENTRY.fields.name.bad(reader, at, 'twice');
    entries.push({ ...entry, compressor });
  }
  return entries;
}
