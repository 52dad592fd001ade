/**
 * The end of a blob: tar headers behind what they describe, and a table of contents (nydus, storage/src/meta/toc.rs). Read
 * backwards from the last byte, as Nydus does; what a header claims is believed only as far as it leads to the next one.
 */
import { Bytes } from './bytes.ts';
import type { Findings } from './findings.ts';

const TAR_HEADER = 512;
const TOC_ENTRY = 128;
const NAME_AT = 0;
const SIZE_AT = 124;
const SUM_AT = 148;
const MAGIC_AT = 257;
const MAGIC = 'ustar  \0';

/** A member of the blob; offsets in bytes from its start. */
export interface Member {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
  readonly headerAt: number;
}

/** Which members there can be, the last one first. */
const NAMES: readonly string[] = ['rafs.blob.toc', 'image.boot', 'blob.digest', 'blob.meta', 'image.blob'];

/** Bytes of a blob from `at` to its end, of which the first member begins at `first`, before `at` if need be. */
export interface Tail {
  readonly bytes: Buffer;
  readonly at: number;
  readonly first: number;
  /** Sizes of members that are known from elsewhere. */
  readonly sizes: ReadonlyMap<string, number>;
}

/** Members from the last one to the first, as far as their headers lead. */
export function readMembers({ bytes: tail, at: tailAt, first, sizes }: Tail, findings: Findings): Member[] {
  const bytes = new Bytes(tail, findings);
  const members: Member[] = [];
  let end = tailAt + tail.length;
  let place = 0;
  while (end > first) {
    const headerAt = end - TAR_HEADER;
    if (headerAt < tailAt) {
      findings.error('tar header', end, `no room for one in front of byte ${end}`);
      break;
    }
    const member = readHeader(bytes, headerAt - tailAt, headerAt, sizes);
    if (member === null) break;
    const order = NAMES.indexOf(member.name, place);
    if (order < 0) {
      findings.error('name', headerAt + NAME_AT, `${JSON.stringify(member.name)} is not expected here`);
      break;
    }
    place = order + 1;
    if (!(member.offset >= first)) {
      findings.error(
        'size',
        headerAt + SIZE_AT,
        `${member.size} bytes begin before the first member, at ${member.offset}`,
      );
      break;
    }
    members.push(member);
    end = member.offset;
  }
  return members;
}

/** `at`: in the bytes; `headerAt`: in the blob. Null when its size leads nowhere. */
function readHeader(bytes: Bytes, at: number, headerAt: number, sizes: ReadonlyMap<string, number>): Member | null {
  const { findings } = bytes;
  const header = bytes.slice(at, TAR_HEADER, 'tar header');
  const name = header.toString('latin1', NAME_AT, Math.max(0, header.indexOf(0)));
  const octal = header.toString('latin1', SIZE_AT, SIZE_AT + 12);
  const magic = header.toString('latin1', MAGIC_AT, MAGIC_AT + MAGIC.length);
  if (magic !== MAGIC) findings.error('magic', headerAt + MAGIC_AT, 'not a header of a GNU tar');
  const sum = header.reduce((total, byte, i) => total + (i >= SUM_AT && i < SUM_AT + 8 ? 0x20 : byte), 0);
  const said = Number.parseInt(header.toString('latin1', SUM_AT, SUM_AT + 8), 8);
  if (said !== sum) findings.error('chksum', headerAt + SUM_AT, `${said}, the header has ${sum}`);
  const claimed = /^[0-7]{1,12}[\0 ]?/.test(octal) ? Number.parseInt(octal, 8) : null;
  const size = sizes.get(name) ?? claimed;
  if (claimed === null) findings.error('size', headerAt + SIZE_AT, `${JSON.stringify(octal)} is no number`);
  else if (claimed !== size) findings.error('size', headerAt + SIZE_AT, `${claimed} for ${name}, not ${size}`);
  return size === null ? null : { name, size, offset: headerAt - size, headerAt };
}

export interface TocEntry {
  readonly name: string;
  readonly flags: number;
  readonly digest: Buffer;
  readonly offset: number;
  readonly compressedSize: number;
  readonly size: number;
  /** Place in the blob. */
  readonly at: number;
}

/** What the flags of an entry say of its compression: a compressor's number. */
export const TOC_COMPRESSOR: ReadonlyMap<number, 0 | 1 | 3> = new Map([
  [1, 0],
  [2, 3],
  [4, 1],
]);

const TOC_NAMES: readonly string[] = ['image.blob', 'blob.meta', 'blob.meta.header', 'blob.digest', 'image.boot'];

/** The entries of a table of contents, whose first byte lies at `tocAt` of the blob. */
export function readToc(toc: Buffer, tocAt: number, findings: Findings): TocEntry[] {
  const bytes = new Bytes(toc, findings);
  if (toc.length % TOC_ENTRY !== 0) findings.error('rafs.blob.toc', tocAt, `${toc.length} bytes are not whole entries`);
  const entries: TocEntry[] = [];
  for (let at = 0; at + TOC_ENTRY <= toc.length && entries.length < TOC_NAMES.length; at += TOC_ENTRY) {
    const place = tocAt + at;
    const entry = {
      name: bytes.text(at + 8, 16, 'name').replace(/\0+$/, ''),
      flags: bytes.u32(at, 'flags'),
      digest: bytes.slice(at + 24, 32, 'uncompressed_digest'),
      offset: bytes.u64(at + 56, 'compressed_offset'),
      compressedSize: bytes.u64(at + 64, 'compressed_size'),
      size: bytes.u64(at + 72, 'uncompressed_size'),
      at: place,
    };
    if (!TOC_NAMES.includes(entry.name)) findings.error('name', place + 8, `${JSON.stringify(entry.name)} is unknown`);
    else if (entries.some(({ name }) => name === entry.name)) findings.error('name', place + 8, `${entry.name} twice`);
    if (!TOC_COMPRESSOR.has(entry.flags))
      findings.error('flags', place, `0x${entry.flags.toString(16)} is no compression`);
    if (bytes.u32(at + 4, 'reserved') !== 0 || !bytes.slice(at + 80, 48, 'reserved').equals(Buffer.alloc(48))) {
      findings.warning('reserved of a TOC entry', place, 'bytes that are to be zero are not');
    }
    entries.push(entry);
  }
  return entries;
}
