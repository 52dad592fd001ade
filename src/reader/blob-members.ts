/** The members of a blob, found from its end, and the bootstrap that is one of them. */
import { createHash } from 'node:crypto';
import { FormatError, LacunaError } from '../errors.ts';
import { MAX_BOOTSTRAP_SIZE, MAX_MEMBERS, MAX_TOC_SIZE } from '../formats/rafs/limits.ts';
import { decodeToc, MEMBER, parseMemberHeader } from '../formats/rafs/toc.ts';
import type { Codec } from '../native/codec.ts';
import { TAR_HEADER } from '../tree/tarheader.ts';

/** Exactly the bytes offset … offset + length − 1 of a blob, or an error. */
type ReadAt = (offset: number, length: number) => Promise<Buffer>;

/** A blob to look into. */
export interface Blob {
  /** Bytes. */
  readonly size: number;
  readonly subject: string;
  readonly readAt: ReadAt;
}

/** A member and where its content lies. */
export interface Member {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
}

/** The members from the last to the first. Empty when a blob consists of chunks and chunk info alone. */
export async function findMembers(blob: Blob): Promise<Member[]> {
  const members: Member[] = [];
  let end = blob.size;
  while (end >= TAR_HEADER.size && members.length < MAX_MEMBERS) {
    const headerAt = end - TAR_HEADER.size;
    const header = parseMemberHeader(await blob.readAt(headerAt, TAR_HEADER.size));
    if (header === null) break;
    const { name, size } = header;
    if (size > headerAt || members.some((member) => member.name === name)) {
      const problem = size > headerAt ? `${size} bytes before byte ${headerAt}` : 'twice';
      throw new FormatError(name, problem, { op: 'read blob', subject: blob.subject, offset: headerAt });
    }
    end = headerAt - size;
    members.push({ name, size, offset: end });
  }
  return members;
}

/** The bootstrap inside a blob, decompressed, and verified if the blob has its digest. NOT_FOUND when there is none. */
export async function readInlineBootstrap(blob: Blob, codec: Codec): Promise<Buffer> {
  const { subject, readAt } = blob;
  const members = await findMembers(blob);
  const member = members.find(({ name }) => name === MEMBER.bootstrap);
  if (member === undefined) {
    throw new LacunaError('NOT_FOUND', 'there is no bootstrap in this blob', { op: 'open', subject });
  }
  if (member.size > MAX_BOOTSTRAP_SIZE) throw tooLarge(member.size, subject);
  const stored = await readAt(member.offset, member.size);
  const toc = members.find(({ name }) => name === MEMBER.toc);
  if (toc === undefined) return stored;
  if (toc.size > MAX_TOC_SIZE)
    throw new FormatError(MEMBER.toc, `${toc.size} bytes exceed the limit of ${MAX_TOC_SIZE}`, { subject });
  const entries = decodeToc(await readAt(toc.offset, toc.size), subject);
  const entry = entries.find(({ name }) => name === MEMBER.bootstrap);
  if (entry === undefined) return stored;
  if (entry.compressedOffset !== member.offset || entry.compressedSize !== member.size) {
    throw new FormatError(MEMBER.bootstrap, 'not where the table of contents places it', { subject });
  }
  if (entry.uncompressedSize > MAX_BOOTSTRAP_SIZE) throw tooLarge(entry.uncompressedSize, subject);
  const plain = await decompress(stored, entry.compressor, entry.uncompressedSize, codec);
  if (plain.length !== entry.uncompressedSize) {
    throw new FormatError(MEMBER.bootstrap, `${plain.length} bytes, not ${entry.uncompressedSize}`, { subject });
  }
  if (!createHash('sha256').update(plain).digest().equals(entry.digest)) {
    throw new LacunaError(
      'DIGEST_MISMATCH',
      `${MEMBER.bootstrap} does not hash to the digest in the table of contents`,
      { subject },
    );
  }
  return plain;
}

async function decompress(stored: Buffer, compressor: number, size: number, codec: Codec): Promise<Buffer> {
  if (compressor === 3) return codec.zstdDecompress(stored, size);
  return compressor === 0 ? stored : codec.decodeUnit(stored, { size, decoder: { kind: 'batch', compressor: 1 } });
}

const tooLarge = (size: number, subject: string): FormatError =>
  new FormatError(MEMBER.bootstrap, `${size} bytes exceed the limit of ${MAX_BOOTSTRAP_SIZE}`, {
    op: 'read blob',
    subject,
  });
