/**
 * Claims of a blob's chunk info, in its plain form: entries, contexts, windows and header, held against blob and chunk
 * table.
 */
import { MAX_UNIT_SIZE } from '../blob/table.ts';
import { alignUp, BLOCK, CHUNK_FLAG, FEATURE } from '../formats/rafs/layout.ts';
import { MAX_WINDOW } from '../formats/rafs/limits.ts';
import {
  type ChunkInfoEntry,
  CI_FLAG,
  CI_HEADER_SIZE,
  CI_MAGIC,
  CONTEXT_SIZE,
  decodeBatch,
  decodeChunkInfo,
  decodeSpan,
  KNOWN_CI_FLAGS,
} from '../formats/rafs/meta.ts';
import type { CheckedBlob } from './blob-table.ts';
import { Bytes } from './bytes.ts';
import type { CheckedChunks } from './chunk-table.ts';
import type { Findings } from './findings.ts';

export interface ChunkInfoContext {
  readonly blob: CheckedBlob;
  readonly blobIndex: number;
  readonly chunks: CheckedChunks;
  /** Bytes of chunk data, behind which chunks cannot lie. */
  readonly dataSize: number;
}

/** `meta`: plain chunk info, padded to blocks, and its header. Offsets of problems are in it. */
export function checkChunkInfo(meta: Buffer, context: ChunkInfoContext, findings: Findings): void {
  const bytes = new Bytes(meta, findings);
  const { blob } = context;
  const headerAt = meta.length - CI_HEADER_SIZE;
  checkHeader(bytes, headerAt, blob);
  const plain = Math.min(blob.ciUncompressedSize, headerAt);
  bytes.zeros(plain, headerAt - plain, 'padding of the chunk info');
  const count = Math.min(blob.chunkCount, Math.floor(plain / blob.entrySize));
  const units = checkContexts(bytes, headerAt, count * blob.entrySize, context);
  checkEntries(bytes, count, units, context);
}

const on = (blob: CheckedBlob, feature: number): boolean => (blob.features & feature) !== 0;

function checkHeader(bytes: Bytes, at: number, blob: CheckedBlob): void {
  const { findings } = bytes;
  const expect = (offset: number, value: number, wanted: number, field: string) => {
    if (value !== wanted) findings.error(field, at + offset, `${value}, and ${wanted} in the blob table`);
  };
  bytes.expect(at, bytes.u32(at, 's_magic'), CI_MAGIC, 's_magic');
  const magicAt = at + CI_HEADER_SIZE - 4;
  bytes.expect(magicAt, bytes.u32(magicAt, 's_magic2'), CI_MAGIC, 's_magic2');
  // A merge clears this feature in the table only.
  const features = bytes.u32(at + 4, 's_features');
  if (((features ^ blob.features) & ~FEATURE.INLINED_FS_META) !== 0) {
    const [has, wanted] = [features, blob.features].map((value) => `0x${value.toString(16)}`);
    findings.error('s_features', at + 4, `${has}, and ${wanted} in the blob table`);
  }
  expect(8, bytes.u32(at + 8, 's_ci_compressor'), blob.ciCompressor, 's_ci_compressor');
  expect(12, bytes.u32(at + 12, 's_ci_entries'), blob.chunkCount, 's_ci_entries');
  expect(16, bytes.u64(at + 16, 's_ci_offset'), blob.ciOffset, 's_ci_offset');
  expect(24, bytes.u64(at + 24, 's_ci_compressed_size'), blob.ciCompressedSize, 's_ci_compressed_size');
  expect(32, bytes.u64(at + 32, 's_ci_uncompressed_size'), blob.ciUncompressedSize, 's_ci_uncompressed_size');
  const hasContexts = on(blob, FEATURE.ZRAN) || on(blob, FEATURE.BATCH);
  const entries = blob.chunkCount * blob.entrySize;
  const offset = bytes.u64(at + 40, 's_ci_zran_offset');
  const size = bytes.u64(at + 48, 's_ci_zran_size');
  const wanted = hasContexts ? entries : 0;
  // Without a batch in it Nydus leaves the place of the contexts out.
  if (offset !== wanted && !(offset === 0 && size === 0)) {
    findings.error('s_ci_zran_offset', at + 40, `${offset}; the entries end at ${wanted}`);
  }
  const rest = blob.ciUncompressedSize - entries;
  if (size !== (hasContexts ? rest : 0)) {
    findings.error('s_ci_zran_size', at + 48, `${size}; behind the entries are ${rest} bytes`);
  }
  bytes.zeros(at + 60, CI_HEADER_SIZE - 64, 'reserved of the chunk info header');
}

/** What can be a unit that chunks lie within: sizes, and for spans where they are. */
interface CheckedUnit {
  readonly size: number;
  readonly compressedSize: number;
}

function checkContexts(
  bytes: Bytes,
  headerAt: number,
  start: number,
  { blob, dataSize }: ChunkInfoContext,
): CheckedUnit[] {
  const { findings } = bytes;
  const countAt = headerAt + 56;
  const count = bytes.u32(countAt, 's_ci_zran_count');
  const isZran = on(blob, FEATURE.ZRAN);
  const end = Math.min(blob.ciUncompressedSize, headerAt);
  const windows = start + count * CONTEXT_SIZE;
  const hasContexts = isZran || on(blob, FEATURE.BATCH);
  if (hasContexts ? windows > end || (!isZran && windows !== end) : count !== 0) {
    findings.error('s_ci_zran_count', countAt, `${count} contexts in ${end - start} bytes`);
    return [];
  }
  const units: CheckedUnit[] = [];
  let [plainBefore, storedBefore] = [-1, -1];
  for (let i = 0; i < count; i++) {
    const at = start + i * CONTEXT_SIZE;
    const unit = isZran ? decodeSpan(bytes, at) : decodeBatch(bytes, at);
    units.push(unit);
    const [storedAt, sizeAt] = isZran ? [at + 24, at + 28] : [at, at + 4];
    const [storedField, sizeField] = isZran ? ['in_len', 'out_len'] : ['compressed_size', 'uncompressed_batch_size'];
    if (unit.compressedSize === 0 || unit.compressedSize > MAX_UNIT_SIZE) {
      findings.error(storedField!, storedAt!, `${unit.compressedSize} bytes are no size of a unit`);
    }
    if (unit.size === 0 || unit.size > MAX_UNIT_SIZE) {
      findings.error(sizeField!, sizeAt!, `${unit.size} bytes are no size of a unit`);
    }
    if (!isZran) {
      bytes.zeros(at + 8, CONTEXT_SIZE - 8, 'reserved of a batch');
      continue;
    }
    const span = decodeSpan(bytes, at);
    if (!(span.compressedOffset + span.compressedSize <= dataSize)) {
      findings.error(
        'in_offset',
        at,
        `${span.compressedSize} bytes at ${span.compressedOffset} run out of ${dataSize}`,
      );
    }
    if (span.compressedOffset <= storedBefore) findings.error('in_offset', at, 'not behind that of the span before');
    // Empty members of the gzip stream are spans of their own.
    if (span.plainOffset < plainBefore) findings.error('out_offset', at + 8, 'before that of the span before');
    [storedBefore, plainBefore] = [span.compressedOffset, span.plainOffset];
    if (span.windowSize > MAX_WINDOW) findings.error('dict_size', at + 32, `${span.windowSize}, more than a window`);
    else if (!(windows + span.windowAt + span.windowSize <= end)) {
      findings.error('dict_offset', at + 16, `${span.windowSize} bytes at ${span.windowAt} are no window`);
    }
    if (span.bits > 7 || (span.bits > 0 && span.compressedOffset === 0)) {
      findings.error('ctx_bits', at + 37, `${span.bits} bits of the byte before`);
    }
    if (span.bits === 0 && span.byte !== 0) findings.warning('ctx_byte', at + 36, 'a byte of which no bit is used');
    bytes.zeros(at + 38, 2, 'reserved of a span');
  }
  return units;
}

function checkEntries(bytes: Bytes, count: number, units: readonly CheckedUnit[], context: ChunkInfoContext): void {
  const { blob, dataSize } = context;
  const { findings } = bytes;
  const isZran = on(blob, FEATURE.ZRAN);
  let plainEnd = 0;
  let storedEnd = 0;
  for (let i = 0; i < count; i++) {
    const at = i * blob.entrySize;
    const entry = decodeChunkInfo(bytes, at, blob.entrySize);
    const wrong = (field: string, offset: number, message: string) =>
      findings.error(field, at + offset, `chunk ${i}: ${message}`);
    if (entry.uncompressedSize > blob.chunkSize) wrong('uncompressed_size', 4, `${entry.uncompressedSize} bytes`);
    // Chunks follow one another, each at a whole block.
    if (entry.uncompressedOffset !== plainEnd)
      wrong('uncompressed_offset', 0, `${entry.uncompressedOffset}, not ${plainEnd}`);
    plainEnd = alignUp(entry.uncompressedOffset + entry.uncompressedSize, BLOCK);
    const unit = checkKind(entry, units, blob, wrong);
    const stored = entry.compressedOffset + (unit !== null && !isZran ? unit.compressedSize : entry.compressedSize);
    if (stored > dataSize) wrong('compressed_offset', 8, `up to ${stored} of ${dataSize} bytes of data`);
    if (!isZran) {
      // Members of a batch share its place.
      const isNext = entry.compressedOffset === storedEnd;
      const isSame = unit !== null && stored === storedEnd;
      if (!isNext && !isSame) wrong('compressed_offset', 8, `${entry.compressedOffset}, not ${storedEnd}`);
      storedEnd = stored;
    }
    checkAgainstTable(entry, i, context, wrong);
  }
  if (count === blob.chunkCount && plainEnd !== blob.uncompressedSize) {
    const message = `the chunks end at ${plainEnd}, and the device at ${blob.uncompressedSize} in the blob table`;
    findings.error('uncompressed_size', (count - 1) * blob.entrySize + 4, message);
  }
}

type Wrong = (field: string, offset: number, message: string) => void;

/** Flags, and the unit that a chunk is part of; null when it is stored alone. */
function checkKind(
  entry: ChunkInfoEntry,
  units: readonly CheckedUnit[],
  blob: CheckedBlob,
  wrong: Wrong,
): CheckedUnit | null {
  if (blob.entrySize === 16) return null;
  const { flags } = entry;
  const is = (flag: number) => (flags & flag) !== 0;
  if ((flags & ~KNOWN_CI_FLAGS) !== 0) wrong('flags', 7, `unknown bits 0x${flags.toString(16)}`);
  if (is(CI_FLAG.ZRAN) !== on(blob, FEATURE.ZRAN)) wrong('flags', 7, 'zran or not, the blob otherwise');
  if (is(CI_FLAG.BATCH) && !on(blob, FEATURE.BATCH)) wrong('flags', 7, 'of a batch, in a blob without');
  if (is(CI_FLAG.ENCRYPTED) !== on(blob, FEATURE.ENCRYPTED)) wrong('flags', 7, 'encrypted or not, the blob otherwise');
  if (!is(CI_FLAG.ZRAN) && !is(CI_FLAG.BATCH)) {
    if (is(CI_FLAG.HAS_CRC32) && entry.offset === 0) wrong('crc32', 16, 'a checksum of 0');
    if (entry.compressedSize === 0) wrong('compressed_size', 13, 'nothing is stored');
    return null;
  }
  const unit = units[entry.context];
  if (unit === undefined) {
    if (units.length > 0) wrong('context', 20, `${entry.context} of ${units.length}`);
    return null;
  }
  if (entry.offset + entry.uncompressedSize > unit.size) {
    wrong('offset', 16, `${entry.offset} + ${entry.uncompressedSize} bytes in a unit of ${unit.size}`);
  }
  return unit;
}

/** The same chunk in the chunk table of the bootstrap, where a file uses it. */
function checkAgainstTable(entry: ChunkInfoEntry, index: number, context: ChunkInfoContext, wrong: Wrong): void {
  const { blob, blobIndex, chunks } = context;
  const row = chunks.find(blobIndex, index);
  if (row === null) return;
  const differs = (field: string, offset: number, mine: number, theirs: number) => {
    if (mine !== theirs) wrong(field, offset, `${mine}, and ${theirs} in the chunk table at byte ${row.at}`);
  };
  differs('uncompressed_offset', 0, entry.uncompressedOffset, row.uncompressedOffset);
  differs('uncompressed_size', 4, entry.uncompressedSize, row.uncompressedSize);
  const isMember = (entry.flags & CI_FLAG.BATCH) !== 0;
  if (!isMember) {
    differs('compressed_offset', 8, entry.compressedOffset, row.compressedOffset);
    differs('compressed_size', blob.entrySize === 16 ? 12 : 13, entry.compressedSize, row.compressedSize);
    const compressed = (row.flags & CHUNK_FLAG.COMPRESSED) === 0 ? 0 : CI_FLAG.COMPRESSED;
    differs('flags', 7, entry.flags & CI_FLAG.COMPRESSED, compressed);
  }
  const hasCrc = blob.entrySize === 24 && (entry.flags & CI_FLAG.HAS_CRC32) !== 0 && !isMember;
  if (hasCrc && row.crc32c !== null) differs('crc32', 16, entry.offset, row.crc32c);
}
