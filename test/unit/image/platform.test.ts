import { describe, expect, test } from 'vitest';
import { isLacunaError } from '../../../src/errors.ts';
import type { Index } from '../../../src/image/manifest.ts';
import { MEDIA } from '../../../src/image/media.ts';
import {
  formatPlatform,
  hostPlatform,
  matchPlatform,
  matchPlatforms,
  parsePlatform,
} from '../../../src/image/platform.ts';

test.each([
  ['linux/amd64', 'linux/amd64'],
  ['linux/x86_64', 'linux/amd64'],
  ['Linux/AMD64', 'linux/amd64'],
  ['linux/amd64/v1', 'linux/amd64'],
  ['linux/amd64/v3', 'linux/amd64/v3'],
  ['linux/arm64', 'linux/arm64'],
  ['linux/aarch64/v8', 'linux/arm64'],
  ['linux/arm64/8', 'linux/arm64'],
  ['linux/arm', 'linux/arm/v7'],
  ['linux/armhf', 'linux/arm/v7'],
  ['linux/armel', 'linux/arm/v6'],
  ['linux/arm/6', 'linux/arm/v6'],
  ['linux/i386', 'linux/386'],
])('%s is %s', (text, canonical) => {
  expect(formatPlatform(parsePlatform(text))).toBe(canonical);
});

test.each(['', 'linux', 'linux/', '/amd64', 'a/b/c/d', 'linux/am d64', `linux/${'a'.repeat(65)}`])(
  '%j is none',
  (text) => {
    try {
      parsePlatform(text);
      expect.unreachable();
    } catch (error) {
      expect(isLacunaError(error) && error.code).toBe('USAGE');
    }
  },
);

test('the host is a Linux', () => {
  expect(hostPlatform().os).toBe('linux');
});

describe('choosing', () => {
  let next = 0;
  const entry = (text: string | null) => {
    const digest = `sha256:${String(next++).padStart(64, '0')}`;
    const [os, architecture, variant] = (text ?? '').split('/');
    const platform = { os: os!, architecture: architecture!, ...(variant === undefined ? {} : { variant }) };
    return { mediaType: MEDIA.ociManifest, digest, size: 1, ...(text === null ? {} : { platform }) };
  };
  const indexOf = (...texts: (string | null)[]): Index => ({ schemaVersion: 2, manifests: texts.map(entry) });
  const chosen = (index: Index, text: string): number => {
    const found = matchPlatform(index, parsePlatform(text));
    return found === null ? -1 : index.manifests.indexOf(found);
  };

  test.each<[string[], string, number]>([
    [['windows/amd64', 'linux/arm64', 'linux/amd64'], 'linux/amd64', 2],
    [['linux/arm/v5', 'linux/arm/v7', 'linux/arm/v6'], 'linux/arm/v7', 1],
    [['linux/arm/v5', 'linux/arm/v6'], 'linux/arm/v7', 1],
    [['linux/arm/v7'], 'linux/arm/v6', -1],
    [['linux/arm64/v8'], 'linux/arm64', 0],
    [['linux/amd64', 'linux/amd64/v3'], 'linux/amd64/v3', 1],
    [['linux/amd64', 'linux/amd64/v3'], 'linux/amd64/v2', 0],
    [['linux/amd64/v3'], 'linux/amd64', -1],
    [['unknown/unknown', 'linux/amd64'], 'linux/amd64', 1],
    [['linux/s390x'], 'linux/amd64', -1],
  ])('%j for %s', (texts, wanted, place) => {
    expect(chosen(indexOf(...texts), wanted)).toBe(place);
  });

  test('of equals the first; both are listed', () => {
    const index = indexOf('linux/amd64', 'linux/amd64');
    expect(chosen(index, 'linux/amd64')).toBe(0);
    expect(matchPlatforms(index, parsePlatform('linux/amd64'))).toEqual(index.manifests);
  });

  test('an entry without a platform counts only when it is alone', () => {
    expect(chosen(indexOf(null), 'linux/amd64')).toBe(0);
    expect(chosen(indexOf(null, null), 'linux/amd64')).toBe(-1);
    expect(matchPlatform(indexOf(), parsePlatform('linux/amd64'))).toBeNull();
  });
});
