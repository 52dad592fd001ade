import { afterEach, describe, expect, test, vi } from 'vitest';
import { LacunaError } from '../../../src/errors.ts';
import { silentLog } from '../../../src/observe/log.ts';
import { isLoopback } from '../../../src/registry/open.ts';
import { DEFAULT_RETRY, parseRetryAfter, ResponseError, Retries } from '../../../src/registry/retry.ts';

const NOW = Date.parse('2024-05-06T07:08:09Z');

describe('Retry-After', () => {
  test.each<[value: string | null, wait: number | null]>([
    [null, null],
    ['0', 0],
    ['120', 120_000],
    [' 7 ', 7000],
    ['999999999', 999_999_999_000],
    ['Mon, 06 May 2024 07:08:19 GMT', 10_000],
    ['Monday, 06-May-24 07:08:19 GMT', 10_000],
    ['Mon, 06 May 2024 07:00:00 GMT', 0],
    ['', null],
    ['-1', null],
    ['1.5', null],
    ['1e9', null],
    ['99999999999999999999', null],
    ['2024-05-06', null],
    ['soon', null],
    ['Mon, 99 May 2024 99:99:99 GMT', null],
  ])('%j', (value, wait) => {
    expect(parseRetryAfter(value, NOW)).toBe(wait);
  });
});

describe('back-off', () => {
  afterEach(() => {
    vi.restoreAllMocks();
  });

  const failing = (retryAfter: number | null = null) =>
    new ResponseError('UNAVAILABLE', 'x', { status: 503, retryAfter });

  /** The pauses before each try, with the dice always at `dice`. */
  function pauses(dice: number, error = failing(), options = {}): number[] {
    vi.spyOn(Math, 'random').mockReturnValue(dice);
    const retries = new Retries({ ...DEFAULT_RETRY, ...options }, silentLog);
    const delays: number[] = [];
    try {
      while (delays.length < 20) delays.push(retries.next(error));
    } catch (thrown) {
      expect(thrown).toBe(error);
    }
    return delays;
  }

  test('doubles up to its limit, and is cut at random', () => {
    expect(pauses(1)).toEqual([200, 400, 800, 1600, 3200]);
    expect(pauses(0.5)).toEqual([100, 200, 400, 800, 1600]);
    expect(pauses(1, failing(), { attempts: 9, maxDelay: 1000 })).toEqual([
      200, 400, 800, 1000, 1000, 1000, 1000, 1000,
    ]);
  });

  test('a registry’s wish is the least', () => {
    expect(pauses(0, failing(5000))).toEqual([5000, 5000, 5000, 5000, 5000]);
    expect(pauses(0, failing(60_001))).toEqual([]);
  });

  test('what cannot help is not done', async () => {
    const retries = new Retries(DEFAULT_RETRY, silentLog);
    const final = new LacunaError('NOT_FOUND', 'x');
    await expect(retries.pause(final, 'read', 'x', null)).rejects.toBe(final);
    const bug = new TypeError('x');
    await expect(retries.pause(bug, 'read', 'x', null)).rejects.toBe(bug);
  });
});

test.each([
  ['localhost', true],
  ['localhost:5000', true],
  ['127.0.0.1', true],
  ['127.1.2.3:80', true],
  ['[::1]:5000', true],
  ['127.example', false],
  ['localhost.example', false],
  ['128.0.0.1', false],
  ['docker.io', false],
])('%s is this machine: %s', (host, isLocal) => {
  expect(isLoopback(host)).toBe(isLocal);
});
