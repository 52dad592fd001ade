/** Names of the format's numbers for users. */
import type { Compressor, Digester } from '../native/addon.ts';

export const COMPRESSORS: Readonly<Record<Compressor, string>> = { 0: 'none', 1: 'lz4_block', 2: 'gzip', 3: 'zstd' };
export const DIGESTERS: Readonly<Record<Digester, string>> = { 0: 'blake3', 1: 'sha256' };
