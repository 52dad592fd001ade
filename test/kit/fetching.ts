/** A fetcher's surroundings as objects: a cache and sources whose answers are under the test's control. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ChunkTable, encodeTable } from '../../src/blob/table.ts';
import { LacunaError } from '../../src/errors.ts';
import type { FetchOptions } from '../../src/fetch/fetcher.ts';
import type { FetchSource } from '../../src/fetch/standing.ts';

const KIB = 1024;
/** Plain and stored sizes of every chunk here: four lie in one window of 16 KiB. */
const PLAIN = 4 * KIB;
export const STORED = 1000;
/** Chunks of the blob. */
const COUNT = 1024;
export const OPTIONS: FetchOptions = {
  ...{ window: 16 * KIB, inFlight: 8000, connections: 16, originConnections: 64, totalConnections: 512 },
  ...{ memory: 1024 * KIB, silence: 5_000, deadline: 20_000 },
};

export const blobBytes = Buffer.from(
  Array.from({ length: COUNT * STORED }, (_, index) => (index * 7 + (index >> 8)) & 0xff),
);
export const stored = (chunk: number): Buffer => blobBytes.subarray(chunk * STORED, (chunk + 1) * STORED);

/** `digest` tells tables apart that describe the same ranges. */
export function tableOf(digest = 1): ChunkTable {
  const chunks = Array.from({ length: COUNT }, (_, index) => ({
    uncompressedOffset: index * PLAIN,
    uncompressedSize: PLAIN,
    compressedOffset: index * STORED,
    compressedSize: STORED,
    compressor: 3 as const,
    digester: 0 as const,
    digest: Buffer.alloc(32, digest),
    within: null,
  }));
  return new ChunkTable(encodeTable(chunks), 'test');
}

/** Believes what the true blob says, as digests would make it do. */
export class FakeCache {
  readonly present = new Set<string>();
  readonly delivered: string[] = [];
  readonly rejected: string[] = [];
  readonly failed: { device: number; chunks: number[]; errno: number }[] = [];

  missing(device: number, first: number, count: number): Uint32Array {
    const all = Array.from({ length: count }, (_, index) => first + index);
    return Uint32Array.from(all.filter((chunk) => !this.present.has(`${device}:${chunk}`)));
  }
  async deliver(device: number, chunk: number, data: Buffer): Promise<void> {
    await sleep(0);
    if (!data.equals(stored(chunk))) {
      this.rejected.push(`${device}:${chunk}`);
      throw new LacunaError('DIGEST_MISMATCH', 'not these bytes');
    }
    this.present.add(`${device}:${chunk}`);
    this.delivered.push(`${device}:${chunk}`);
  }
  fail(device: number, chunks: number[], errno: number): void {
    this.failed.push({ device, chunks, errno });
  }
}

export interface Request {
  readonly first: number;
  readonly count: number;
  aborted: boolean;
  /** Sends the next `bytes` of the answer; all that is left by default. */
  send(bytes?: number): void;
  /** Sends the whole answer with its byte at `at` changed. */
  sendWrong(at: number): void;
  fail(): void;
}

/** A source whose requests wait for the test, unless `auto`. */
export function fakeSource(origin = 'a', auto = false, place = origin) {
  const requests: Request[] = [];
  const source: FetchSource = {
    subject: origin,
    origin,
    place,
    async *read(offset, length, signal) {
      const answer = Buffer.from(blobBytes.subarray(offset, offset + length));
      const queue: (Buffer | Error)[] = [];
      let wake = (): void => {};
      let sent = 0;
      const put = (item: Buffer | Error): void => {
        queue.push(item);
        wake();
      };
      const request: Request = {
        first: offset / STORED,
        count: length / STORED,
        aborted: false,
        send(bytes = length - sent) {
          put(answer.subarray(sent, sent + bytes));
          sent += bytes;
        },
        sendWrong(at) {
          answer[at]! ^= 1;
          request.send();
        },
        fail: () => put(new LacunaError('UNAVAILABLE', 'gone')),
      };
      requests.push(request);
      signal.addEventListener('abort', () => {
        request.aborted = true;
        put(new LacunaError('ABORTED', 'aborted'));
      });
      if (auto) request.send();
      for (let done = 0; done < length; ) {
        if (queue.length === 0) await new Promise<void>((resolve) => (wake = resolve));
        const item = queue.shift()!;
        if (item instanceof Error) throw item;
        done += item.length;
        yield item;
      }
    },
  };
  return { source, requests };
}

/** First chunks and counts of requests. */
export const ranges = (requests: readonly Request[]): string[] =>
  requests.map(({ first, count }) => `${first}+${count}`);

/** Everything that can happen without another answer has happened. */
export const settled = (): Promise<unknown> => sleep(20);
