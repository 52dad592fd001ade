import { afterEach, describe, expect, test, vi } from 'vitest';
import { LacunaError } from '../../../src/errors.ts';
import { digestOf } from '../../../src/image/digest.ts';
import { silentLog } from '../../../src/observe/log.ts';
import { DEFAULT_RETRY, parseRetryAfter, ResponseError, Retries } from '../../../src/registry/http/retry.ts';
import { isLoopback, openStore } from '../../../src/registry/open.ts';
import type { StoreOptions } from '../../../src/registry/store.ts';
import { startRegistry } from '../../kit/registry.ts';
import { failure } from './contract.ts';
import { keptLog, QUICK, referenceTo, TRANSPORTS } from './kit.ts';

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

describe('a host that is not reached', () => {
  const openAt = (host: string, options: StoreOptions = {}) => openStore(referenceTo(host), options);
  /** How often `host` was tried: each failed connection has a line when the next try is announced, and one at the end. */
  const tries = ({ lines }: ReturnType<typeof keptLog>): number =>
    1 + lines.filter((it) => /^request failed, retrying/.test(it)).length;

  async function deadHost(): Promise<string> {
    const registry = await startRegistry();
    await registry.close();
    return registry.host;
  }

  test.each(TRANSPORTS)('is tried three times when it has never answered, and then once (%s)', async (transport) => {
    const host = await deadHost();
    const log = keptLog();
    const retry = { ...DEFAULT_RETRY, minDelay: 1 };
    await using store = await openAt(host, { transport, log, retry });
    const error = await failure('UNAVAILABLE', store.resolve('latest'));
    expect(error.message).toContain(`${host}: connection refused (ECONNREFUSED)`);
    expect(error.hint).toBe('is the registry running?');
    expect(tries(log)).toBe(3);
    const later = keptLog();
    await using other = await openAt(host, { transport, log: later, retry });
    await failure('UNAVAILABLE', other.resolve('latest'));
    expect(tries(later)).toBe(1);
  });

  test.each(TRANSPORTS)('is waited for when it has answered before (%s)', async (transport) => {
    const registry = await startRegistry();
    const log = keptLog();
    await using store = await openAt(registry.host, { transport, log, retry: QUICK });
    await failure('NOT_FOUND', store.resolve('latest'));
    expect(tries(log)).toBe(1);
    await registry.close();
    await failure('UNAVAILABLE', store.resolve('other'));
    expect(tries(log)).toBe(QUICK.attempts);
  });

  test.each(TRANSPORTS)('a name that does not exist is asked for once (%s)', async (transport) => {
    const log = keptLog();
    await using store = await openAt('nobody.invalid', { transport, log });
    const error = await failure('UNAVAILABLE', store.resolve('latest'));
    expect(error.message).toMatch(/nobody\.invalid: (no such host|the name could not be looked up)/);
    expect(tries(log)).toBeLessThanOrEqual(3);
  });

  test('retries do not nest: pushing three blobs takes as many tries as one', async () => {
    const host = await deadHost();
    const log = keptLog();
    await using store = await openAt(host, { log, retry: { ...DEFAULT_RETRY, minDelay: 1 } });
    const blobs = ['a', 'b', 'c'].map((text) => Buffer.from(text));
    const push = async (data: Buffer): Promise<void> => {
      const upload = await store.upload();
      await upload.write(data);
      await upload.commit(digestOf(data), data.length);
    };
    for (const outcome of await Promise.allSettled(blobs.map(push))) expect(outcome.status).toBe('rejected');
    expect(log.lines.filter((it) => it.startsWith('request failed, retrying')).length).toBeLessThanOrEqual(6);
    expect(log.levels.filter((level) => level === 'warn')).toEqual([]);
  });

  test('nor do they around an error that was tried before', async () => {
    const inner = new Retries({ ...DEFAULT_RETRY, attempts: 1 }, silentLog);
    const outer = new Retries(DEFAULT_RETRY, silentLog);
    const error = new LacunaError('UNAVAILABLE', 'x');
    expect(new Retries(DEFAULT_RETRY, silentLog).next(error)).toBeGreaterThanOrEqual(0);
    expect(() => inner.next(error)).toThrow(error);
    expect(() => outer.next(error)).toThrow(error);
  });

  test('one warning for a host that is in trouble, whoever waits for it', async () => {
    await using registry = await startRegistry();
    registry.fault = () => ({ kind: 'status', status: 503 });
    const log = keptLog();
    await using store = await openAt(registry.host, { log, retry: QUICK });
    await Promise.allSettled([store.resolve('a'), store.resolve('b'), store.resolve('c')]);
    expect(registry.requests).toHaveLength(3 * QUICK.attempts);
    expect(log.levels.filter((level) => level === 'warn')).toHaveLength(1);
  });
});
