/** What the chunk info has of each unit that chunks lie in: batches, or spans of a gzip stream. */
import { u8, u32, u64, zeros } from '../../binary/fields.ts';
import { struct } from '../../binary/struct.ts';
import { MAX_UNIT_SIZE } from '../../blob/table.ts';
import { META_RS } from './layout.ts';
import { MAX_WINDOW } from './limits.ts';

const UNIT = `bytes; 1 … ${MAX_UNIT_SIZE}`;

export const BATCH_CONTEXT = struct('BatchInflateContext', `${META_RS}/batch.rs`, 40, {
  compressedSize: u32(0, 'compressed_size', UNIT),
  size: u32(4, 'uncompressed_batch_size', UNIT),
  reserved: zeros(8, 32),
});

export const SPAN_CONTEXT = struct('ZranInflateContext', `${META_RS}/zran.rs`, 40, {
  compressedOffset: u64(0, 'in_offset', 'bytes, in the gzip stream'),
  plainOffset: u64(8, 'out_offset', 'bytes, in its plain text'),
  windowAt: u64(16, 'dict_offset', 'bytes, in the area of all windows, which follows the contexts'),
  compressedSize: u32(24, 'in_len', UNIT),
  size: u32(28, 'out_len', UNIT),
  windowSize: u32(32, 'dict_size', `bytes; at most ${MAX_WINDOW}`),
  byte: u8(36, 'ctx_byte', 'the byte before the span, of which some bits belong to it'),
  bits: u8(37, 'ctx_bits', 'how many; at most 7'),
  reserved: zeros(38, 2),
});

/** Bytes of either. */
export const CONTEXT_SIZE: number = SPAN_CONTEXT.size;
