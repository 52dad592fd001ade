import { describe, expect, it } from 'vitest';
import { detectCompression } from '../../../src/image/compression.ts';

describe('the first bytes', () => {
  it.each([
    ['1f8b08', 'gzip'],
    ['1f8b0800000000000003', 'gzip'],
    ['28b52ffd2400', 'zstd'],
    ['502a4d1804000000', 'zstd'],
    ['5f2a4d1804000000', 'zstd'],
    ['fd377a585a000004', 'xz'],
    ['425a683931415926', 'bzip2'],
    ['2e2f', 'none'],
    ['', 'none'],
    ['1f8b', 'none'],
    ['602a4d1804000000', 'none'],
    // A name, "BZh.txt".
    ['425a682e74787400', 'none'],
  ])('%s is %s', (hex, expected) => expect(detectCompression(Buffer.from(hex, 'hex'))).toBe(expected));
});
