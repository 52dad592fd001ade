/** Units: their bytes, and how the fetcher asks for chunks that lie within them. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { type Chunk, ChunkTable, type Decoder, encodeTable, type Unit } from '../../../src/blob/table.ts';
import { encodeUnits, UnitTable } from '../../../src/blob/units.ts';
import { Fetcher } from '../../../src/fetch/fetcher.ts';
import type { FetchSource } from '../../../src/fetch/standing.ts';

const STORED = 1000;
const FORMAT = expect.objectContaining({ code: 'FORMAT' });

const unit = (index: number, decoder: Decoder = { kind: 'batch', compressor: 3 }): Unit => ({
  compressedOffset: index * STORED,
  compressedSize: STORED,
  size: 8192,
  decoder,
});

/** Chunks of 4096 bytes; each is within the unit of its place in `units`, or alone. */
function chunksOf(units: readonly (Unit | null)[], digest = 1): Chunk[] {
  return units.map((own, index) => ({
    uncompressedOffset: index * 4096,
    uncompressedSize: 4096,
    compressedOffset: own?.compressedOffset ?? 100_000 + index * STORED,
    compressedSize: STORED,
    compressor: 3,
    digester: 0,
    digest: Buffer.alloc(32, digest),
    within: own === null ? null : { unit: own, offset: units.indexOf(own) === index ? 0 : 4096 },
  }));
}

const tableOf = (chunks: readonly Chunk[]) => ({
  table: new ChunkTable(encodeTable(chunks), 'test'),
  units: new UnitTable(encodeUnits(chunks)!, chunks.length, 'test'),
});

describe('the bytes of units', () => {
  it('are none where every chunk is stored alone', () => {
    expect(encodeUnits(chunksOf([null, null]))).toBeNull();
    expect(encodeUnits([])).toBeNull();
  });

  it('tell which chunks share one, by all that it is', () => {
    const [one, other] = [unit(0), unit(1)];
    const { units } = tableOf(chunksOf([one, other, null, one, other]));
    const identities = [0, 1, 2, 3, 4, 5].map((chunk) => units.identityOf(chunk));
    expect(identities[0]).toBe(identities[3]);
    expect(identities[1]).toBe(identities[4]);
    expect(new Set(identities).size).toBe(3);
    expect([identities[2], identities[5]]).toEqual([null, null]);
  });

  it('differ in identity by any part of the decoder, and hold a key once', () => {
    const key = Buffer.alloc(32, 1);
    const iv = Buffer.alloc(16, 2);
    const decoders: Decoder[] = [
      { kind: 'batch', compressor: 3 },
      { kind: 'batch', compressor: 0 },
      { kind: 'zran', window: Buffer.alloc(9, 1), bits: 0, byte: 0 },
      { kind: 'zran', window: Buffer.alloc(9, 2), bits: 0, byte: 0 },
      { kind: 'zran', window: Buffer.alloc(9, 1), bits: 3, byte: 0 },
      { kind: 'zran', window: Buffer.alloc(9, 1), bits: 3, byte: 5 },
      { kind: 'encrypted', key, iv, compressor: 3 },
      { kind: 'encrypted', key, iv: Buffer.alloc(16), compressor: 3 },
    ];
    const { units } = tableOf(chunksOf(decoders.map((decoder) => unit(0, decoder))));
    expect(new Set(decoders.map((_, chunk) => units.identityOf(chunk))).size).toBe(decoders.length);
    const encrypted: Decoder = { kind: 'encrypted', key, iv, compressor: 3 };
    const bytes = encodeUnits(chunksOf([0, 1, 2].map((index) => unit(index, encrypted))))!;
    expect(bytes.length).toBe(16 + 3 * 32 + 3 * 8 + 48);
  });

  it('are refused when the parts do not fit together', () => {
    const good = encodeUnits(chunksOf([unit(0), unit(1)]))!;
    const patched = (at: number, value: number): Buffer => {
      const bytes = Buffer.from(good);
      bytes.writeUInt32LE(value, at);
      return bytes;
    };
    const bad = [Buffer.alloc(0), good.subarray(1), Buffer.concat([good, Buffer.alloc(1)]), patched(0, 0xffffffff)];
    bad.push(patched(4, 0xffffffff), patched(8, 1), patched(16 + 28, 9), patched(16 + 64, 2));
    for (const bytes of bad) expect(() => new UnitTable(bytes, 2, 'test')).toThrow(FORMAT);
  });
});

describe('fetching units', () => {
  let fetcher: Fetcher | null = null;
  afterEach(() => fetcher?.close());

  /** Devices of one blob by number; a delivery brings all chunks of the unit in the device. */
  function setUp(devices: Record<number, Chunk[]>, window = 0) {
    const present = new Set<string>();
    const delivered: string[] = [];
    const failed: [number, number[]][] = [];
    const requests: string[] = [];
    const liars = new Set<number>();
    let wrong = 0;
    const cache = {
      missing: (device: number, first: number, count: number) =>
        Uint32Array.from(
          Array.from({ length: count }, (_, index) => first + index).filter((at) => !present.has(`${device}:${at}`)),
        ),
      async deliver(device: number, chunk: number, data: Buffer) {
        expect(data.length).toBe(STORED);
        if (wrong-- > 0 || liars.has(device)) throw new Error('wrong');
        const chunks = devices[device]!;
        const own = chunks[chunk]!.within?.unit;
        const all = chunks.flatMap(({ within }, at) => (at === chunk || (own && within?.unit === own) ? [at] : []));
        for (const at of all) present.add(`${device}:${at}`);
        delivered.push(`${device}:${chunk}`);
      },
      fail: (device: number, chunks: number[]) => void failed.push([device, chunks]),
    };
    const source: FetchSource = {
      subject: 'a',
      origin: 'a',
      place: 'a',
      async *read(offset, length) {
        requests.push(`${offset / STORED}+${length / STORED}`);
        await sleep(20);
        yield Buffer.alloc(length);
      },
    };
    const made = new Fetcher(cache, {
      ...{ window, inFlight: 100_000, connections: 4, originConnections: 8, totalConnections: 8 },
      ...{ memory: 1 << 20, silence: 10_000, deadline: 300 },
    });
    fetcher = made;
    for (const [device, chunks] of Object.entries(devices)) {
      made.addDevice(Number(device), { image: device, blob: 'b', ...tableOf(chunks), sources: [source] });
    }
    return { fetcher: made, present, delivered, failed, requests, liars, failNext: (times: number) => (wrong = times) };
  }

  const [first, second] = [unit(0), unit(1)];

  it('takes one request and one delivery, whichever and however many of its chunks are wanted', async () => {
    const { fetcher, delivered, requests, present } = setUp({ 1: chunksOf([first, second, first, second]) });
    fetcher.miss({ device: 1, chunks: [0, 2] });
    fetcher.miss({ device: 1, chunks: [2] });
    await sleep(60);
    expect([requests, delivered]).toEqual([['0+1'], ['1:0']]);
    expect([...present]).toEqual(['1:0', '1:2']);
    fetcher.miss({ device: 1, chunks: [3] });
    await sleep(60);
    expect(requests).toEqual(['0+1', '1+1']);
  });

  it('fetches the read-ahead of a window, each unit once, in one request', async () => {
    const { fetcher, requests, present } = setUp({ 1: chunksOf([first, first, second, second]) }, 4 * 4096);
    fetcher.miss({ device: 1, chunks: [0] });
    await sleep(100);
    expect(requests).toEqual(['0+2']);
    expect(present.size).toBe(4);
  });

  it('gives each device that waits its own chunks of it', async () => {
    const { fetcher, requests, delivered } = setUp({ 1: chunksOf([first, null]), 2: chunksOf([null, first], 2) });
    fetcher.miss({ device: 1, chunks: [0] });
    fetcher.miss({ device: 2, chunks: [1] });
    await sleep(60);
    expect([requests, delivered]).toEqual([['0+1'], ['1:0', '2:1']]);
    expect(fetcher.counters().coalesced).toBe(1);
  });

  it('is wrong only for the device whose digests say so, whichever asked first', async () => {
    const { fetcher, delivered, failed, liars } = setUp({ 1: chunksOf([first, null]), 2: chunksOf([null, first], 2) });
    liars.add(1);
    fetcher.miss({ device: 1, chunks: [0] });
    fetcher.miss({ device: 2, chunks: [1] });
    await expect.poll(() => failed, { timeout: 5_000 }).toEqual([[1, [0]]]);
    expect(delivered).toEqual(['2:1']);
  });

  it('goes on for another device when the first one goes away', async () => {
    const { fetcher, delivered } = setUp({ 1: chunksOf([first, null]), 2: chunksOf([null, first], 2) });
    fetcher.miss({ device: 1, chunks: [0] });
    fetcher.miss({ device: 2, chunks: [1] });
    fetcher.removeDevice(1);
    await sleep(80);
    expect(delivered).toEqual(['2:1']);
  });

  it('is tried again when it arrives wrong, and given up for all that is wanted of it', async () => {
    const { fetcher, requests, failed, failNext } = setUp({ 1: chunksOf([first, first]) });
    failNext(100);
    fetcher.miss({ device: 1, chunks: [0, 1] });
    await sleep(600);
    expect(requests.length).toBeGreaterThan(1);
    expect(failed).toEqual([[1, [0, 1]]]);
  });
});
