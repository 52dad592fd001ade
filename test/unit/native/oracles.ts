/**
 * Oracles from optional dependencies. Where one is not installed its tests are skipped (`needs`), but vitest still runs
 * the bodies of skipped `describe`s to collect them: there the oracles give nothing instead of failing.
 */
import { createRequire } from 'node:module';
import { has } from '../../kit/skip.ts';

const load = createRequire(import.meta.url);

export function zstdCompress(content: Buffer, parameters: { checksumFlag?: boolean } = {}): Buffer {
  if (!has('zstd-napi')) return Buffer.alloc(0);
  return (load('zstd-napi') as typeof import('zstd-napi')).compress(content, parameters);
}

export function zstdDecompress(frames: Buffer): Buffer {
  if (!has('zstd-napi')) return Buffer.alloc(0);
  return (load('zstd-napi') as typeof import('zstd-napi')).decompress(frames);
}

/** The content size in the header of a zstd frame. */
export function frameContentSize(frame: Buffer): number | null {
  return (load('zstd-napi/binding.js') as typeof import('zstd-napi/binding.js')).getFrameContentSize(frame);
}

export function blake3(bytes: Buffer | string): Buffer {
  if (!has('@napi-rs/blake-hash')) return Buffer.alloc(32);
  return (load('@napi-rs/blake-hash') as typeof import('@napi-rs/blake-hash')).blake3(bytes);
}
