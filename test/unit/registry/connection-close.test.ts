/**
 * Servers that close the connection behind a body while its reader is slower than the network: an ordinary end of a
 * response (RFC 9112 6.3, 9.6), at which undici 7 throws where nobody can catch it (nodejs/undici#5360).
 */
import { randomBytes } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openStore } from '../../../src/registry/open.ts';
import { guardParserOf } from '../../../src/registry/undici-guard.ts';
import { describeBytes, failure } from './contract.ts';
import { QUICK, referenceTo, TRANSPORTS } from './kit.ts';

const bytes = randomBytes(700_000);
const blob = describeBytes(bytes);
const ROUNDS = 40;

const chunked = (data: Buffer): Buffer => {
  const pieces: Buffer[] = [];
  for (let at = 0; at < data.length; at += 16_384) {
    const piece = data.subarray(at, at + 16_384);
    pieces.push(Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n'));
  }
  return Buffer.concat([...pieces, Buffer.from('0\r\n\r\n')]);
};

const FORMS: readonly (readonly [name: string, head: string, body: Buffer])[] = [
  ['a length', `HTTP/1.1 200 OK\r\nContent-Length: ${bytes.length}\r\nConnection: close\r\n\r\n`, bytes],
  ['no length', 'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n', bytes],
  ['neither a length nor a word of closing', 'HTTP/1.1 200 OK\r\n\r\n', bytes],
  ['HTTP/1.0', `HTTP/1.0 200 OK\r\nContent-Length: ${bytes.length}\r\n\r\n`, bytes],
  ['HTTP/1.0 without a length', 'HTTP/1.0 200 OK\r\n\r\n', bytes],
  ['chunks', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n', chunked(bytes)],
];

describe.each(TRANSPORTS)('over %s', (transport) => {
  let server: Server;
  let answer: Buffer = Buffer.alloc(0);
  let host = '';
  const sockets = new Set<Socket>();

  beforeAll(async () => {
    server = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.once('data', () => socket.end(answer));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()));
    const address = server.address();
    if (typeof address === 'object' && address !== null) host = `127.0.0.1:${address.port}`;
  });
  afterAll(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });

  const open = () => openStore(referenceTo(host), { transport, retry: { ...QUICK, attempts: 1 } });
  /** Takes each piece only after the network had its turns. */
  const readSlowly = async (store: Awaited<ReturnType<typeof open>>, turns: number): Promise<Buffer> => {
    const pieces: Buffer[] = [];
    for await (const piece of store.open(blob)) {
      pieces.push(Buffer.from(piece));
      for (let i = 0; i < turns; i++) await turn();
    }
    return Buffer.concat(pieces);
  };

  test.each(FORMS)('%s: every byte, every time', async (_name, head, body) => {
    answer = Buffer.concat([Buffer.from(head), body]);
    await using store = await open();
    for (let round = 0; round < ROUNDS; round++) {
      expect((await readSlowly(store, round % 8)).equals(bytes)).toBe(true);
    }
  });

  test.each(FORMS)('%s, cut: an error, never a shorter blob', async (_name, head, body) => {
    answer = Buffer.concat([Buffer.from(head), body.subarray(0, 500_000)]);
    await using store = await open();
    for (let round = 0; round < 8; round++) await failure('UNAVAILABLE', readSlowly(store, round));
  });
});

test('what is not a socket of undici is left alone', () => {
  expect(guardParserOf({})).toBe(false);
  expect(guardParserOf({ [Symbol('parser')]: { finish: () => null } })).toBe(false);
});
