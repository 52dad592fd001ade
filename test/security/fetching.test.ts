/** What one image, or one registry, can take from the others' fetching: nothing, whatever it does or leaves undone. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { Fetcher, type FetchOptions } from '../../src/fetch/fetcher.ts';
import { MAX_READAHEAD } from '../../src/fetch/lane.ts';
import type { FetchSource } from '../../src/fetch/standing.ts';
import { FakeCache, fakeSource, OPTIONS, ranges, STORED, settled, stored, tableOf } from '../kit/fetching.ts';

let fetcher: Fetcher | null = null;
afterEach(() => fetcher?.close());

/** Images by name, each with one device (numbered from 1) of the same blob and its own sources. */
function setUp(images: Readonly<Record<string, readonly FetchSource[]>>, options: Partial<FetchOptions> = {}) {
  const cache = new FakeCache();
  const made = new Fetcher(cache, { ...OPTIONS, window: 0, silence: 400, ...options });
  fetcher = made;
  for (const [index, [image, sources]] of Object.entries(images).entries()) {
    made.addDevice(index + 1, { image, blob: 'b', table: tableOf(), units: null, sources });
  }
  return { cache, fetcher: made };
}

const [HOSTILE, VICTIM] = [1, 2];
/** Chunks too far from each other to travel together. */
const scattered = Array.from({ length: 32 }, (_, index) => index * 20);

describe('a registry that is silent', () => {
  it('of one image is never what another image waits for', async () => {
    const [silent, honest] = [fakeSource('silent'), fakeSource('honest', true)];
    const { cache, fetcher } = setUp({ hostile: [silent.source], victim: [honest.source] });
    fetcher.miss({ device: HOSTILE, chunks: [5] });
    await settled();
    fetcher.miss({ device: VICTIM, chunks: [5] });
    await settled();
    expect(cache.delivered).toEqual(['2:5']);
    // What has come serves both.
    expect(silent.requests[0]!.aborted).toBe(true);
  });

  it('costs its own image one look: the next source is asked as well, and first from then on', async () => {
    const [silent, mirror] = [fakeSource('silent'), fakeSource('mirror', true)];
    const { cache, fetcher } = setUp({ image: [silent.source, mirror.source] });
    const began = performance.now();
    fetcher.miss({ device: 1, chunks: [1, 21, 41] });
    await expect.poll(() => cache.delivered.length, { timeout: 5_000, interval: 10 }).toBe(3);
    expect(performance.now() - began).toBeGreaterThan(390);
    expect(silent.requests.every(({ aborted }) => aborted)).toBe(true);
    fetcher.miss({ device: 1, chunks: [61] });
    await settled();
    expect(cache.delivered.at(-1)).toBe('1:61');
    expect(silent.requests.length).toBe(3);
  });

  it('drips: bytes that lead nowhere are silence', async () => {
    const [dripping, mirror] = [fakeSource('dripping'), fakeSource('mirror', true)];
    const { cache, fetcher } = setUp({ image: [dripping.source, mirror.source] });
    fetcher.miss({ device: 1, chunks: [1] });
    const drip = setInterval(() => dripping.requests[0]?.send(1), 50);
    await expect
      .poll(() => cache.delivered, { timeout: 5_000 })
      .toEqual(['1:1'])
      .finally(() => clearInterval(drip));
    expect(mirror.requests.length).toBe(1);
  });

  it('leaves to another image of the same registry the requests that it needs', async () => {
    const shared = fakeSource('shared');
    const other = fakeSource('shared', true);
    const { cache, fetcher } = setUp({ hostile: [shared.source], victim: [other.source] }, { originConnections: 24 });
    fetcher.miss({ device: HOSTILE, chunks: scattered });
    await settled();
    expect(shared.requests.length).toBe(12);
    fetcher.miss({ device: VICTIM, chunks: [901, 961] });
    await settled();
    expect(cache.delivered).toEqual(['2:901', '2:961']);
  });

  it('takes no more than half of all requests, and several no more than leaves some', async () => {
    const silent = ['a', 'b', 'c'].map((name) => fakeSource(name));
    const honest = fakeSource('honest', true);
    const images = { a: [silent[0]!.source], b: [silent[1]!.source], c: [silent[2]!.source], victim: [honest.source] };
    const { cache, fetcher } = setUp(images, { totalConnections: 24 });
    for (const device of [1, 2, 3]) fetcher.miss({ device, chunks: scattered });
    await settled();
    expect(silent.map(({ requests }) => requests.length)).toEqual([12, 6, 3]);
    fetcher.miss({ device: 4, chunks: [901, 961] });
    await settled();
    expect(cache.delivered).toEqual(['4:901', '4:961']);
  });

  it('takes no more than half of the memory for what is fetched', async () => {
    const [silent, honest] = [fakeSource('silent'), fakeSource('honest', true)];
    const { cache, fetcher } = setUp({ hostile: [silent.source], victim: [honest.source] }, { memory: 10 * STORED });
    fetcher.miss({ device: HOSTILE, chunks: scattered });
    await settled();
    expect(silent.requests.length).toBe(5);
    fetcher.miss({ device: VICTIM, chunks: [841, 901, 961] });
    await settled();
    expect(cache.delivered.toSorted()).toEqual(['2:841', '2:901', '2:961']);
  });

  it('does not keep the others from reading ahead', async () => {
    const [silent, honest] = [fakeSource('silent'), fakeSource('honest', true)];
    const { cache, fetcher } = setUp({ hostile: [silent.source], victim: [honest.source] }, { window: 16 * 1024 });
    fetcher.miss({ device: HOSTILE, chunks: [3, 7, 11, 15, 19] });
    await settled();
    fetcher.miss({ device: VICTIM, chunks: [35] });
    await settled();
    expect(cache.delivered.toSorted()).toEqual(['2:32', '2:33', '2:34', '2:35']);
  });
});

describe('a large unit, while sixteen images keep the memory for what is fetched occupied with small ones', () => {
  const busy = Object.fromEntries(
    Array.from({ length: 16 }, (_, index) => [`busy${index}`, [fakeSource(`busy${index}`).source]]),
  );
  /** A hundred chunks in one request, of a budget of 128. */
  const large = Array.from({ length: 100 }, (_, index) => index);
  const limits = { memory: 128 * STORED, connections: 64, originConnections: 1024 };

  async function occupied(others: Readonly<Record<string, FetchSource>>) {
    const sources = Object.entries(others).map(([name, source]) => [name, [source]] as const);
    const made = setUp({ ...busy, ...Object.fromEntries(sources) }, limits);
    for (let device = 1; device <= 16; device++) {
      made.fetcher.miss({ device, chunks: Array.from({ length: 41 }, (_, index) => 200 + 20 * index) });
    }
    await settled();
    return made;
  }

  it('is fetched at once, since its image holds nothing', async () => {
    const honest = fakeSource('honest', true);
    const { cache, fetcher } = await occupied({ victim: honest.source });
    fetcher.miss({ device: 17, chunks: large });
    await settled();
    expect([ranges(honest.requests), cache.delivered.length]).toEqual([['0+100'], 100]);
  });

  it('waits when twice as much is held, and nobody who came later is served before it', async () => {
    const [first, second, third] = [fakeSource('first'), fakeSource('second'), fakeSource('third')];
    const { fetcher } = await occupied({ first: first.source, second: second.source, third: third.source });
    fetcher.miss({ device: 17, chunks: large });
    fetcher.miss({ device: 18, chunks: large.map((chunk) => 100 + chunk) });
    fetcher.miss({ device: 19, chunks: [1000] });
    await settled();
    expect([first, second, third].map(({ requests }) => requests.length)).toEqual([1, 0, 0]);
    first.requests[0]!.send();
    await settled();
    expect([second, third].map(({ requests }) => requests.length)).toEqual([1, 1]);
  });
});

describe('two places at one registry', () => {
  it('share what is under way, and what one of them lacks the other is asked for at once', async () => {
    const [wrong, right] = [fakeSource('registry', false, 'evil'), fakeSource('registry', true, 'good')];
    const { cache, fetcher } = setUp({ hostile: [wrong.source], victim: [right.source] });
    fetcher.miss({ device: HOSTILE, chunks: [5] });
    await settled();
    fetcher.miss({ device: VICTIM, chunks: [5] });
    await settled();
    expect(right.requests).toEqual([]);
    wrong.requests[0]!.fail();
    await settled();
    expect([ranges(right.requests), cache.delivered]).toEqual([['5+1'], ['2:5']]);
  });

  it('one of which fails again and again keeps nobody from the other one', async () => {
    const [wrong, right] = [fakeSource('registry', false, 'evil'), fakeSource('registry', true, 'good')];
    const { cache, fetcher } = setUp({ hostile: [wrong.source], victim: [right.source] }, { originConnections: 2 });
    fetcher.miss({ device: HOSTILE, chunks: [5, 105] });
    // The hostile image's request comes first whenever there is room for one.
    fetcher.miss({ device: VICTIM, chunks: [5, 105] });
    const failing = setInterval(() => {
      for (const request of wrong.requests) request.fail();
    }, 5);
    await expect
      .poll(() => cache.delivered.toSorted())
      .toEqual(['2:105', '2:5'])
      .finally(() => clearInterval(failing));
    expect(cache.failed).toEqual([]);
  });

  it('of one image are asked in turn, also after wrong bytes', async () => {
    const [wrong, right] = [fakeSource('registry', false, 'one'), fakeSource('registry', true, 'other')];
    const { cache, fetcher } = setUp({ image: [wrong.source, right.source] });
    fetcher.miss({ device: 1, chunks: [5] });
    await settled();
    wrong.requests[0]!.sendWrong(0);
    await settled();
    expect([ranges(right.requests), cache.rejected, cache.delivered]).toEqual([['5+1'], ['1:5'], ['1:5']]);
  });
});

it('a reader of what waited as the oldest read-ahead is not forgotten', async () => {
  const silent = fakeSource('silent');
  const cache = new FakeCache();
  const made = new Fetcher(cache, { ...OPTIONS, window: 16 * 1024, connections: 1, deadline: 600, silence: 400 });
  fetcher = made;
  // Every window leaves three chunks as read-ahead; of the very first one the third is the oldest that has room.
  const windows = Math.ceil((MAX_READAHEAD + 2) / 3);
  const perDevice = tableOf().length / 4;
  for (let left = windows, device = 1; left > 0; left -= perDevice, device++) {
    const table = tableOf(device);
    made.addDevice(device, { image: 'image', blob: 'b', table, units: null, sources: [silent.source] });
    for (let window = 0; window < Math.min(left, perDevice); window++) made.miss({ device, chunks: [4 * window + 3] });
  }
  made.miss({ device: 1, chunks: [0] });
  await expect.poll(() => cache.failed.some(({ device, chunks }) => device === 1 && chunks.includes(0))).toBe(true);
});

it('an image that wants all at once does not make others wait for their turn', async () => {
  const [greedy, modest] = [fakeSource('registry'), fakeSource('registry', true)];
  const { cache, fetcher } = setUp({ hostile: [greedy.source], victim: [modest.source] });
  fetcher.miss({ device: HOSTILE, chunks: scattered });
  await settled();
  expect(greedy.requests.length).toBe(OPTIONS.connections);
  // One of those that have to wait behind the greedy image's own, and one that is under way.
  fetcher.miss({ device: VICTIM, chunks: [620] });
  await settled();
  expect(cache.delivered).toEqual(['2:620']);
  fetcher.miss({ device: VICTIM, chunks: [0] });
  await settled();
  expect(ranges(modest.requests)).toEqual(['620+1']);
  greedy.requests[0]!.send();
  await settled();
  expect(cache.delivered).toEqual(['2:620', '1:0']);
});

it('what is given up or taken away gives back what it held', async () => {
  const silent = fakeSource('silent');
  const { cache, fetcher } = setUp({ image: [silent.source] }, { deadline: 300, totalConnections: 8 });
  for (let round = 1; round <= 3; round++) {
    fetcher.miss({ device: 1, chunks: scattered });
    await expect.poll(() => cache.failed.length, { timeout: 5_000 }).toBe(round * scattered.length);
    await settled();
  }
  expect(silent.requests.length).toBe(3 * 4);
  fetcher.removeDevice(1);
  const honest = fakeSource('honest', true);
  fetcher.addDevice(2, { image: 'other', blob: 'b', table: tableOf(), units: null, sources: [honest.source] });
  fetcher.miss({ device: 2, chunks: [0, 20, 40, 60] });
  await settled();
  expect(cache.delivered.length).toBe(4);
});

it('a blocked process does not take its own silence for that of the sources', async () => {
  const [first, mirror] = [fakeSource('first'), fakeSource('mirror', true)];
  const { cache, fetcher } = setUp({ image: [first.source, mirror.source] });
  fetcher.miss({ device: 1, chunks: [1] });
  await settled();
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_000);
  first.requests[0]!.send();
  await sleep(100);
  expect([cache.delivered, mirror.requests.length]).toEqual([['1:1'], 0]);
  expect(stored(1).length).toBe(STORED);
});
