/**
 * The chunk info (CI) of a blob, read in place (nydus, storage/src/meta). For plain blobs it repeats the chunk table of the
 * bootstrap. Only the chunk info locates chunks inside batches or gzip streams:
 *
 *     entries V1 (16 bytes) or V2 (24) · contexts (40 each: batches, or spans of a gzip stream) · windows │ header (4096)
 */
import { Reader } from '../../binary/reader.ts';
import { MAX_UNIT_SIZE, type Unit, type Within } from '../../blob/table.ts';
import type { RafsBlob } from './blob.ts';
import { BATCH_CONTEXT, CONTEXT_SIZE, SPAN_CONTEXT } from './chunk-info-context.ts';
import {
  CHUNK_INFO_V2,
  type ChunkInfoEntry,
  CI_FLAG,
  chunkInfoSize,
  decodeChunkInfo,
  KNOWN_CI_FLAGS,
} from './chunk-info-entry.ts';
import { CI_HEADER, CI_HEADER_SIZE, checkCiHeader, expectField } from './chunk-info-header.ts';
import { permute } from './keyed-hash.ts';
import { FEATURE } from './layout.ts';
import { MAX_WINDOW } from './limits.ts';
import { metaSize, OP } from './meta.ts';

const { fields: HEADER } = CI_HEADER;
const { fields: V2 } = CHUNK_INFO_V2;
const { fields: SPAN } = SPAN_CONTEXT;

/** A blob's chunk info. The constructor checks the header; entries are read and checked on access. */
export class ChunkInfo {
  /** Number of entries. */
  readonly length: number;
  /** Number of batches, or of spans of the gzip stream. */
  readonly contexts: number;
  readonly #reader: Reader;
  readonly #blob: RafsBlob;
  readonly #contextsAt: number;
  readonly #windowsAt: number;
  /** Units by the permuted number of their context. */
  readonly #units = new Map<number, Unit>();

  /** `meta`: the plain `blob.meta`. Throws FormatError when it does not match the blob table. */
  constructor(meta: Buffer, blob: RafsBlob, subject: string) {
    const reader = new Reader(meta, `${subject}, blob.meta of ${blob.id}`, OP);
    this.#reader = reader;
    this.#blob = blob;
    if (meta.length !== metaSize(blob)) {
      throw reader.bad('blob.meta', `${meta.length} bytes, not ${metaSize(blob)}`, 0);
    }
    const at = meta.length - CI_HEADER_SIZE;
    checkCiHeader(reader, at, blob);
    this.length = blob.chunkCount;
    const entriesEnd = this.length * chunkInfoSize(blob.features);
    if (entriesEnd > blob.ciUncompressedSize) throw HEADER.count.bad(reader, at, `${this.length} entries are too many`);
    const hasContexts = (blob.features & (FEATURE.ZRAN | FEATURE.BATCH)) !== 0;
    this.contexts = hasContexts ? HEADER.contextsCount.read(reader, at) : 0;
    this.#contextsAt = entriesEnd;
    this.#windowsAt = entriesEnd + this.contexts * CONTEXT_SIZE;
    if (!hasContexts) return;
    expectField(reader, at, HEADER.contextsOffset, entriesEnd);
    expectField(reader, at, HEADER.contextsSize, blob.ciUncompressedSize - entriesEnd);
    if (this.#windowsAt > blob.ciUncompressedSize) {
      throw HEADER.contextsCount.bad(reader, at, `${this.contexts} contexts are too many`);
    }
  }

  /** Entry `index`; FormatError beyond the last. */
  entry(index: number): ChunkInfoEntry {
    if (!(index < this.length))
      throw this.#reader.bad('index', `chunk ${index} does not exist: there are ${this.length}`, 0);
    const size = chunkInfoSize(this.#blob.features);
    const entry = decodeChunkInfo(this.#reader, index * size, size);
    if ((entry.flags & ~KNOWN_CI_FLAGS) === 0) return entry;
    throw V2.flags.bad(this.#reader, index * size, `unknown bits 0x${entry.flags.toString(16)}`);
  }

  /** Unit of chunk `index`, and its offset there; null when it is stored alone. `size`: its plain bytes. */
  within(index: number, size: number): Within | null {
    const { flags, context, offset, compressedOffset, uncompressedSize } = this.entry(index);
    const at = index * CHUNK_INFO_V2.size;
    if (uncompressedSize !== size) {
      throw V2.lastByte.bad(this.#reader, at, `${uncompressedSize}, but ${size} in the chunk table`);
    }
    if ((flags & (CI_FLAG.ZRAN | CI_FLAG.BATCH)) === 0) return null;
    if (context >= this.contexts)
      throw V2.context.bad(this.#reader, at, `context ${context} does not exist: there are ${this.contexts}`);
    const isZran = (flags & CI_FLAG.ZRAN) !== 0;
    if (isZran !== ((this.#blob.features & FEATURE.ZRAN) !== 0)) {
      throw V2.flags.bad(this.#reader, at, 'the chunk is of another kind than its blob');
    }
    let unit = this.#units.get(permute(context));
    if (unit === undefined) {
      unit = isZran ? this.#span(context) : this.#batch(context, compressedOffset);
      this.#units.set(permute(context), unit);
    }
    if (offset + size > unit.size) {
      throw V2.offset.bad(this.#reader, at, `${size} bytes at offset ${offset} exceed the unit's ${unit.size} bytes`);
    }
    if (!isZran && unit.compressedOffset !== compressedOffset) {
      throw V2.compressedOffset.bad(this.#reader, at, 'two chunks of one batch have different offsets');
    }
    return { unit, offset };
  }

  #batch(context: number, compressedOffset: number): Unit {
    const at = this.#contextsAt + context * CONTEXT_SIZE;
    const { compressedSize, size } = BATCH_CONTEXT.decode(this.#reader, at);
    this.#checkUnit(at, compressedOffset, compressedSize, size);
    const { cipher, compressor } = this.#blob;
    const decoder = { compressor: storedRaw(compressedSize, size, cipher !== null) ? 0 : compressor } as const;
    return {
      compressedOffset,
      compressedSize,
      size,
      decoder: cipher === null ? { kind: 'batch', ...decoder } : { kind: 'encrypted', ...cipher, ...decoder },
    };
  }

  #span(context: number): Unit {
    const at = this.#contextsAt + context * CONTEXT_SIZE;
    const span = SPAN_CONTEXT.decode(this.#reader, at);
    const { compressedOffset, compressedSize, size, windowAt, windowSize, bits, byte } = span;
    this.#checkUnit(at, compressedOffset, compressedSize, size);
    if (windowSize > MAX_WINDOW || this.#windowsAt + windowAt + windowSize > this.#blob.ciUncompressedSize) {
      throw SPAN.windowSize.bad(
        this.#reader,
        at,
        `${windowSize} bytes at ${windowAt} exceed the windows or the maximum window size`,
      );
    }
    if (bits > 7 || (bits > 0 && compressedOffset === 0))
      throw SPAN.bits.bad(this.#reader, at, `${bits} bits of the previous byte are not possible here`);
    const window = this.#reader.slice(this.#windowsAt + windowAt, windowSize, 'dict');
    return { compressedOffset, compressedSize, size, decoder: { kind: 'zran', window, bits, byte } };
  }

  #checkUnit(at: number, offset: number, stored: number, size: number): void {
    if (stored === 0 || stored > MAX_UNIT_SIZE || size === 0 || size > MAX_UNIT_SIZE) {
      throw this.#reader.bad('context', `invalid sizes: ${stored} stored bytes, ${size} plain bytes`, at);
    }
    if (offset + stored > this.#blob.compressedSize) throw this.#reader.bad('context', 'exceeds the blob', at);
  }
}

/** Stored size of an encrypted unit: at least one block of 16 bytes, and the mark of its padding (nydus, utils/src/crypt.rs). */
const PADDED_SIZE = 18;
const CIPHER_BLOCK = 16;

/** Whether `stored` bytes are `plain` bytes without compression, encrypted or not. */
export function storedRaw(stored: number, plain: number, isEncrypted: boolean): boolean {
  return stored === plain || (isEncrypted && plain < CIPHER_BLOCK && stored === PADDED_SIZE);
}
