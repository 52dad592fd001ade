import { describe, expect, it } from 'vitest';
import { alignColumns, humanBytes, humanDuration } from '../../../src/observe/human.ts';

describe('numbers for people', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.00 kB'],
    [3942, '3.94 kB'],
    [9_996, '10.0 kB'],
    [999_949, '999.9 kB'],
    [999_951, '1.00 MB'],
    [168_123_456, '168.1 MB'],
    [5e18, '5000.0 PB'],
  ])('prints %d bytes as %s', (bytes, text) => expect(humanBytes(bytes)).toBe(text));

  it.each([
    [0, '0.00 s'],
    [340, '0.34 s'],
    [12_240, '12.2 s'],
    [59_960, '1 min 00 s'],
    [185_000, '3 min 05 s'],
    [8_040_000, '2 h 14 min'],
  ])('prints %d milliseconds as %s', (milliseconds, text) => expect(humanDuration(milliseconds)).toBe(text));

  it('aligns columns without trailing spaces', () => {
    const rows = [
      ['layer', '1.00 kB', 'new'],
      ['l', '100.0 MB', ''],
    ];
    expect(alignColumns(rows, [1])).toEqual(['layer   1.00 kB  new', 'l      100.0 MB']);
  });
});
