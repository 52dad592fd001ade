/** A registry that never comes to an end: whoever asks it gets an error in bounded time and memory. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { silentLog } from '../../src/observe/log.ts';
import { DEFAULT_RETRY, ResponseError, Retries } from '../../src/registry/http/retry.ts';
import { DEFAULT_TIMEOUTS } from '../../src/registry/http/transport.ts';
import { openStore } from '../../src/registry/open.ts';
import type { StoreOptions } from '../../src/registry/store.ts';

const HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\n';
/** What is sent at once, and what again and again after it; null: as fast as it is taken. */
const ANSWERS: Readonly<Record<string, readonly [first: string, more: string, every: number | null]>> = {
  'says nothing': ['', '', 20],
  'drips its head': ['HTTP/1.1 200 OK\r\nX-A: ', 'a', 20],
  'has interim answers only': ['', 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n', 20],
  'drips its body': [`${HEAD}Content-Length: 4000000\r\n\r\n{`, ' ', 20],
  'drips a body without an end': [`${HEAD}Transfer-Encoding: chunked\r\n\r\n`, '1\r\n \r\n', 20],
  'has a body without an end': [`${HEAD}Transfer-Encoding: chunked\r\n\r\n`, `10000\r\n${' '.repeat(65536)}\r\n`, null],
  'has headers without an end': ['HTTP/1.1 200 OK\r\n', `X-A: ${'a'.repeat(1000)}\r\n`, null],
  'closes the connection': ['HTTP/1.1 ', '', null],
};

let server: Server | null = null;
afterEach(() => server?.close());

/** Sends `more` until the other side goes. */
function goOn(socket: Socket, more: string, every: number | null): void {
  if (every !== null) {
    const timer = setInterval(() => socket.write(more), every);
    socket.on('close', () => clearInterval(timer));
    return;
  }
  if (more === '') return void socket.destroy();
  const push = (): void => {
    while (!socket.destroyed && socket.write(more));
  };
  socket.on('drain', push);
  push();
}

async function openAt(kind: string, transport: 'undici' | 'node-fetch') {
  const [first, more, every] = ANSWERS[kind]!;
  let requests = 0;
  const listening = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => {
      requests++;
      socket.write(first);
      goOn(socket, more, every);
    });
  });
  server = listening;
  await once(listening.listen(0, '127.0.0.1'), 'listening');
  const host = `127.0.0.1:${(listening.address() as AddressInfo).port}`;
  const options: StoreOptions = {
    transport,
    retry: { attempts: 2, minDelay: 1 },
    timeouts: { connect: 300, headers: 500, body: 400 },
  };
  const reference = { transport: 'docker', host, repository: 'some/image', tag: 'v', digest: null } as const;
  return { store: await openStore(reference, options), requests: () => requests };
}

describe.each(['undici', 'node-fetch'] as const)('over %s, a registry that', (transport) => {
  it.each(Object.keys(ANSWERS))('%s', { timeout: 30_000 }, async (kind) => {
    const { store, requests } = await openAt(kind, transport);
    await using _store = store;
    const before = process.memoryUsage.rss();
    const error = await store.resolve(null).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: expect.stringMatching(/^(TIMEOUT|PROTOCOL|UNAVAILABLE)$/) });
    expect(requests()).toBeLessThanOrEqual(2);
    expect(process.memoryUsage.rss() - before).toBeLessThan(200 << 20);
  });
});

describe('tries', () => {
  const slow = new ResponseError('UNAVAILABLE', 'come back later', { status: 503, retryAfter: 59_000 });

  it('end in time, however politely a registry asks to wait', () => {
    const retries = new Retries(DEFAULT_RETRY, silentLog);
    // It would be waited for from the first failure on.
    const waits = [retries.next(slow)];
    expect(waits[0]).toBeLessThan(DEFAULT_RETRY.total);
    const impatient = new Retries({ ...DEFAULT_RETRY, total: 50_000 }, silentLog);
    expect(() => impatient.next(slow)).toThrow(slow);
  });

  it('that wait for silence are few', () => {
    // One request that waits for its connection, its head and nothing more.
    const longest = DEFAULT_TIMEOUTS.connect + DEFAULT_TIMEOUTS.headers;
    expect(Math.ceil(DEFAULT_RETRY.total / longest) + 2).toBeLessThan(DEFAULT_RETRY.attempts);
    expect(DEFAULT_RETRY.total + 2 * longest).toBeLessThan(5 * 60_000);
  });
});
