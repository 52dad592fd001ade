/**
 * Checks of a blob's plain chunk info: entries, contexts, windows and header, by themselves and against the blob table
 * and chunk table.
 */

import type { FieldPlace, IntField } from '../binary/fields.ts';
import { MAX_UNIT_SIZE } from '../blob/table.ts';
import { BATCH_CONTEXT, CONTEXT_SIZE, SPAN_CONTEXT } from '../formats/rafs/chunk-info-context.ts';
import {
  CHUNK_INFO_V1,
  CHUNK_INFO_V2,
  type ChunkInfoEntry,
  CI_FLAG,
  decodeChunkInfo,
  KNOWN_CI_FLAGS,
  V1_STORED_SIZE,
} from '../formats/rafs/chunk-info-entry.ts';
import { CI_HEADER, CI_HEADER_SIZE } from '../formats/rafs/chunk-info-header.ts';
import { alignUp, BLOCK, CHUNK_FLAG, FEATURE } from '../formats/rafs/layout.ts';
import { MAX_WINDOW } from '../formats/rafs/limits.ts';
import type { CheckedBlob } from './blob-table.ts';
import { Bytes } from './bytes.ts';
import type { CheckedChunks } from './chunk-table.ts';
import type { Findings } from './findings.ts';

const { fields: HEADER } = CI_HEADER;
const { fields: BATCH } = BATCH_CONTEXT;
const { fields: SPAN } = SPAN_CONTEXT;
/** Fields of V2 entries. Messages use their names for V1 too, since parts of V1 words have none. */
const { fields: ENTRY } = CHUNK_INFO_V2;

export interface ChunkInfoContext {
  readonly blob: CheckedBlob;
  readonly blobIndex: number;
  readonly chunks: CheckedChunks;
  /** Bytes of chunk data; chunks must lie within them. */
  readonly dataSize: number;
}

/** Checks `meta`: plain chunk info, padded to blocks, and its header. Offsets of problems count from its start. */
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
  const expect = (field: IntField, expected: number) => {
    const value = field.read(bytes, at);
    if (value !== expected) bytes.error(field, at, `${value}, but ${expected} in the blob table`);
  };
  bytes.expectOnly(HEADER.magic, at);
  bytes.expectOnly(HEADER.magic2, at);
  // Merging bootstraps clears this feature in the blob table only.
  const features = HEADER.features.read(bytes, at);
  if (((features ^ blob.features) & ~FEATURE.INLINED_FS_META) !== 0) {
    const [stored, expected] = [features, blob.features].map((value) => `0x${value.toString(16)}`);
    bytes.error(HEADER.features, at, `${stored}, but ${expected} in the blob table`);
  }
  expect(HEADER.compressor, blob.ciCompressor);
  expect(HEADER.count, blob.chunkCount);
  expect(HEADER.offset, blob.ciOffset);
  expect(HEADER.compressedSize, blob.ciCompressedSize);
  expect(HEADER.uncompressedSize, blob.ciUncompressedSize);
  const hasContexts = on(blob, FEATURE.ZRAN) || on(blob, FEATURE.BATCH);
  const entries = blob.chunkCount * blob.entrySize;
  const offset = HEADER.contextsOffset.read(bytes, at);
  const size = HEADER.contextsSize.read(bytes, at);
  const expectedOffset = hasContexts ? entries : 0;
  // Nydus stores 0 when there is no batch.
  if (offset !== expectedOffset && !(offset === 0 && size === 0)) {
    bytes.error(HEADER.contextsOffset, at, `${offset}, not ${expectedOffset}`);
  }
  const rest = blob.ciUncompressedSize - entries;
  if (size !== (hasContexts ? rest : 0)) {
    bytes.error(HEADER.contextsSize, at, `${size}, but ${rest} bytes follow the entries`);
  }
  bytes.reserved(CI_HEADER, at, 'reserved of the chunk info header');
}

/** Sizes of a unit: a batch, or a span of a gzip stream. */
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
  const count = HEADER.contextsCount.read(bytes, headerAt);
  const isZran = on(blob, FEATURE.ZRAN);
  const end = Math.min(blob.ciUncompressedSize, headerAt);
  const windows = start + count * CONTEXT_SIZE;
  const hasContexts = isZran || on(blob, FEATURE.BATCH);
  if (hasContexts ? windows > end || (!isZran && windows !== end) : count !== 0) {
    bytes.error(HEADER.contextsCount, headerAt, `${count} contexts do not match ${end - start} bytes`);
    return [];
  }
  const units: CheckedUnit[] = [];
  let [plainBefore, storedBefore] = [-1, -1];
  for (let i = 0; i < count; i++) {
    const at = start + i * CONTEXT_SIZE;
    const unit = (isZran ? SPAN_CONTEXT : BATCH_CONTEXT).decode(bytes, at);
    units.push(unit);
    const { compressedSize, size } = isZran ? SPAN : BATCH;
    if (unit.compressedSize === 0 || unit.compressedSize > MAX_UNIT_SIZE) {
      bytes.error(compressedSize, at, `${unit.compressedSize} bytes are not a valid unit size`);
    }
    if (unit.size === 0 || unit.size > MAX_UNIT_SIZE) {
      bytes.error(size, at, `${unit.size} bytes are not a valid unit size`);
    }
    bytes.reserved(isZran ? SPAN_CONTEXT : BATCH_CONTEXT, at, `reserved of a ${isZran ? 'span' : 'batch'}`);
    if (!isZran) continue;
    const span = SPAN_CONTEXT.decode(bytes, at);
    if (!(span.compressedOffset + span.compressedSize <= dataSize)) {
      bytes.error(
        SPAN.compressedOffset,
        at,
        `${span.compressedSize} bytes at offset ${span.compressedOffset} exceed the data's ${dataSize} bytes`,
      );
    }
    if (span.compressedOffset <= storedBefore)
      bytes.error(SPAN.compressedOffset, at, 'must be greater than that of the previous span');
    // Two spans may have the same plain offset: an empty member of the gzip stream is also a span.
    if (span.plainOffset < plainBefore) bytes.error(SPAN.plainOffset, at, 'less than that of the previous span');
    [storedBefore, plainBefore] = [span.compressedOffset, span.plainOffset];
    if (span.windowSize > MAX_WINDOW)
      bytes.error(SPAN.windowSize, at, `${span.windowSize} exceeds the maximum window of ${MAX_WINDOW} bytes`);
    else if (!(windows + span.windowAt + span.windowSize <= end)) {
      bytes.error(SPAN.windowAt, at, `${span.windowSize} bytes at offset ${span.windowAt} exceed the windows`);
    }
    if (span.bits > 7 || (span.bits > 0 && span.compressedOffset === 0)) {
      bytes.error(SPAN.bits, at, `${span.bits} bits of the previous byte are not possible here`);
    }
    if (span.bits === 0 && span.byte !== 0)
      findings.warning(SPAN.byte.name, at + SPAN.byte.at, 'the byte is set, but none of its bits is used');
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
    const wrong: Wrong = (field, message) => bytes.error(field, at, `chunk ${i}: ${message}`);
    if (entry.uncompressedSize > blob.chunkSize)
      wrong(ENTRY.lastByte, `${entry.uncompressedSize} bytes exceed the chunk size`);
    // Each chunk starts at the first whole block after the previous one.
    if (entry.uncompressedOffset !== plainEnd) wrong(ENTRY.block, `${entry.uncompressedOffset}, not ${plainEnd}`);
    plainEnd = alignUp(entry.uncompressedOffset + entry.uncompressedSize, BLOCK);
    const unit = checkKind(entry, units, blob, wrong);
    const stored = entry.compressedOffset + (unit !== null && !isZran ? unit.compressedSize : entry.compressedSize);
    if (stored > dataSize) wrong(ENTRY.compressedOffset, `up to ${stored} of ${dataSize} bytes of data`);
    if (!isZran) {
      // All chunks of a batch have its offset.
      const isNext = entry.compressedOffset === storedEnd;
      const isSame = unit !== null && stored === storedEnd;
      if (!isNext && !isSame) wrong(ENTRY.compressedOffset, `${entry.compressedOffset}, not ${storedEnd}`);
      storedEnd = stored;
    }
    checkAgainstTable(entry, i, context, wrong);
  }
  if (count === blob.chunkCount && plainEnd !== blob.uncompressedSize) {
    const message = `the chunks end at ${plainEnd}, but the device at ${blob.uncompressedSize} in the blob table`;
    findings.error('uncompressed_size', (count - 1) * blob.entrySize + 4, message);
  }
}

type Wrong = (field: FieldPlace, message: string) => void;

/** Checks the flags and returns the unit of a chunk; null when the chunk is stored alone. */
function checkKind(
  entry: ChunkInfoEntry,
  units: readonly CheckedUnit[],
  blob: CheckedBlob,
  wrong: Wrong,
): CheckedUnit | null {
  if (blob.entrySize === CHUNK_INFO_V1.size) return null;
  const { flags } = entry;
  const is = (flag: number) => (flags & flag) !== 0;
  if ((flags & ~KNOWN_CI_FLAGS) !== 0) wrong(ENTRY.flags, `unknown bits 0x${flags.toString(16)}`);
  if (is(CI_FLAG.ZRAN) !== on(blob, FEATURE.ZRAN)) wrong(ENTRY.flags, 'zran or not, the blob otherwise');
  if (is(CI_FLAG.BATCH) && !on(blob, FEATURE.BATCH)) wrong(ENTRY.flags, 'of a batch, in a blob without');
  if (is(CI_FLAG.ENCRYPTED) !== on(blob, FEATURE.ENCRYPTED)) wrong(ENTRY.flags, 'encrypted or not, the blob otherwise');
  if (!is(CI_FLAG.ZRAN) && !is(CI_FLAG.BATCH)) {
    if (is(CI_FLAG.HAS_CRC32) && entry.offset === 0) wrong(ENTRY.crc32c, 'a checksum of 0');
    if (entry.compressedSize === 0) wrong(ENTRY.compressedSize, 'nothing is stored');
    return null;
  }
  const unit = units[entry.context];
  if (unit === undefined) {
    if (units.length > 0) wrong(ENTRY.context, `${entry.context} of ${units.length}`);
    return null;
  }
  if (entry.offset + entry.uncompressedSize > unit.size) {
    wrong(ENTRY.offset, `${entry.offset} + ${entry.uncompressedSize} bytes in a unit of ${unit.size}`);
  }
  return unit;
}

/** Compares an entry with the chunk table of the bootstrap, which has the chunk if a file uses it. */
function checkAgainstTable(entry: ChunkInfoEntry, index: number, context: ChunkInfoContext, wrong: Wrong): void {
  const { blob, blobIndex, chunks } = context;
  const row = chunks.find(blobIndex, index);
  if (row === null) return;
  const differs = (field: FieldPlace, mine: number, theirs: number) => {
    if (mine !== theirs) wrong(field, `${mine}, and ${theirs} in the chunk table at byte ${row.at}`);
  };
  differs(ENTRY.block, entry.uncompressedOffset, row.uncompressedOffset);
  differs(ENTRY.lastByte, entry.uncompressedSize, row.uncompressedSize);
  const isMember = (entry.flags & CI_FLAG.BATCH) !== 0;
  if (!isMember) {
    differs(ENTRY.compressedOffset, entry.compressedOffset, row.compressedOffset);
    differs(
      blob.entrySize === CHUNK_INFO_V1.size ? V1_STORED_SIZE : ENTRY.compressedSize,
      entry.compressedSize,
      row.compressedSize,
    );
    const compressed = (row.flags & CHUNK_FLAG.COMPRESSED) === 0 ? 0 : CI_FLAG.COMPRESSED;
    differs(ENTRY.flags, entry.flags & CI_FLAG.COMPRESSED, compressed);
  }
  const hasCrc = blob.entrySize === CHUNK_INFO_V2.size && (entry.flags & CI_FLAG.HAS_CRC32) !== 0 && !isMember;
  if (hasCrc && row.crc32c !== null) differs(ENTRY.crc32c, entry.offset, row.crc32c);
}
