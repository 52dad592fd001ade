/**
 * What lies at the end of a blob that brings more than chunks: members with their tar headers *behind* them, so that
 * they are found from the end, and a table of contents (nydus, storage/src/meta/toc.rs).
 */
import type { Compressor } from '../../native/addon.ts';
import { Reader } from './bytes.ts';
import { MAX_TOC_SIZE } from './limits.ts';

const OP = 'read blob';
export const TAR_HEADER = 512;
const TOC_ENTRY = 128;

/** Names of members; `blob.meta.header` is in the table of contents only. */
export const MEMBER = {
  data: 'image.blob',
  meta: 'blob.meta',
  digests: 'blob.digest',
  bootstrap: 'image.boot',
  toc: 'rafs.blob.toc',
} as const;
const NAMES: readonly string[] = Object.values(MEMBER);

/** A member whose header lies at the end of its content. */
export interface MemberHeader {
  readonly name: string;
  /** Bytes before the header. */
  readonly size: number;
}

/** The header that the 512 bytes before the end of a blob, or before another member, are; null when they are none. */
export function parseMemberHeader(header: Buffer): MemberHeader | null {
  if (header.length !== TAR_HEADER || header.toString('latin1', 257, 262) !== 'ustar') return null;
  let sum = 0;
  for (let i = 0; i < TAR_HEADER; i++) sum += i >= 148 && i < 156 ? 0x20 : header[i]!;
  if (octal(header, 148, 8) !== sum) return null;
  const end = header.indexOf(0);
  const name = header.toString('latin1', 0, end < 0 || end > 100 ? 100 : end);
  const size = octal(header, 124, 12);
  return NAMES.includes(name) && size !== null ? { name, size } : null;
}

/** An octal number with blanks and NULs around it; null when it is none. */
function octal(bytes: Buffer, at: number, length: number): number | null {
  const text = bytes.toString('latin1', at, at + length).replace(/^[ \0]+|[ \0]+$/g, '');
  return /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : null;
}

export interface TocEntry {
  readonly name: string;
  readonly compressor: Compressor;
  /** sha256 of the plain bytes; of `image.blob` that of the stored ones with their header. */
  readonly digest: Buffer;
  readonly compressedOffset: number;
  readonly compressedSize: number;
  readonly uncompressedSize: number;
}

/** flags: one of these. */
const COMPRESSORS: ReadonlyMap<number, Compressor> = new Map([
  [1, 0],
  [2, 3],
  [4, 1],
]);

/** The entries of a table of contents. FormatError for an unknown flag, a name twice, or what cannot be a table. */
export function decodeToc(bytes: Buffer, subject: string): TocEntry[] {
  const reader = new Reader(bytes, subject, OP);
  if (bytes.length % TOC_ENTRY !== 0 || bytes.length > MAX_TOC_SIZE) {
    throw reader.bad(MEMBER.toc, `${bytes.length} bytes are no table of contents`, 0);
  }
  const entries: TocEntry[] = [];
  for (let at = 0; at < bytes.length; at += TOC_ENTRY) {
    const flags = reader.u32(at, 'flags');
    const compressor = COMPRESSORS.get(flags);
    if (compressor === undefined) throw reader.bad('flags', `0x${flags.toString(16)}`, at);
    const name = reader.text(at + 8, 16, 'name').replace(/\0+$/, '');
    if (entries.some((entry) => entry.name === name)) throw reader.bad('name', 'twice', at + 8);
    entries.push({
      name,
      compressor,
      digest: reader.slice(at + 24, 32, 'uncompressed_digest'),
      compressedOffset: reader.u64(at + 56, 'compressed_offset'),
      compressedSize: reader.u64(at + 64, 'compressed_size'),
      uncompressedSize: reader.u64(at + 72, 'uncompressed_size'),
    });
  }
  return entries;
}
