import { expect, test } from 'vitest';
import { digestOf, hasherFor, hexOf, isDigest, parseDigest } from '../../../src/image/digest.ts';

const EMPTY = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

test('the digest of nothing', () => {
  expect(digestOf(Buffer.alloc(0))).toBe(`sha256:${EMPTY}`);
  expect(hexOf(`sha256:${EMPTY}`)).toBe(EMPTY);
  expect(hasherFor(`sha256:${EMPTY}`).digest('hex')).toBe(EMPTY);
  expect(parseDigest(digestOf(Buffer.from('x'), 'sha512')).algorithm).toBe('sha512');
});

test.each([
  '',
  EMPTY,
  `sha256:${EMPTY.slice(1)}`,
  `sha256:${EMPTY}0`,
  `sha256:${EMPTY.toUpperCase()}`,
  `sha512:${EMPTY}`,
  `sha1:${EMPTY}`,
  `sha256:${EMPTY}\n`,
  `sha256:../../${EMPTY.slice(6)}`,
])('not a digest: %j', (text) => {
  expect(isDigest(text)).toBe(false);
  expect(() => parseDigest(text, 'layers[0].digest')).toThrow(/^layers\[0\]\.digest: not a digest/);
});
