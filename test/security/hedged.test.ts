/** A range from several sources, of which some are silent, fail, or send what is wrong. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { readMetas } from '../../src/cache/blob-metas.ts';
import { defaultConfig } from '../../src/config/load.ts';
import { metaFetcher } from '../../src/daemon/meta-fetcher.ts';
import { recordOf } from '../../src/daemon/record.ts';
import { Sources } from '../../src/daemon/sources.ts';
import { HedgedRead } from '../../src/fetch/hedged.ts';
import { type FetchSource, Standing } from '../../src/fetch/standing.ts';
import { openBootstrap } from '../../src/formats/rafs/open.ts';
import { codec } from '../../src/native/codec.ts';
import { silentLog } from '../../src/observe/log.ts';
import { fakeSource, ranges, STORED, stored } from '../kit/fetching.ts';
import { fixture } from '../kit/layers.ts';
import { startRegistry } from '../kit/registry.ts';
import { needs } from '../kit/skip.ts';

const SPAN = { offset: 3 * STORED, size: STORED };

function setUp(sources: readonly FetchSource[], options = { silence: 300, stall: 20_000 }) {
  const [standing, abort] = [new Standing(), new AbortController()];
  const read = () => new HedgedRead(SPAN, sources, { ...options, standing, signal: abort.signal });
  return { read, abort, standing };
}

it('the next source is asked when one is silent, and first from then on', async () => {
  const [silent, mirror] = [fakeSource('silent'), fakeSource('mirror', true)];
  const { read, abort } = setUp([silent.source, mirror.source]);
  expect((await read().next())?.bytes).toEqual(stored(3));
  expect((await read().next())?.source).toBe(mirror.source);
  expect([ranges(silent.requests), ranges(mirror.requests)]).toEqual([['3+1'], ['3+1', '3+1']]);
  abort.abort();
  await expect.poll(() => silent.requests[0]!.aborted).toBe(true);
});

it('the next source is asked when one failed while the process was blocked', async () => {
  const [failing, mirror] = [fakeSource('failing'), fakeSource('mirror', true)];
  const reading = setUp([failing.source, mirror.source]).read().next();
  await expect.poll(() => failing.requests.length).toBe(1);
  failing.requests[0]!.fail();
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
  expect((await reading)?.source).toBe(mirror.source);
});

it('a source that only drips is not waited for alone', async () => {
  const mirror = fakeSource('mirror', true);
  const dripping: FetchSource = {
    ...mirror.source,
    subject: 'dripping',
    origin: 'dripping',
    place: 'dripping',
    async *read(_offset, _length, signal) {
      for (; !signal.aborted; await sleep(20)) yield Buffer.alloc(1);
    },
  };
  const { read, abort } = setUp([dripping, mirror.source], { silence: 5_000, stall: 300 });
  expect((await read().next())?.source).toBe(mirror.source);
  abort.abort();
});

it('a source that gets on is the only one that is asked', async () => {
  const [first, mirror] = [fakeSource('first'), fakeSource('mirror', true)];
  const reading = setUp([first.source, mirror.source]).read().next();
  await expect.poll(() => first.requests.length).toBe(1);
  first.requests[0]!.send();
  expect((await reading)?.source).toBe(first.source);
  expect(mirror.requests).toEqual([]);
});

it('one after another is taken where what came is wrong, the silent one too when it speaks, until none is left', async () => {
  const [slow, failing, mirror] = [fakeSource('slow'), fakeSource('failing'), fakeSource('mirror', true)];
  const read = setUp([slow.source, failing.source, mirror.source]).read();
  const first = read.next();
  await expect.poll(() => failing.requests.length, { timeout: 5_000 }).toBe(1);
  failing.requests[0]!.fail();
  expect((await first)?.source).toBe(mirror.source);
  const second = read.next();
  slow.requests[0]!.send();
  expect((await second)?.source).toBe(slow.source);
  expect(await read.next()).toBeNull();
});

it('what all are silent about ends in time, and what nobody wants any more at once', async () => {
  const silent = fakeSource('silent');
  const late = setUp([silent.source], { silence: 100, stall: 400 }).read();
  await expect(late.next()).rejects.toMatchObject({ code: 'TIMEOUT', subject: 'silent' });
  const { read, abort } = setUp([silent.source]);
  const reading = read().next();
  abort.abort(new Error('nobody waits'));
  await expect(reading).rejects.toThrow('nobody waits');
});

it.skipIf(needs('zstd-napi').reason !== null)(
  'a silent mirror delays the chunk info of one image once, and that of the next one not at all',
  async () => {
    await using silent = await startRegistry();
    silent.fault = () => ({ kind: 'hang' });
    await using sources = new Sources(defaultConfig().registry, silentLog);
    await sources.preload();
    const bootstrap = fixture('rafs/batch/bootstrap');
    const { blobs } = openBootstrap(readFileSync(bootstrap), { subject: 'batch' });
    const metasOf = async (id: string): Promise<number> => {
      const places = [
        { registry: { host: silent.host, repository: 'some/image' } },
        { directory: { path: fixture('rafs/batch') } },
      ];
      const stop = new AbortController();
      const fetch = metaFetcher(recordOf({ id, bootstrap, sources: places }), sources, 300, stop.signal);
      const metas = await readMetas(blobs, { kept: async () => null, fetch, subject: 'batch' }, codec());
      stop.abort();
      return metas.size;
    };
    expect(await metasOf('one')).toBe(1);
    const asked = silent.requests.length;
    expect(asked).toBeGreaterThan(0);
    expect(await metasOf('other')).toBe(1);
    expect(silent.requests.length).toBe(asked);
  },
);
