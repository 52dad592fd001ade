/** Sizes in the ways that people write them; the right values are those of GNU's numfmt and of dd(1). */
import { describe, expect, it } from 'vitest';
import { parseDuration, parseSize } from '../../../src/config/units.ts';

describe('sizes', () => {
  it.each([
    ['0', 0],
    ['4096', 4096],
    ['4096B', 4096],
    ['1k', 1024],
    ['100K', 102_400],
    ['1M', 1_048_576],
    ['1m', 1_048_576],
    ['1G', 1_073_741_824],
    ['1T', 1_099_511_627_776],
    ['128KiB', 131_072],
    ['128 KiB', 131_072],
    ['128kib', 131_072],
    ['1.5MiB', 1_572_864],
    ['1KB', 1000],
    ['1mb', 1_000_000],
    ['2MB', 2_000_000],
    ['0x100000', 1_048_576],
    ['0X10', 16],
    [' 1M ', 1_048_576],
  ])('%j is %i bytes', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  it.each([
    '',
    'k',
    'KiB',
    '-1',
    '-1k',
    '1kk',
    '1Ki',
    '1 parsec',
    '1e3',
    '1,5M',
    '0x',
    '0xg',
    '9007199254740993',
    '1PB1',
    'NaN',
  ])('%j is not a size', (text) => {
    expect(parseSize(text)).toBeNull();
  });
});

describe('durations', () => {
  it.each([
    ['30s', 30_000],
    ['1.5 s', 1500],
    ['250ms', 250],
    ['2m', 120_000],
    ['1h', 3_600_000],
  ])('%j is %i ms', (text, milliseconds) => {
    expect(parseDuration(text)).toBe(milliseconds);
  });

  it.each(['30', '1M', '1d', '-1s', 'constructor', '1toString'])('%j is not a duration', (text) => {
    expect(parseDuration(text)).toBeNull();
  });
});
