/** When the fetcher asks for what. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { Fetcher, type FetchOptions } from '../../../src/fetch/fetcher.ts';
import type { FetchSource } from '../../../src/fetch/standing.ts';
import { ResponseError } from '../../../src/registry/http/retry.ts';
import { blobBytes, FakeCache, fakeSource, OPTIONS, ranges, STORED, settled, tableOf } from '../../kit/fetching.ts';

const DEMAND_ONLY = { window: 0 };

let fetcher: Fetcher | null = null;
afterEach(() => fetcher?.close());

function setUp(options: Partial<FetchOptions> = {}, auto = false) {
  const cache = new FakeCache();
  fetcher = new Fetcher(cache, { ...OPTIONS, ...options });
  const { source, requests } = fakeSource('a', auto);
  fetcher.addDevice(1, { image: 'x', blob: 'b', table: tableOf(), units: null, sources: [source] });
  return { cache, fetcher, requests };
}

describe('what is asked for', () => {
  it('demand is fetched first with the read-ahead behind it in one request, the rest of the window right after', async () => {
    const { cache, fetcher, requests } = setUp();
    fetcher.miss({ device: 1, chunks: [5] });
    await settled();
    // Chunks 4, 6 and 7 share its window.
    expect(ranges(requests)).toEqual(['5+3', '4+1']);
    requests[0]!.send(STORED);
    await settled();
    expect(cache.delivered).toEqual(['1:5']);
    for (const request of requests) request.send();
    await settled();
    expect(cache.delivered.toSorted()).toEqual(['1:4', '1:5', '1:6', '1:7']);
    expect(fetcher.counters()).toMatchObject({
      requests: 2,
      retries: 0,
      failures: 0,
      readaheadChunks: 3,
      coalesced: 0,
    });
  });

  it('cached chunks are not fetched as read-ahead', async () => {
    const { cache, fetcher, requests } = setUp();
    for (const chunk of [4, 6]) cache.present.add(`1:${chunk}`);
    fetcher.miss({ device: 1, chunks: [5] });
    await settled();
    expect(ranges(requests)).toEqual(['5+1', '7+1']);
  });

  it('without a window only demand is fetched', async () => {
    const { fetcher, requests } = setUp(DEMAND_ONLY);
    fetcher.miss({ device: 1, chunks: [5, 6, 40] });
    await settled();
    expect(ranges(requests)).toEqual(['5+2', '40+1']);
  });

  it('read-ahead does not start while demand waits for a connection; then the newest is first', async () => {
    const { fetcher, requests } = setUp({ connections: 1 });
    // The last of each window: nothing follows it.
    for (const chunk of [3, 23, 43]) fetcher.miss({ device: 1, chunks: [chunk] });
    for (let turn = 0; turn < 6; turn++) {
      await settled();
      expect(requests.length).toBe(turn + 1);
      requests[turn]!.send();
    }
    expect(ranges(requests)).toEqual(['3+1', '23+1', '43+1', '40+3', '20+3', '0+3']);
  });

  it('read-ahead in flight stays within its limit', async () => {
    const { fetcher, requests } = setUp({ inFlight: 4 * STORED });
    for (const chunk of [3, 23, 43, 63]) fetcher.miss({ device: 1, chunks: [chunk] });
    await settled();
    const readahead = requests.filter(({ count, first }) => !(count === 1 && first % 20 === 3));
    const inFlight = readahead.reduce((sum, { count }) => sum + count, 0);
    expect(inFlight).toBe(4);
    readahead[0]!.send();
    await settled();
    const begun = requests.filter(({ count, first }) => !(count === 1 && first % 20 === 3));
    expect(begun.reduce((sum, { count }) => sum + count, 0)).toBe(4 + readahead[0]!.count);
  });
});

describe('single flight', () => {
  it('a demanded chunk that is queued as read-ahead is fetched at once, and once', async () => {
    const { cache, fetcher, requests } = setUp({ connections: 1 });
    for (const chunk of [3, 23, 22]) fetcher.miss({ device: 1, chunks: [chunk] });
    for (let turn = 0; turn < 5; turn++) {
      await settled();
      expect(requests.length).toBe(turn + 1);
      requests[turn]!.send();
    }
    await settled();
    expect(ranges(requests)).toEqual(['3+1', '23+1', '22+1', '20+2', '0+3']);
    expect(cache.delivered.toSorted()).toEqual([0, 1, 2, 3, 20, 21, 22, 23].map((chunk) => `1:${chunk}`).toSorted());
  });

  it('demand for a chunk under way is coalesced, and its download counts as demand from then on', async () => {
    const { cache, fetcher, requests } = setUp();
    fetcher.miss({ device: 1, chunks: [3] });
    await settled();
    expect(ranges(requests)).toEqual(['3+1', '0+3']);
    fetcher.miss({ device: 1, chunks: [2] });
    await settled();
    expect(requests.length).toBe(2);
    expect(fetcher.counters().coalesced).toBe(1);
    // Its failure is not the end, as it is for those that nobody waits for.
    requests[1]!.fail();
    await sleep(200);
    expect(ranges(requests)).toEqual(['3+1', '0+3', '2+1']);
    requests[2]!.send();
    await settled();
    expect(cache.delivered).toEqual(['1:2']);
  });

  it('a chunk that arrived as read-ahead while the miss was on its way is not fetched again', async () => {
    const { cache, fetcher, requests } = setUp();
    fetcher.miss({ device: 1, chunks: [3] });
    await settled();
    for (const request of requests) request.send();
    await settled();
    fetcher.miss({ device: 1, chunks: [2, 4] });
    await settled();
    expect(ranges(requests)).toEqual(['3+1', '0+3', '4+4']);
    // The disk has lost it since: it is fetched like any other.
    cache.present.delete('1:2');
    fetcher.miss({ device: 1, chunks: [2] });
    await settled();
    expect(ranges(requests).at(-1)).toBe('2+1');
  });

  it('two devices of a blob whose tables agree on a chunk share its download from one place', async () => {
    const { fetcher, requests } = setUp(DEMAND_ONLY);
    const other = fakeSource('a');
    fetcher.addDevice(2, { image: 'y', blob: 'b', table: tableOf(), units: null, sources: [other.source] });
    fetcher.miss({ device: 1, chunks: [3] });
    fetcher.miss({ device: 2, chunks: [3] });
    await settled();
    expect([...ranges(requests), ...ranges(other.requests)]).toEqual(['3+1']);
  });

  it('a table that lies about a chunk, or another blob, has downloads of its own', async () => {
    const { fetcher, requests } = setUp(DEMAND_ONLY);
    const [liar, stranger] = [fakeSource('a'), fakeSource('a')];
    fetcher.addDevice(2, { image: 'y', blob: 'b', table: tableOf(2), units: null, sources: [liar.source] });
    fetcher.addDevice(3, { image: 'z', blob: 'c', table: tableOf(), units: null, sources: [stranger.source] });
    for (const device of [1, 2, 3]) fetcher.miss({ device, chunks: [3] });
    await settled();
    expect([requests, liar.requests, stranger.requests].map(ranges)).toEqual([['3+1'], ['3+1'], ['3+1']]);
  });
});

describe('two devices that want one chunk', () => {
  function setUpTwo(options: Partial<FetchOptions> = {}) {
    const one = setUp(options);
    const other = fakeSource('a');
    one.fetcher.addDevice(2, { image: 'y', blob: 'b', table: tableOf(), units: null, sources: [other.source] });
    return { ...one, otherRequests: other.requests };
  }

  it('when the one that is fetched for goes away, the other one is fetched for', async () => {
    const { cache, fetcher, requests, otherRequests } = setUpTwo();
    fetcher.miss({ device: 1, chunks: [0] });
    await settled();
    // It is under way as read-ahead of the first device, none of whose readers waits for it.
    fetcher.miss({ device: 2, chunks: [2] });
    await settled();
    expect([ranges(requests), ranges(otherRequests)]).toEqual([['0+4'], []]);
    fetcher.removeDevice(1);
    await settled();
    expect(ranges(otherRequests)[0]).toBe('2+2');
    otherRequests[0]!.send();
    await settled();
    expect(cache.delivered).toEqual(['2:2', '2:3']);
  });

  it('when the device that demanded a queued read-ahead goes away, the chunk is still fetched', async () => {
    const { cache, fetcher, requests, otherRequests } = setUpTwo({ connections: 1 });
    fetcher.miss({ device: 1, chunks: [3] });
    fetcher.miss({ device: 2, chunks: [2] });
    fetcher.removeDevice(2);
    fetcher.miss({ device: 1, chunks: [2] });
    for (let turn = 0; turn < 3; turn++) {
      await settled();
      requests[turn]!.send();
    }
    await settled();
    expect(cache.delivered.toSorted()).toEqual(['1:0', '1:1', '1:2', '1:3']);
    // The other image had asked its own source, as its turn had come there; nobody waits for that answer.
    expect(otherRequests.map(({ aborted }) => aborted)).toEqual([true]);
  });

  it('both fail when no source has it', async () => {
    const { cache, fetcher } = setUpTwo({ ...DEMAND_ONLY, deadline: 100 });
    fetcher.miss({ device: 1, chunks: [3] });
    fetcher.miss({ device: 2, chunks: [3] });
    await expect.poll(() => cache.failed.map(({ device }) => device), { timeout: 5_000 }).toEqual([1, 2]);
  });
});

it('who asks while the very chunk is being delivered is answered, also where nothing can be kept', async () => {
  const { cache, fetcher, requests } = setUp(DEMAND_ONLY);
  const deliver = cache.deliver.bind(cache);
  cache.deliver = async (device, chunk, data) => {
    // On a full disk the readers that wait are answered from memory; this one comes just behind them.
    if (cache.delivered.length === 0) setTimeout(() => fetcher.miss({ device: 1, chunks: [4] }));
    await deliver(device, chunk, data);
    if (cache.delivered.length === 1) await sleep(20);
  };
  fetcher.miss({ device: 1, chunks: [4] });
  await settled();
  requests[0]!.send();
  await sleep(100);
  expect(cache.delivered).toEqual(['1:4', '1:4']);
  expect(requests.length).toBe(1);
});

describe('what arrives', () => {
  it('is delivered chunk by chunk while the rest is under way', async () => {
    const { cache, fetcher, requests } = setUp(DEMAND_ONLY);
    fetcher.miss({ device: 1, chunks: [0, 1, 2] });
    await settled();
    requests[0]!.send(STORED + 10);
    await settled();
    expect(cache.delivered).toEqual(['1:0']);
    requests[0]!.send(STORED);
    await settled();
    expect(cache.delivered).toEqual(['1:0', '1:1']);
    requests[0]!.send();
    await settled();
    expect(cache.delivered).toEqual(['1:0', '1:1', '1:2']);
    expect(fetcher.counters()).toMatchObject({ requests: 1, fetchedBytes: 3 * STORED });
  });

  it('after a cut only the rest is asked for again, from the next source', async () => {
    const { cache, fetcher } = setUp(DEMAND_ONLY);
    const [first, mirror] = [fakeSource('first'), fakeSource('mirror', true)];
    fetcher.addDevice(1, {
      image: 'x',
      blob: 'b',
      table: tableOf(),
      units: null,
      sources: [first.source, mirror.source],
    });
    fetcher.miss({ device: 1, chunks: [0, 1, 2] });
    await settled();
    first.requests[0]!.send(STORED + 1);
    first.requests[0]!.fail();
    await sleep(250);
    expect(ranges(mirror.requests)).toEqual(['1+2']);
    expect(cache.delivered).toEqual(['1:0', '1:1', '1:2']);
    expect(fetcher.counters()).toMatchObject({ requests: 2, retries: 2, failures: 0 });
  });

  it('a source that ends too early counts as a cut', async () => {
    const { cache, fetcher } = setUp(DEMAND_ONLY);
    let calls = 0;
    const short: FetchSource = {
      subject: 'short',
      origin: 'short',
      place: 'short',
      async *read(offset, length) {
        calls++;
        yield blobBytes.subarray(offset, offset + (calls === 1 ? STORED + 5 : length));
      },
    };
    fetcher.addDevice(1, { image: 'x', blob: 'b', table: tableOf(), units: null, sources: [short] });
    fetcher.miss({ device: 1, chunks: [7, 8] });
    await sleep(250);
    expect(cache.delivered).toEqual(['1:7', '1:8']);
    expect(calls).toBe(2);
  });

  it('wrong bytes are refused by the cache and asked for again, elsewhere', async () => {
    const { cache, fetcher } = setUp(DEMAND_ONLY);
    const [first, mirror] = [fakeSource('first'), fakeSource('mirror', true)];
    fetcher.addDevice(1, {
      image: 'x',
      blob: 'b',
      table: tableOf(),
      units: null,
      sources: [first.source, mirror.source],
    });
    fetcher.miss({ device: 1, chunks: [0, 1, 2] });
    await settled();
    first.requests[0]!.sendWrong(STORED + 3);
    await sleep(250);
    expect(cache.rejected).toEqual(['1:1']);
    expect(ranges(mirror.requests)).toEqual(['1+1']);
    expect(cache.delivered.toSorted()).toEqual(['1:0', '1:1', '1:2']);
    expect(cache.failed).toEqual([]);
  });
});

describe('patience', () => {
  it('a read fails when its time is over, and the next one finds the source again', { timeout: 15_000 }, async () => {
    const { cache, fetcher, requests } = setUp({ ...DEMAND_ONLY, deadline: 500 });
    fetcher.miss({ device: 1, chunks: [9] });
    const started = Date.now();
    while (cache.failed.length === 0) {
      for (const request of requests.splice(0)) request.fail();
      await sleep(5);
    }
    expect(cache.failed).toEqual([{ device: 1, chunks: [9], errno: 5 }]);
    const waited = Date.now() - started;
    expect(waited).toBeGreaterThanOrEqual(450);
    expect(waited).toBeLessThan(1_500);
    expect(fetcher.counters().retries).toBeGreaterThanOrEqual(2);
    expect(fetcher.counters().failures).toBe(1);

    fetcher.miss({ device: 1, chunks: [9] });
    await settled();
    requests.at(-1)!.send();
    await settled();
    expect(cache.delivered).toEqual(['1:9']);
  });

  it('a source that falls silent does not hold a reader beyond its time', { timeout: 15_000 }, async () => {
    const { cache, fetcher, requests } = setUp({ ...DEMAND_ONLY, deadline: 500 });
    fetcher.miss({ device: 1, chunks: [9, 10] });
    await settled();
    requests[0]!.send(STORED + 1);
    await expect.poll(() => cache.failed, { timeout: 5_000 }).toEqual([{ device: 1, chunks: [10], errno: 5 }]);
    expect(requests[0]!.aborted).toBe(true);
    expect(cache.delivered).toEqual(['1:9']);
  });

  it('what waits for a connection behind silent ones fails in time, too', { timeout: 15_000 }, async () => {
    const { cache, fetcher, requests } = setUp({ ...DEMAND_ONLY, deadline: 300, connections: 1 });
    const started = Date.now();
    for (const chunk of [0, 20, 40, 60]) fetcher.miss({ device: 1, chunks: [chunk] });
    await expect.poll(() => cache.failed.length, { timeout: 10_000 }).toBe(4);
    expect(Date.now() - started).toBeLessThan(2_500);
    expect(requests.length).toBe(1);
  });

  it('the pause that the only source asks for is kept; another one is asked at once', async () => {
    const { fetcher } = setUp();
    const limited: number[] = [];
    const source = (device: number): FetchSource => ({
      subject: 'limited',
      origin: `limited-${device}`,
      place: `limited-${device}`,
      // biome-ignore lint/correctness/useYield: it never gets so far
      async *read() {
        limited.push(device);
        throw new ResponseError('RATE_LIMITED', 'not now', { status: 429, retryAfter: 700 });
      },
    });
    const other = fakeSource('other', true);
    fetcher.addDevice(2, { image: 'x', blob: 'c', table: tableOf(), units: null, sources: [source(2)] });
    fetcher.addDevice(3, { image: 'x', blob: 'd', table: tableOf(), units: null, sources: [source(3), other.source] });
    for (const device of [2, 3]) fetcher.miss({ device, chunks: [63] });
    await sleep(400);
    expect(limited.filter((device) => device === 2).length).toBe(2); // the chunk and its read-ahead
    expect(ranges(other.requests)).toEqual(['63+1']);
    await sleep(500);
    expect(limited.filter((device) => device === 2).length).toBe(3);
  });

  it('read-ahead that fails is dropped, and fetched when it is demanded', async () => {
    const { cache, fetcher, requests } = setUp();
    fetcher.miss({ device: 1, chunks: [3] });
    await settled();
    requests[1]!.fail();
    await sleep(250);
    expect(requests.length).toBe(2);
    fetcher.miss({ device: 1, chunks: [2] });
    await settled();
    expect(ranges(requests)[2]).toBe('2+1');
    expect(cache.failed).toEqual([]);
  });
});

describe('the end', () => {
  it('a device that is removed ends its requests and gets nothing any more', async () => {
    const { cache, fetcher, requests } = setUp();
    fetcher.miss({ device: 1, chunks: [3] });
    await settled();
    fetcher.removeDevice(1);
    expect(requests.map(({ aborted }) => aborted)).toEqual([true, true]);
    await sleep(250);
    fetcher.miss({ device: 1, chunks: [3] });
    await settled();
    expect(requests.length).toBe(2);
    expect(cache).toMatchObject({ delivered: [], failed: [] });
  });

  it('what readers wait for at the end stays unanswered: the next process will answer', async () => {
    const { cache, fetcher, requests } = setUp();
    fetcher.miss({ device: 1, chunks: [3] });
    await settled();
    fetcher.close();
    await sleep(250);
    expect(requests.every(({ aborted }) => aborted)).toBe(true);
    expect(requests.length).toBe(2);
    expect(cache).toMatchObject({ delivered: [], failed: [] });
  });
});
