/** Checks of the metadata at the end of a blob, or in a separate file: chunk info, digests, tar headers, table of contents. */
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
import type { BlobLocation } from './blob-location.ts';
import type { CheckedBlob } from './blob-table.ts';
import { checkChunkInfo } from './chunk-info.ts';
import type { CheckedChunks } from './chunk-table.ts';
import type { Findings } from './findings.ts';
import { type CheckedTocEntry, type Member, readMembers, readToc } from './toc.ts';

const { fields: TOC } = TOC_ENTRY;

export interface EndContext {
  readonly blob: CheckedBlob;
  /** The same blob with its codecs typed; null when a compressor or digester is unknown. */
  readonly decodable: RafsBlob | null;
  readonly blobIndex: number;
  readonly chunks: CheckedChunks;
  /** Plain chunk info from the bootstrap layer; null when it is not there. */
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
  /** Digests of all chunks; null when the blob has none. */
  readonly digests: Buffer | null;
  readonly digestMember: Member | null;
  /** Entry of the chunk data, with its tar header, in the table of contents; null when there is none. */
  readonly dataEntry: CheckedTocEntry | null;
}

const on = ({ features }: CheckedBlob, feature: number): boolean => (features & feature) !== 0;

/** Checks the end of a blob. `location`: the file with the chunk info. `dataSize`: bytes of a blob with separate chunk info. */
export async function checkEnd(location: BlobLocation, dataSize: number, context: EndContext): Promise<CheckedEnd> {
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
  if (!(tailAt <= location.size) || location.size - tailAt > MAX_META_SIZE + MAX_BOOTSTRAP_SIZE) {
    findings.error('ci_offset', null, `${blob.ciOffset}, but the file has ${location.size} bytes`, {
      code: 'SIZE_MISMATCH',
    });
    return none;
  }
  const tail = await readBytes(location, tailAt, context);
  if (tail === null) return none;
  if (isSeparate) checkSeparate(tail, location, context);
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

async function readBytes(
  location: BlobLocation,
  from: number,
  { findings, signal }: EndContext,
): Promise<Buffer | null> {
  const pieces: Buffer[] = [];
  try {
    for await (const piece of location.source.read(from, location.size - from, signal)) pieces.push(Buffer.from(piece));
    return Buffer.concat(pieces);
  } catch (error) {
    findings.recordError(error, 'end of the blob', from);
    return null;
  }
}

const sha256 = (...parts: readonly Buffer[]): Buffer => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};

/** Checks the chunk info file of a referenced layer against the blob table. */
function checkSeparate(file: Buffer, location: BlobLocation, { blob, findings }: EndContext): void {
  if (blob.metaDigest === null) return;
  if (location.size !== blob.metaSize) {
    const message = `${blob.metaSize} in the blob table, but the file has ${location.size} bytes`;
    findings.error('blob_meta_size', null, message, { code: 'SIZE_MISMATCH' });
  }
  if (blob.ciOffset === 0) mismatch(findings, 'blob_meta_digest', null, blob.metaDigest, sha256(file));
}

function mismatch(findings: Findings, field: string, at: number | null, said: Buffer, found: Buffer): void {
  if (said.equals(found)) return;
  const message = `${said.toString('hex')}, but the bytes have ${found.toString('hex')}`;
  findings.error(field, at, message, { code: 'DIGEST_MISMATCH' });
}

/** Decodes and checks the chunk info, and compares it with that of the bootstrap layer. */
async function checkMeta(stored: Buffer, dataSize: number, context: EndContext): Promise<Buffer | null> {
  const { blob, decodable, blobIndex, chunks, packed, codec, findings } = context;
  const infoFindings = findings.forSubject(`chunk info of blob ${blob.id}`);
  let meta: Buffer | null = null;
  if (decodable !== null && blob.ciUncompressedSize <= MAX_META_SIZE) {
    try {
      meta = await unpackMeta(stored, decodable, codec, findings.subject);
    } catch (error) {
      infoFindings.recordError(error, 'chunk info', blob.ciOffset);
    }
  }
  if (meta !== null && packed !== null)
    comparePacked(meta, packed, findings.forSubject(`blob.meta of blob ${blob.id}`));
  const plain = meta ?? packed;
  if (plain === null || plain.length < CI_HEADER_SIZE) return null;
  checkChunkInfo(plain, { blob, blobIndex, chunks, dataSize }, infoFindings);
  return plain;
}

/** Compares two copies of the chunk info. For lz4, the copy of Nydus has the header only. */
function comparePacked(meta: Buffer, packed: Buffer, findings: Findings): void {
  const expected = packed.length === CI_HEADER_SIZE ? meta.subarray(meta.length - CI_HEADER_SIZE) : meta;
  if (packed.equals(expected)) return;
  if (packed.length !== expected.length) {
    findings.error(
      'size',
      packed.length,
      `${packed.length} bytes, but the chunk info in the blob has ${expected.length}`,
    );
    return;
  }
  const at = expected.findIndex((byte, i) => byte !== packed[i]);
  findings.error('content', at, 'differs from the chunk info in the blob', { code: 'DIGEST_MISMATCH' });
}

/** Reads the members from the end of the file to its start, and checks that those of the features exist. */
function checkMembers(tail: Buffer, tailAt: number, dataSize: number, context: EndContext): Map<string, Member> {
  const { blob, findings } = context;
  const isSeparate = on(blob, FEATURE.SEPARATE);
  const end = tailAt + tail.length;
  const metaEnd = blob.ciOffset + blob.ciCompressedSize + CI_HEADER_SIZE;
  const hasHeaders = on(blob, FEATURE.HAS_TAR_HEADER) || (isSeparate && end !== metaEnd);
  if (!hasHeaders) {
    if (end !== metaEnd)
      findings.error('compressed_size', metaEnd, `${end - metaEnd} bytes follow the chunk info in the blob`);
    return new Map();
  }
  const sizes = new Map<string, number>([
    [MEMBER.meta, metaEnd - blob.ciOffset],
    [MEMBER.digests, blob.chunkCount * DIGEST_SIZE],
  ]);
  const first = isSeparate ? blob.ciOffset : 0;
  const list = readMembers({ bytes: tail, at: tailAt, first, sizes }, findings);
  const members = new Map(list.map((member) => [member.name, member]));
  // The problem that ended the walk early has been recorded.
  if (list.at(-1)?.offset !== first) return members;
  const meta = members.get(MEMBER.meta);
  if (meta?.offset !== blob.ciOffset)
    findings.error(MEMBER.meta, null, `the blob has no such member at offset ${blob.ciOffset}`);
  const data = members.get(MEMBER.data);
  if (!isSeparate && data?.size !== dataSize)
    findings.error(MEMBER.data, null, `the blob has no such member of ${dataSize} bytes`);
  if (on(blob, FEATURE.HAS_TOC) && !members.has(MEMBER.toc))
    findings.error(MEMBER.toc, null, 'the blob has no such member');
  if (on(blob, FEATURE.INLINED_CHUNK_DIGEST) && !members.has(MEMBER.digests)) {
    findings.error(MEMBER.digests, null, 'the blob has no such member');
  }
  return members;
}

/** Compares the digests in the blob, which are in the order of the chunk info, with the chunk table. */
function checkDigests(digests: Buffer, member: Member, { blobIndex, chunks, findings }: EndContext): void {
  for (let index = 0; (index + 1) * DIGEST_SIZE <= digests.length; index++) {
    const row = chunks.find(blobIndex, index);
    if (row === null || row.digest.equals(digests.subarray(index * DIGEST_SIZE, (index + 1) * DIGEST_SIZE))) continue;
    const message = `the digest of chunk ${index} differs from that in the chunk table, at offset ${row.at} of the bootstrap`;
    findings.error(MEMBER.digests, member.offset + index * DIGEST_SIZE, message, {
      code: 'DIGEST_MISMATCH',
      path: chunks.pathOf(blobIndex, index),
    });
  }
}

/** Checks the digest. Nydus hashes entries and header; its Go tools hash the entries alone and store no size. */
function checkTocDigest(bytes: Buffer, toc: Member, { blob, findings }: EndContext): void {
  if (blob.tocSize !== 0 && blob.tocSize !== bytes.length) {
    findings.error(
      'blob_toc_size',
      toc.offset,
      `${blob.tocSize} in the blob table, but the blob has ${bytes.length} bytes`,
    );
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
  const range = rangeOf(entry.name, members, blob);
  const expect = ({ name, at }: FieldPlace, value: number, expected: number) => {
    if (value !== expected) findings.error(name, entry.at + at, `${value} for ${entry.name}, not ${expected}`);
  };
  if (range === null) {
    if (TOC_MEMBERS.has(entry.name)) findings.error('name', entry.at + TOC.name.at, `${entry.name} is not in the blob`);
    return;
  }
  // Older versions of Nydus store the end of the data as its offset.
  if (entry.name !== MEMBER.data || entry.compressedOffset !== range.size)
    expect(TOC.compressedOffset, entry.compressedOffset, range.offset);
  expect(TOC.compressedSize, entry.compressedSize, range.size);
  if (entry.name === MEMBER.data) {
    expect(TOC.uncompressedSize, entry.uncompressedSize, blob.uncompressedSize);
    return;
  }
  const compressor = TOC_COMPRESSOR.get(entry.flags);
  if (compressor === undefined) return;
  if (compressor === 0) expect(TOC.uncompressedSize, entry.uncompressedSize, range.size);
  const plain = await plainOf(entry, range, compressor, meta, tail, tailAt, context);
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

/** Range of an entry's bytes. The header of the chunk info has its own entry, though it is not a member. */
function rangeOf(
  name: string,
  members: ReadonlyMap<string, Member>,
  blob: CheckedBlob,
): { offset: number; size: number } | null {
  if (name === MEMBER.meta) return { offset: blob.ciOffset, size: blob.ciCompressedSize };
  if (name === META_HEADER) return { offset: blob.ciOffset + blob.ciCompressedSize, size: CI_HEADER_SIZE };
  return members.get(name) ?? null;
}

/** The plain bytes that an entry's digest covers; null when they cannot be decoded. */
async function plainOf(
  entry: CheckedTocEntry,
  range: { readonly offset: number; readonly size: number },
  compressor: 0 | 1 | 3,
  meta: Buffer | null,
  tail: Buffer,
  tailAt: number,
  { blob, codec, findings }: EndContext,
): Promise<Buffer | null> {
  if (entry.name === MEMBER.meta) return meta?.subarray(0, blob.ciUncompressedSize) ?? null;
  if (entry.name === META_HEADER) return meta?.subarray(meta.length - CI_HEADER_SIZE) ?? null;
  const stored = tail.subarray(range.offset - tailAt, range.offset - tailAt + range.size);
  if (compressor === 0) return stored;
  if (compressor === 3) {
    try {
      return codec.zstdDecompress(stored, MAX_BOOTSTRAP_SIZE);
    } catch (error) {
      findings.recordError(error, entry.name, range.offset);
    }
  }
  return null;
}
