/**
 * The record of a converted layer, with all that merging needs, so that the layer need not be read again. Its data
 * stays where it is. A record is zstd frames of: length of the head (u32) · head (JSON) · chunk records · blob.meta · tree.
 */
import { z } from 'zod';
import { MAX_UNIT_SIZE, type Unit } from '../blob/table.ts';
import { FormatError } from '../errors.ts';
import type { RafsBlob } from '../formats/rafs/blob.ts';
import { BLOCK } from '../formats/rafs/layout.ts';
import { MAX_BLOB_COMPRESSED, MAX_BLOB_UNCOMPRESSED, MAX_CHUNKS, MAX_META_SIZE } from '../formats/rafs/limits.ts';
import { openMetaFile } from '../formats/rafs/metafile.ts';
import { SHA256_HEX } from '../image/digest.ts';
import { addon } from '../native/addon.ts';
import { codec } from '../native/codec.ts';
import { TreeBudget } from '../tree/budget.ts';
import { BlobChunks, CHUNK_RECORD_SIZE } from './blob-chunks.ts';
import type { ConvertedLayer } from './layer.ts';
import type { LayerOptions } from './options.ts';
import type { LayerInput } from './read-layer.ts';
import { decodeTree, encodeTree } from './tree-record.ts';

const OP = 'read layer record';
/** Plain bytes of a record that is written or read: some hundred a file and 80 a chunk. */
export const MAX_RECORD_SIZE = 512 * 1024 * 1024;
/** Plain bytes that are compressed at once. */
const FRAME = 4 * 1024 * 1024;
const LEVEL = 3;

const count = z.int().min(0);
const hex = z.string().regex(SHA256_HEX);

const unit = z.object({
  at: count.max(MAX_BLOB_COMPRESSED),
  stored: count.min(1).max(MAX_UNIT_SIZE),
  size: count.min(1).max(MAX_UNIT_SIZE),
  /** Of a batch; null for a span of a gzip stream, whose window only the chunk info has. */
  compressor: z.union([z.literal(0), z.literal(1), z.literal(3)]).nullable(),
});

const head = z.object({
  blob: z
    .object({
      id: hex,
      features: count,
      compressedSize: count.min(1).max(MAX_BLOB_COMPRESSED),
      uncompressedSize: count.max(MAX_BLOB_UNCOMPRESSED),
      tocSize: count,
      tocDigest: hex,
      ciCompressor: z.union([z.literal(0), z.literal(3)]),
      ciOffset: count,
      ciCompressedSize: count.max(MAX_META_SIZE),
      ciUncompressedSize: count.max(MAX_META_SIZE),
      metaDigest: hex.nullable(),
      metaSize: count.max(MAX_META_SIZE),
    })
    .nullable(),
  chunks: count.max(MAX_CHUNKS),
  /** Bytes of blob.meta; 0 where the target has it as a blob of its own. */
  meta: count.max(MAX_META_SIZE),
  units: z.array(unit),
  totals: z.object({ chunks: count, bytes: count, reusedChunks: count, reusedBytes: count }),
});
type Head = z.infer<typeof head>;

/** The record of a layer; null for one that refers to other blobs than its own, or is too large to be worth it. */
export function encodeLayer({ tree, blob, meta, metaBlob, chunks, totals }: ConvertedLayer): Buffer | null {
  const kept = metaBlob === null ? meta : Buffer.alloc(0);
  const units = chunks.units.map(({ compressedOffset, compressedSize, size, decoder }) => ({
    ...{ at: compressedOffset, stored: compressedSize, size },
    compressor: decoder.kind === 'batch' ? decoder.compressor : null,
  }));
  const plain = { blob: blob && headOf(blob), chunks: chunks.length, meta: kept.length, units, totals };
  const first = Buffer.from(JSON.stringify(plain));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(first.length);
  const frames = new FrameWriter();
  for (const piece of [length, first, ...chunks.records(), kept]) frames.add(piece);
  const lines = encodeTree(tree, chunks.blob);
  for (let next = lines.next(); ; next = lines.next()) {
    if (next.done) return next.value ? frames.finish() : null;
    frames.add(Buffer.from(next.value));
    if (frames.size > MAX_RECORD_SIZE) return null;
  }
}

const headOf = ({ tocDigest, metaDigest, ...blob }: RafsBlob) => ({
  ...blob,
  tocDigest: tocDigest.toString('hex'),
  metaDigest: metaDigest?.toString('hex') ?? null,
});

class FrameWriter {
  /** Plain bytes so far. */
  size = 0;
  readonly #frames: Buffer[] = [];
  #pieces: Buffer[] = [];
  #pending = 0;

  add(piece: Buffer): void {
    this.#pieces.push(piece);
    this.#pending += piece.length;
    this.size += piece.length;
    if (this.#pending >= FRAME) this.#flush();
  }

  finish(): Buffer {
    this.#flush();
    return Buffer.concat(this.#frames);
  }

  #flush(): void {
    if (this.#pending === 0) return;
    this.#frames.push(addon().zstdCompress(Buffer.concat(this.#pieces), LEVEL));
    this.#pieces = [];
    this.#pending = 0;
  }
}

/** `record`: verified bytes. `readMeta`: fetches the blob with the chunk info. FormatError for what no encoder writes. */
export async function decodeLayer(
  record: Buffer,
  input: Pick<LayerInput, 'digest' | 'diffId' | 'size'>,
  options: LayerOptions,
  readMeta: (digest: string, size: number) => Promise<Buffer>,
  budget = new TreeBudget(),
): Promise<ConvertedLayer> {
  const subject = `record of layer ${input.digest}`;
  const plain = addon().zstdDecompress(record, MAX_RECORD_SIZE);
  const first = 4 + (plain.length < 4 ? 0 : plain.readUInt32LE());
  const {
    blob: described,
    chunks: length,
    meta: metaLength,
    units,
    totals,
  } = parseHead(plain.subarray(4, first), subject);
  const chunksEnd = first + length * CHUNK_RECORD_SIZE;
  const metaEnd = chunksEnd + metaLength;
  if (metaEnd > plain.length || (described === null) !== (length === 0)) throw bad('head', 'invalid sizes', subject);
  const blob = described && blobOf(described, length, options);
  const records = plain.subarray(first, chunksEnd);
  if (blob !== null) checkChunks(records, units, blob, subject);
  const chunks = BlobChunks.restore(options.digester, options.compressor, records, units.map(unitOf));
  chunks.blob = blob?.id ?? '';
  const tree = decodeTree(linesOf(plain, metaEnd), { chunks, chunkSize: options.chunkSize, budget, subject });
  const metaBlob = blob?.metaDigest ? await readMeta(`sha256:${described!.metaDigest}`, blob.metaSize) : null;
  const meta =
    metaBlob === null
      ? Buffer.from(plain.subarray(chunksEnd, metaEnd))
      : await openMetaFile(metaBlob, blob!, codec(), subject);
  return { tree, blob, meta, metaBlob, chunks, totals };
}

function parseHead(bytes: Buffer, subject: string): Head {
  let value: unknown = null;
  try {
    value = JSON.parse(bytes.toString());
  } catch {
    // The schema says what is wrong with null.
  }
  const result = head.safeParse(value, { jitless: true });
  if (result.success) return result.data;
  throw bad('head', result.error.issues[0]!.message, subject);
}

const blobOf = (blob: NonNullable<Head['blob']>, chunkCount: number, options: LayerOptions): RafsBlob => ({
  ...blob,
  chunkCount,
  chunkSize: options.chunkSize,
  compressor: options.compressor,
  digester: options.digester,
  tocDigest: Buffer.from(blob.tocDigest, 'hex'),
  metaDigest: blob.metaDigest === null ? null : Buffer.from(blob.metaDigest, 'hex'),
  cipher: null,
});

const unitOf = ({ at, stored, size, compressor }: Head['units'][number]): Unit => ({
  ...{ compressedOffset: at, compressedSize: stored, size },
  decoder:
    compressor === null ? { kind: 'zran', window: Buffer.alloc(0), bits: 0, byte: 0 } : { kind: 'batch', compressor },
});

/** Chunks follow each other and lie within the blob. Fields as in blob-chunks.ts. */
function checkChunks(records: Buffer, units: Head['units'], blob: RafsBlob, subject: string): void {
  for (const { at, stored } of units) {
    if (at + stored > blob.compressedSize) throw bad('unit', 'exceeds the blob', subject);
  }
  let plainEnd = 0;
  for (let at = 0; at < records.length; at += CHUNK_RECORD_SIZE) {
    const size = records.readUInt32LE(at + 36);
    const number = records.readUInt32LE(at + 56) >>> 1;
    if (records.readUInt32LE(at + 32) !== plainEnd || size === 0 || size > blob.chunkSize) {
      throw bad('chunk', 'does not follow the one before it', subject);
    }
    plainEnd += Math.ceil(size / BLOCK);
    const end =
      number === 0
        ? records.readUIntLE(at + 40, 6) + records.readUInt32LE(at + 48)
        : records.readUInt32LE(at + 60) + size;
    const limit = number === 0 ? blob.compressedSize : (units[number - 1]?.size ?? 0);
    if (end > limit) throw bad('chunk', 'exceeds its blob or unit', subject);
  }
  if (plainEnd * BLOCK !== blob.uncompressedSize) throw bad('chunk', 'does not end where the blob ends', subject);
}

function* linesOf(plain: Buffer, start: number): Generator<string> {
  for (let at = start; at < plain.length; ) {
    const end = plain.indexOf(10, at);
    if (end < 0) throw new FormatError('tree', 'truncated', { op: OP });
    yield plain.toString('utf8', at, end);
    at = end + 1;
  }
}

const bad = (field: string, problem: string, subject: string): FormatError =>
  new FormatError(field, problem, { op: OP, subject });
