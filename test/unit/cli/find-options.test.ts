/** The words of find's options, and what they mean to the library. */
import { describe, expect, it } from 'vitest';
import { parseNewer, parsePermissions, parseSizeRange, parseTypes } from '../../../src/cli/find.ts';

describe('the options of find', () => {
  it('read sizes: exactly, more, less', () => {
    expect(parseSizeRange('4096')).toEqual({ min: 4096, max: 4096 });
    expect(parseSizeRange('+4KiB')).toEqual({ min: 4097 });
    expect(parseSizeRange('-2MB')).toEqual({ max: 1_999_999 });
    expect(parseSizeRange('+4k')).toEqual({ min: 4097 });
    expect(() => parseSizeRange('4 parsec')).toThrow(/written/);
    expect(() => parseSizeRange('--4')).toThrow(/written/);
  });

  it('read times, always in UTC', () => {
    expect(parseNewer('2026-01-31')).toEqual({ sec: 1_769_817_600, nsec: 0 });
    expect(parseNewer('2026-01-31T01:00:00+01:00')).toEqual({ sec: 1_769_817_600, nsec: 0 });
    expect(parseNewer('@-5.5')).toEqual({ sec: -5, nsec: 500_000_000 });
    expect(parseNewer('/etc/passwd')).toBe('/etc/passwd');
    expect(() => parseNewer('yesterday')).toThrow(/written/);
    expect(() => parseNewer('2026-13-31')).toThrow(/written/);
  });

  it('read permissions and types', () => {
    expect(parsePermissions('644')).toEqual({ match: 'exactly', mode: 0o644 });
    expect(parsePermissions('-4000')).toEqual({ match: 'all', mode: 0o4000 });
    expect(parsePermissions('/222')).toEqual({ match: 'any', mode: 0o222 });
    expect(() => parsePermissions('u+x')).toThrow(/octal/);
    expect(parseTypes('f,l,s')).toEqual(['reg', 'symlink', 'socket']);
    expect(() => parseTypes('f,x')).toThrow(/"x"/);
    expect(() => parseTypes('toString')).toThrow(/must be one of/);
  });
});
