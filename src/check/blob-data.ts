/** All data of a blob, read once from its first to its last byte: its digest, and that of every chunk in it. */
import { createHash, type Hash } from 'node:crypto';
import type { Decoder } from '../blob/table.ts';
import { type Cipher, needsMeta, type RafsBlob } from '../formats/rafs/blob.ts';
import { ChunkInfo } from '../formats/rafs/chunk-info.ts';
import { CI_FLAG } from '../formats/rafs/chunk-info-entry.ts';
import { permute } from '../formats/rafs/keyed-hash.ts';
import { CHUNK_FLAG } from '../formats/rafs/layout.ts';
import type { Codec } from '../native/codec.ts';
import type { CheckedChunks } from './chunk-table.ts';
import type { Findings } from './findings.ts';
import type { BlobPlace } from './place.ts';

/** A chunk in what its unit decodes to. */
interface Part {
  readonly index: number;
  readonly offset: number;
  readonly size: number;
  readonly digest: Buffer;
  readonly crc32c: number | null;
  readonly path: string | null;
}

/** What is decoded in one piece. */
interface Piece {
  readonly offset: number;
  readonly size: number;
  readonly plainSize: number;
  readonly decoder: Decoder;
  readonly parts: Part[];
}

export interface DataContext {
  readonly blob: RafsBlob;
  readonly blobIndex: number;
  readonly chunks: CheckedChunks;
  /** Plain chunk info; null when it could not be read. */
  readonly meta: Buffer | null;
  /** Digests of all chunks, of those too that no file uses; null where the blob has none. */
  readonly digests: Buffer | null;
}

/** Bytes of the blob that are not part of its id: Nydus leaves the digests out where it writes them by themselves. */
export interface Hole {
  readonly offset: number;
  readonly size: number;
}

export interface ReadData {
  /** Hex sha256 of everything, and of everything but the hole. */
  readonly whole: string;
  readonly withoutHole: string;
  /** Of the first `prefix` bytes. */
  readonly prefix: string;
}

/** Reads the blob, notes what does not decode to what it should, and gives digests of the bytes. */
export async function checkData(
  place: BlobPlace,
  context: DataContext | null,
  cuts: { readonly prefix: number; readonly hole: Hole | null },
  codec: Codec,
  findings: Findings,
  signal: AbortSignal,
): Promise<ReadData | null> {
  const pieces = context === null ? [] : planPieces(context, place.size, findings);
  const hashes = new Hashes(cuts.prefix, cuts.hole);
  let held: Buffer = Buffer.alloc(0);
  let start = 0;
  let next = 0;
  try {
    for await (const bytes of place.source.read(0, place.size, signal)) {
      hashes.update(bytes);
      const keep = Math.min(pieces[next]?.offset ?? Infinity, start + held.length);
      held = Buffer.concat([held.subarray(keep - start), bytes]);
      start = keep;
      for (; next < pieces.length; next++) {
        const piece = pieces[next]!;
        if (piece.offset + piece.size > start + held.length) break;
        const stored = held.subarray(piece.offset - start, piece.offset - start + piece.size);
        await checkPiece(Buffer.from(stored), piece, context!.blob, codec, findings);
      }
    }
  } catch (error) {
    findings.caught(error, 'data');
    return null;
  }
  return hashes.end();
}

class Hashes {
  readonly #whole = createHash('sha256');
  readonly #withoutHole: Hash | null;
  readonly #prefix = createHash('sha256');
  readonly #prefixEnd: number;
  readonly #hole: Hole | null;
  #at = 0;

  constructor(prefixEnd: number, hole: Hole | null) {
    this.#prefixEnd = prefixEnd;
    this.#hole = hole;
    this.#withoutHole = hole === null ? null : createHash('sha256');
  }

  update(bytes: Buffer): void {
    const part = (from: number, to: number) =>
      bytes.subarray(Math.max(0, Math.min(from - this.#at, bytes.length)), Math.max(0, to - this.#at));
    this.#whole.update(bytes);
    if (this.#at < this.#prefixEnd) this.#prefix.update(part(0, this.#prefixEnd));
    if (this.#hole !== null) {
      const end = this.#hole.offset + this.#hole.size;
      this.#withoutHole!.update(part(0, this.#hole.offset));
      this.#withoutHole!.update(part(end, Infinity));
    }
    this.#at += bytes.length;
  }

  end(): ReadData {
    const whole = this.#whole.digest('hex');
    return { whole, withoutHole: this.#withoutHole?.digest('hex') ?? whole, prefix: this.#prefix.digest('hex') };
  }
}

async function checkPiece(
  stored: Buffer,
  piece: Piece,
  blob: RafsBlob,
  codec: Codec,
  findings: Findings,
): Promise<void> {
  const first = piece.parts[0]!;
  let plain: Buffer;
  try {
    plain = await codec.decodeUnit(stored, { size: piece.plainSize, decoder: piece.decoder });
  } catch (error) {
    findings.caught(error, `data of chunk ${first.index}`, piece.offset, { path: first.path });
    return;
  }
  for (const { index, offset, size, digest, crc32c, path } of piece.parts) {
    const bytes = plain.subarray(offset, offset + size);
    try {
      codec.verify(bytes, blob.digester, digest);
    } catch (error) {
      findings.caught(error, `data of chunk ${index}`, piece.offset, { path });
      continue;
    }
    const crc = crc32c === null ? null : codec.crc32c(bytes);
    if (crc === crc32c) continue;
    const message = `0x${crc32c!.toString(16)}, its bytes have 0x${crc!.toString(16)}`;
    findings.error(`crc32 of chunk ${index}`, piece.offset, message, { code: 'DIGEST_MISMATCH', path });
  }
}

/**
 * Every chunk of the table, and those of the chunk info whose digests are known, by the place of what is decoded for
 * them.
 */
function planPieces(context: DataContext, size: number, findings: Findings): Piece[] {
  const { blob, blobIndex, chunks, digests } = context;
  const info = openInfo(context, findings);
  const pieces = new Map<unknown, Piece>();
  const seen = new Set<number>();
  const add = (key: unknown, piece: Omit<Piece, 'parts'>, part: Part): void => {
    // What lies outside was noted with the tables.
    if (!(piece.offset + piece.size <= size) || piece.size === 0 || part.offset + part.size > piece.plainSize) return;
    const known = pieces.get(key);
    if (known === undefined) pieces.set(key, { ...piece, parts: [part] });
    else known.parts.push(part);
  };
  const addChunk = (chunk: Stored, part: Omit<Part, 'offset'>): void => {
    const within = info !== null && needsMeta(blob) ? withinOrNull(info, part.index, part.size) : null;
    if (within !== null) {
      const { compressedOffset: offset, compressedSize, size: plainSize, decoder } = within.unit;
      add(within.unit, { offset, size: compressedSize, plainSize, decoder }, { ...part, offset: within.offset });
    } else if (!chunk.isPart) {
      const decoder = decoderOf(blob.cipher, chunk.isCompressed ? blob.compressor : 0);
      add(
        permute(part.index),
        { offset: chunk.offset, size: chunk.size, plainSize: part.size, decoder },
        { ...part, offset: 0 },
      );
    }
  };
  for (const row of chunks.entries) {
    if (row.blobIndex !== blobIndex || !chunks.isFirst(row)) continue;
    seen.add(permute(row.index));
    const isCompressed = (row.flags & CHUNK_FLAG.COMPRESSED) !== 0;
    const isPart = needsMeta(blob) && (row.compressedSize === 0 || (row.flags & CHUNK_FLAG.BATCH) !== 0);
    const { digest, crc32c, index, uncompressedSize } = row;
    const path = chunks.pathOf(blobIndex, index);
    const stored = { offset: row.compressedOffset, size: row.compressedSize, isCompressed, isPart };
    addChunk(stored, { index, size: uncompressedSize, digest, crc32c, path });
  }
  if (info !== null && digests !== null) {
    for (let index = 0; index < info.length && (index + 1) * 32 <= digests.length; index++) {
      if (seen.has(permute(index))) continue;
      const entry = info.entry(index);
      const isPart = (entry.flags & (CI_FLAG.BATCH | CI_FLAG.ZRAN)) !== 0;
      const isCompressed = (entry.flags & CI_FLAG.COMPRESSED) !== 0;
      const stored = { offset: entry.compressedOffset, size: entry.compressedSize, isCompressed, isPart };
      const digest = digests.subarray(index * 32, index * 32 + 32);
      addChunk(stored, { index, size: entry.uncompressedSize, digest, crc32c: null, path: null });
    }
  }
  return [...pieces.values()].sort((a, b) => a.offset - b.offset || a.size - b.size);
}

interface Stored {
  readonly offset: number;
  readonly size: number;
  readonly isCompressed: boolean;
  /** Of a unit that only the chunk info knows. */
  readonly isPart: boolean;
}

/** What is wrong with entries was noted with the chunk info; here such chunks cannot be decoded. */
function withinOrNull(info: ChunkInfo, index: number, size: number) {
  try {
    return info.within(index, size);
  } catch {
    return null;
  }
}

function openInfo({ meta, blob }: DataContext, findings: Findings): ChunkInfo | null {
  if (meta === null) return null;
  try {
    return new ChunkInfo(meta, blob, findings.subject);
  } catch {
    return null;
  }
}

const decoderOf = (cipher: Cipher | null, compressor: RafsBlob['compressor']): Decoder =>
  cipher === null ? { kind: 'batch', compressor } : { kind: 'encrypted', ...cipher, compressor };
