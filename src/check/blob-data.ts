/** Reads all data of a blob once, from the first byte to the last, and checks the digests of the blob and of its chunks. */
import { createHash, type Hash } from 'node:crypto';
import type { Decoder } from '../blob/table.ts';
import { type Cipher, needsMeta, type RafsBlob } from '../formats/rafs/blob.ts';
import { ChunkInfo } from '../formats/rafs/chunk-info.ts';
import { CI_FLAG } from '../formats/rafs/chunk-info-entry.ts';
import { permute } from '../formats/rafs/keyed-hash.ts';
import { CHUNK_FLAG } from '../formats/rafs/layout.ts';
import type { Codec } from '../native/codec.ts';
import type { BlobLocation } from './blob-location.ts';
import type { CheckedChunks } from './chunk-table.ts';
import type { Findings } from './findings.ts';

/** A chunk as part of its decoded unit. */
interface Part {
  readonly index: number;
  readonly offset: number;
  readonly size: number;
  readonly digest: Buffer;
  readonly crc32c: number | null;
  readonly path: string | null;
}

/** Stored bytes that are decoded together: one chunk, or a unit with several. */
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
  /** Digests of all chunks, with those that no file uses; null when the blob has none. */
  readonly digests: Buffer | null;
}

/** Bytes of the blob that its id does not cover: Nydus excludes the digests where it writes them separately. */
export interface Hole {
  readonly offset: number;
  readonly size: number;
}

export interface ReadData {
  /** Hex sha256 of all bytes, and of all bytes outside the hole. */
  readonly whole: string;
  readonly withoutHole: string;
  /** Hex sha256 of the first `prefix` bytes. */
  readonly prefix: string;
}

/** Reads the blob, records chunks that do not decode to their digests, and returns digests of the bytes. */
export async function checkData(
  location: BlobLocation,
  context: DataContext | null,
  cuts: { readonly prefix: number; readonly hole: Hole | null },
  codec: Codec,
  findings: Findings,
  signal: AbortSignal,
): Promise<ReadData | null> {
  const pieces = context === null ? [] : planPieces(context, location.size, findings);
  const hashes = new Hashes(cuts.prefix, cuts.hole);
  let held: Buffer = Buffer.alloc(0);
  let start = 0;
  let next = 0;
  try {
    for await (const bytes of location.source.read(0, location.size, signal)) {
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
    findings.recordError(error, 'data');
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
    findings.recordError(error, `data of chunk ${first.index}`, piece.offset, { path: first.path });
    return;
  }
  for (const { index, offset, size, digest, crc32c, path } of piece.parts) {
    const bytes = plain.subarray(offset, offset + size);
    try {
      codec.verify(bytes, blob.digester, digest);
    } catch (error) {
      findings.recordError(error, `data of chunk ${index}`, piece.offset, { path });
      continue;
    }
    const crc = crc32c === null ? null : codec.crc32c(bytes);
    if (crc === crc32c) continue;
    const message = `0x${crc32c!.toString(16)}, but its bytes have 0x${crc!.toString(16)}`;
    findings.error(`crc32 of chunk ${index}`, piece.offset, message, { code: 'DIGEST_MISMATCH', path });
  }
}

/**
 * Every chunk of the chunk table, and those of the chunk info that have a digest, grouped by the bytes that are decoded
 * for them, in the order of these bytes.
 */
function planPieces(context: DataContext, size: number, findings: Findings): Piece[] {
  const { blob, blobIndex, chunks, digests } = context;
  const info = openInfo(context, findings);
  const pieces = new Map<unknown, Piece>();
  const seen = new Set<number>();
  const add = (key: unknown, piece: Omit<Piece, 'parts'>, part: Part): void => {
    // Chunks outside the blob were recorded with the tables.
    if (!(piece.offset + piece.size <= size) || piece.size === 0 || part.offset + part.size > piece.plainSize) return;
    const planned = pieces.get(key);
    if (planned === undefined) pieces.set(key, { ...piece, parts: [part] });
    else planned.parts.push(part);
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
  /** Whether the chunk is part of a unit, which only the chunk info describes. */
  readonly isPart: boolean;
}

/** Unit of a chunk; null for a damaged entry, which was recorded with the chunk info. */
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
