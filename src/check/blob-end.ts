/** The metadata at the end of a blob, or in a file of its own: chunk info, digests, tar headers, table of contents. */
import { createHash } from 'node:crypto';
import type { FieldPlace } from '../binary/fields.ts';
import { DIGEST_SIZE } from '../blob/table.ts';
import type { RafsBlob } from '../formats/rafs/blob.ts';
import { CI_HEADER_SIZE } from '../formats/rafs/chunk-info-header.ts';
import { FEATURE } from '../formats/rafs/layout.ts';
import { MAX_BOOTSTRAP_SIZE, MAX_META_SIZE } from '../formats/rafs/limits.ts';
import { unpackMeta } from '../formats/rafs/meta.ts';
import { MEMBER, META_HEADER, TOC_COMPRESSOR, TOC_ENTRY } from '../formats/rafs/toc.ts';
import type { Codec } from '../native/codec.ts';
import { TAR_HEADER } from '../tree/tarheader.ts';
import type { CheckedBlob } from './blob-table.ts';
import { checkChunkInfo } from './chunk-info.ts';
import type { CheckedChunks } from './chunk-table.ts';
import type { Findings } from './findings.ts';
import type { BlobPlace } from './place.ts';
import { type CheckedTocEntry, type Member, readMembers, readToc } from './toc.ts';

const { fields: TOC } = TOC_ENTRY;

export interface EndContext {
  readonly blob: CheckedBlob;
  /** The same, when its compressors and digester are known ones. */
  readonly known: RafsBlob | null;
  readonly blobIndex: number;
  readonly chunks: CheckedChunks;
  /** The plain chunk info that came with the bootstrap. */
  readonly packed: Buffer | null;
  readonly codec: Codec;
  readonly findings: Findings;
  readonly signal: AbortSignal;
}

export interface CheckedEnd {
  /** Bytes of chunk data. */
  readonly dataSize: number;
  /** Plain chunk info with its header, null when it could not be read. */
  readonly meta: Buffer | null;
  /** Of all chunks. */
  readonly digests: Buffer | null;
  readonly digestMember: Member | null;
  /** What the table of contents says of data and tar header; null when it says nothing. */
  readonly dataEntry: CheckedTocEntry | null;
}

const on = ({ features }: CheckedBlob, feature: number): boolean => (features & feature) !== 0;

/** `place`: the file that has the chunk info. `dataSize`: bytes of a blob whose chunk info is elsewhere. */
export async function checkEnd(place: BlobPlace, dataSize: number, context: EndContext): Promise<CheckedEnd> {
  const { blob, findings } = context;
  const isSeparate = on(blob, FEATURE.SEPARATE);
  const hasDataHeader = !isSeparate && on(blob, FEATURE.HAS_TAR_HEADER);
  const inside = blob.ciOffset - (hasDataHeader ? TAR_HEADER.size : 0);
  const none = {
    dataSize: isSeparate ? dataSize : Math.max(inside, 0),
    meta: null,
    digests: null,
    digestMember: null,
    dataEntry: null,
  };
  const tailAt = Math.max(0, inside);
  if (!(tailAt <= place.size) || place.size - tailAt > MAX_META_SIZE + MAX_BOOTSTRAP_SIZE) {
    findings.error('ci_offset', null, `${blob.ciOffset}; the file has ${place.size} bytes`, { code: 'SIZE_MISMATCH' });
    return none;
  }
  const tail = await readBytes(place, tailAt, context);
  if (tail === null) return none;
  if (isSeparate) checkSeparate(tail, place, context);
  const stored = tail.subarray(blob.ciOffset - tailAt, blob.ciOffset - tailAt + blob.ciCompressedSize + CI_HEADER_SIZE);
  const meta = await checkMeta(stored, none.dataSize, context);
  const members = checkMembers(tail, tailAt, none.dataSize, context);
  const bytesOf = ({ offset, size }: { offset: number; size: number }) =>
    tail.subarray(offset - tailAt, offset - tailAt + size);
  const digestMember = members.get(MEMBER.digests) ?? null;
  const digests = digestMember === null ? null : bytesOf(digestMember);
  if (digests !== null) checkDigests(digests, digestMember!, context);
  const toc = members.get(MEMBER.toc);
  const entries = toc === undefined ? [] : readToc(bytesOf(toc), toc.offset, findings);
  if (toc !== undefined)
    checkTocDigest(bytesOf({ offset: toc.offset, size: toc.size + TAR_HEADER.size }), toc, context);
  for (const entry of entries) await checkTocEntry(entry, members, meta, tail, tailAt, context);
  const dataEntry = entries.find(({ name }) => name === MEMBER.data) ?? null;
  return { ...none, meta, digests, digestMember, dataEntry };
}

async function readBytes(place: BlobPlace, from: number, { findings, signal }: EndContext): Promise<Buffer | null> {
  const pieces: Buffer[] = [];
  try {
    for await (const piece of place.source.read(from, place.size - from, signal)) pieces.push(Buffer.from(piece));
    return Buffer.concat(pieces);
  } catch (error) {
    findings.caught(error, 'end of the blob', from);
    return null;
  }
}

const sha256 = (...parts: readonly Buffer[]): Buffer => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};

/** The file of a referenced layer, from its first byte on, against the blob table. */
function checkSeparate(file: Buffer, place: BlobPlace, { blob, findings }: EndContext): void {
  if (blob.metaDigest === null) return;
  if (place.size !== blob.metaSize) {
    const message = `${blob.metaSize} in the blob table, the file has ${place.size} bytes`;
    findings.error('blob_meta_size', null, message, { code: 'SIZE_MISMATCH' });
  }
  if (blob.ciOffset === 0) mismatch(findings, 'blob_meta_digest', null, blob.metaDigest, sha256(file));
}

function mismatch(findings: Findings, field: string, at: number | null, said: Buffer, found: Buffer): void {
  if (said.equals(found)) return;
  const message = `${said.toString('hex')}, the bytes have ${found.toString('hex')}`;
  findings.error(field, at, message, { code: 'DIGEST_MISMATCH' });
}

/** Decodes the chunk info and checks it; that which came with the bootstrap must be the same. */
async function checkMeta(stored: Buffer, dataSize: number, context: EndContext): Promise<Buffer | null> {
  const { blob, known, blobIndex, chunks, packed, codec, findings } = context;
  const about = findings.about(`chunk info of blob ${blob.id}`);
  let meta: Buffer | null = null;
  if (known !== null && blob.ciUncompressedSize <= MAX_META_SIZE) {
    try {
      meta = await unpackMeta(stored, known, codec, findings.subject);
    } catch (error) {
      about.caught(error, 'chunk info', blob.ciOffset);
    }
  }
  if (meta !== null && packed !== null) comparePacked(meta, packed, findings.about(`blob.meta of blob ${blob.id}`));
  const plain = meta ?? packed;
  if (plain === null || plain.length < CI_HEADER_SIZE) return null;
  checkChunkInfo(plain, { blob, blobIndex, chunks, dataSize }, about);
  return plain;
}

/** For lz4 Nydus packs the header alone. */
function comparePacked(meta: Buffer, packed: Buffer, findings: Findings): void {
  const wanted = packed.length === CI_HEADER_SIZE ? meta.subarray(meta.length - CI_HEADER_SIZE) : meta;
  if (packed.equals(wanted)) return;
  if (packed.length !== wanted.length) {
    findings.error('size', packed.length, `${packed.length} bytes, that of the blob has ${wanted.length}`);
    return;
  }
  const at = wanted.findIndex((byte, i) => byte !== packed[i]);
  findings.error('content', at, 'differs from the chunk info in the blob', { code: 'DIGEST_MISMATCH' });
}

/** Members from the end of the file to its begin, and whether those are there that the features promise. */
function checkMembers(tail: Buffer, tailAt: number, dataSize: number, context: EndContext): Map<string, Member> {
  const { blob, findings } = context;
  const isSeparate = on(blob, FEATURE.SEPARATE);
  const end = tailAt + tail.length;
  const metaEnd = blob.ciOffset + blob.ciCompressedSize + CI_HEADER_SIZE;
  const hasHeaders = on(blob, FEATURE.HAS_TAR_HEADER) || (isSeparate && end !== metaEnd);
  if (!hasHeaders) {
    if (end !== metaEnd)
      findings.error('compressed_size', metaEnd, `the blob has ${end - metaEnd} bytes behind its chunk info`);
    return new Map();
  }
  const sizes = new Map<string, number>([
    [MEMBER.meta, metaEnd - blob.ciOffset],
    [MEMBER.digests, blob.chunkCount * DIGEST_SIZE],
  ]);
  const first = isSeparate ? blob.ciOffset : 0;
  const list = readMembers({ bytes: tail, at: tailAt, first, sizes }, findings);
  const members = new Map(list.map((member) => [member.name, member]));
  // A walk that went astray has been noted.
  if (list.at(-1)?.offset !== first) return members;
  const meta = members.get(MEMBER.meta);
  if (meta?.offset !== blob.ciOffset) findings.error(MEMBER.meta, null, `no such member at ${blob.ciOffset}`);
  const data = members.get(MEMBER.data);
  if (!isSeparate && data?.size !== dataSize) findings.error(MEMBER.data, null, 'no such member, or of another size');
  if (on(blob, FEATURE.HAS_TOC) && !members.has(MEMBER.toc)) findings.error(MEMBER.toc, null, 'no such member');
  if (on(blob, FEATURE.INLINED_CHUNK_DIGEST) && !members.has(MEMBER.digests)) {
    findings.error(MEMBER.digests, null, 'no such member');
  }
  return members;
}

/** Digests of all chunks, in the order of the chunk info. */
function checkDigests(digests: Buffer, member: Member, { blobIndex, chunks, findings }: EndContext): void {
  for (let index = 0; (index + 1) * DIGEST_SIZE <= digests.length; index++) {
    const row = chunks.find(blobIndex, index);
    if (row === null || row.digest.equals(digests.subarray(index * DIGEST_SIZE, (index + 1) * DIGEST_SIZE))) continue;
    const message = `that of chunk ${index} differs from the chunk table, at byte ${row.at} of the bootstrap`;
    findings.error(MEMBER.digests, member.offset + index * DIGEST_SIZE, message, {
      code: 'DIGEST_MISMATCH',
      path: chunks.pathOf(blobIndex, index),
    });
  }
}

/** Nydus hashes entries and header, its Go side the entries alone and leaves the size out. */
function checkTocDigest(bytes: Buffer, toc: Member, { blob, findings }: EndContext): void {
  if (blob.tocSize !== 0 && blob.tocSize !== bytes.length) {
    findings.error('blob_toc_size', toc.offset, `${blob.tocSize} in the blob table, the blob has ${bytes.length}`);
  }
  if (blob.tocDigest.equals(Buffer.alloc(DIGEST_SIZE))) return;
  const entries = sha256(bytes.subarray(0, toc.size));
  if (!blob.tocDigest.equals(entries)) mismatch(findings, 'blob_toc_digest', toc.offset, blob.tocDigest, sha256(bytes));
}

async function checkTocEntry(
  entry: CheckedTocEntry,
  members: ReadonlyMap<string, Member>,
  meta: Buffer | null,
  tail: Buffer,
  tailAt: number,
  context: EndContext,
): Promise<void> {
  const { blob, findings } = context;
  const wanted = placeOf(entry.name, members, blob);
  const expect = ({ name, at }: FieldPlace, value: number, right: number) => {
    if (value !== right) findings.error(name, entry.at + at, `${value} for ${entry.name}, not ${right}`);
  };
  if (wanted === null) {
    if (TOC_MEMBERS.has(entry.name)) findings.error('name', entry.at + TOC.name.at, `${entry.name} is not in the blob`);
    return;
  }
  // Older Nydus gives the end of the data as its begin.
  if (entry.name !== MEMBER.data || entry.compressedOffset !== wanted.size)
    expect(TOC.compressedOffset, entry.compressedOffset, wanted.offset);
  expect(TOC.compressedSize, entry.compressedSize, wanted.size);
  if (entry.name === MEMBER.data) {
    expect(TOC.uncompressedSize, entry.uncompressedSize, blob.uncompressedSize);
    return;
  }
  const compressor = TOC_COMPRESSOR.get(entry.flags);
  if (compressor === undefined) return;
  if (compressor === 0) expect(TOC.uncompressedSize, entry.uncompressedSize, wanted.size);
  const plain = await plainOf(entry, wanted, compressor, meta, tail, tailAt, context);
  if (plain === null) return;
  expect(TOC.uncompressedSize, entry.uncompressedSize, plain.length);
  mismatch(findings, 'uncompressed_digest', entry.at + TOC.digest.at, entry.digest, sha256(plain));
}

const TOC_MEMBERS: ReadonlySet<string> = new Set<string>([
  MEMBER.data,
  MEMBER.meta,
  META_HEADER,
  MEMBER.digests,
  MEMBER.bootstrap,
]);

/** The header of the chunk info is no member, and the entry of the chunk info leaves it out. */
function placeOf(
  name: string,
  members: ReadonlyMap<string, Member>,
  blob: CheckedBlob,
): { offset: number; size: number } | null {
  if (name === MEMBER.meta) return { offset: blob.ciOffset, size: blob.ciCompressedSize };
  if (name === META_HEADER) return { offset: blob.ciOffset + blob.ciCompressedSize, size: CI_HEADER_SIZE };
  return members.get(name) ?? null;
}

/** The bytes that an entry's digest is of. */
async function plainOf(
  entry: CheckedTocEntry,
  place: { readonly offset: number; readonly size: number },
  compressor: 0 | 1 | 3,
  meta: Buffer | null,
  tail: Buffer,
  tailAt: number,
  { blob, codec, findings }: EndContext,
): Promise<Buffer | null> {
  if (entry.name === MEMBER.meta) return meta?.subarray(0, blob.ciUncompressedSize) ?? null;
  if (entry.name === META_HEADER) return meta?.subarray(meta.length - CI_HEADER_SIZE) ?? null;
  const stored = tail.subarray(place.offset - tailAt, place.offset - tailAt + place.size);
  if (compressor === 0) return stored;
  if (compressor === 3) {
    try {
      return codec.zstdDecompress(stored, MAX_BOOTSTRAP_SIZE);
    } catch (error) {
      findings.caught(error, entry.name, place.offset);
    }
  }
  return null;
}
