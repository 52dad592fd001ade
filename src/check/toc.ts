/**
 * Checks of the end of a blob: members, each followed by its tar header, and a table of contents (nydus,
 * storage/src/meta/toc.rs). It is read backwards from the last byte, as Nydus does.
 */
import {
  decodeTocEntry,
  MEMBER,
  META_HEADER,
  type RawTocEntry,
  TOC_COMPRESSOR,
  TOC_ENTRY,
} from '../formats/rafs/toc.ts';
import { GNU_MAGIC, TAR_HEADER, tarChecksum } from '../tree/tarheader.ts';
import { Bytes, firstNonZero } from './bytes.ts';
import type { Findings } from './findings.ts';

const { fields: HEADER } = TAR_HEADER;

/** A member of the blob; offsets in bytes from its start. */
export interface Member {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
  readonly headerAt: number;
}

/** Possible members, the last one first. */
const NAMES: readonly string[] = [MEMBER.toc, MEMBER.bootstrap, MEMBER.digests, MEMBER.meta, MEMBER.data];

/** Bytes of a blob from `at` to its end. The first member begins at `first`, which may be less than `at`. */
export interface Tail {
  readonly bytes: Buffer;
  readonly at: number;
  readonly first: number;
  /** Sizes of members that the blob table gives. */
  readonly sizes: ReadonlyMap<string, number>;
}

/** Members from the last one to the first, or to the first damaged header. */
export function readMembers({ bytes: tail, at: tailAt, first, sizes }: Tail, findings: Findings): Member[] {
  const bytes = new Bytes(tail, findings);
  const members: Member[] = [];
  let end = tailAt + tail.length;
  let place = 0;
  while (end > first) {
    const headerAt = end - TAR_HEADER.size;
    if (headerAt < tailAt) {
      findings.error('tar header', end, `missing before offset ${end}`);
      break;
    }
    const member = readHeader(bytes, headerAt - tailAt, headerAt, sizes);
    if (member === null) break;
    const order = NAMES.indexOf(member.name, place);
    if (order < 0) {
      findings.error('name', headerAt + HEADER.name.at, `${JSON.stringify(member.name)} is not expected here`);
      break;
    }
    place = order + 1;
    if (!(member.offset >= first)) {
      findings.error(
        'size',
        headerAt + HEADER.size.at,
        `${member.size} bytes begin before the first member, at ${member.offset}`,
      );
      break;
    }
    members.push(member);
    end = member.offset;
  }
  return members;
}

/** Reads the header at `at` of the bytes, `headerAt` of the blob. Null when its size is not a number. */
function readHeader(bytes: Bytes, at: number, headerAt: number, sizes: ReadonlyMap<string, number>): Member | null {
  const { findings } = bytes;
  bytes.check(at, TAR_HEADER.size, 'tar header');
  const text = ({ at: start, size }: { readonly at: number; readonly size: number }) =>
    bytes.text(at + start, size, 'tar header');
  const name = bytes.text(at, Math.max(0, bytes.bytes.subarray(at, at + TAR_HEADER.size).indexOf(0)), 'name');
  const octal = text(HEADER.size);
  if (HEADER.magic.read(bytes, at) !== GNU_MAGIC) {
    findings.error('magic', headerAt + HEADER.magic.at, 'not a GNU tar header');
  }
  const sum = tarChecksum(bytes.bytes, at);
  const stored = Number.parseInt(text(HEADER.checksum), 8);
  if (stored !== sum)
    findings.error('chksum', headerAt + HEADER.checksum.at, `${stored}, but the sum of the header is ${sum}`);
  const claimed = /^[0-7]{1,12}[\0 ]?/.test(octal) ? Number.parseInt(octal, 8) : null;
  const size = sizes.get(name) ?? claimed;
  if (claimed === null)
    findings.error('size', headerAt + HEADER.size.at, `${JSON.stringify(octal)} is not an octal number`);
  else if (claimed !== size) findings.error('size', headerAt + HEADER.size.at, `${claimed} for ${name}, not ${size}`);
  return size === null ? null : { name, size, offset: headerAt - size, headerAt };
}

export interface CheckedTocEntry extends RawTocEntry {
  /** Offset in the blob. */
  readonly at: number;
}

const TOC_NAMES: readonly string[] = [MEMBER.data, MEMBER.meta, META_HEADER, MEMBER.digests, MEMBER.bootstrap];

/** Reads and checks the entries of a table of contents at offset `tocAt` of the blob. */
export function readToc(toc: Buffer, tocAt: number, findings: Findings): CheckedTocEntry[] {
  const bytes = new Bytes(toc, findings);
  if (toc.length % TOC_ENTRY.size !== 0)
    findings.error('rafs.blob.toc', tocAt, `${toc.length} bytes are not a whole number of entries`);
  const entries: CheckedTocEntry[] = [];
  for (let at = 0; at + TOC_ENTRY.size <= toc.length && entries.length < TOC_NAMES.length; at += TOC_ENTRY.size) {
    const place = tocAt + at;
    const entry = { ...decodeTocEntry(bytes, at), at: place };
    const nameAt = place + TOC_ENTRY.fields.name.at;
    if (!TOC_NAMES.includes(entry.name))
      findings.error('name', nameAt, `${JSON.stringify(entry.name)} is not a known member`);
    else if (entries.some(({ name }) => name === entry.name))
      findings.error('name', nameAt, `duplicate entry ${entry.name}`);
    if (!TOC_COMPRESSOR.has(entry.flags))
      findings.error('flags', place, `0x${entry.flags.toString(16)} is not a known compression`);
    if (TOC_ENTRY.reserved.some(({ at: start, size }) => firstNonZero(toc, at + start, at + start + size) !== null)) {
      findings.warning('reserved of a TOC entry', place, 'the reserved bytes are not zero');
    }
    entries.push(entry);
  }
  return entries;
}
