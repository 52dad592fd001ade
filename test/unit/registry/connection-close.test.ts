/**
 * Servers that close the connection behind a body while its reader is slower than the network: an ordinary end of a
 * response (RFC 9112 6.3, 9.6), at which undici 7 throws where nobody can catch it (nodejs/undici#5360).
 */
import { randomBytes } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { guardParserOf } from '../../../src/registry/http/undici-guard.ts';
import { openStore } from '../../../src/registry/open.ts';
import { describeBytes, failure } from './contract.ts';
import { QUICK, referenceTo, TRANSPORTS } from './kit.ts';

/** What is left of a body when the connection ends depends on its length, and on how slow the reader is. */
const BLOBS = Array.from({ length: 24 }, (_, i) => randomBytes(60_000 + i * 20_011));

const chunked = (data: Buffer): Buffer => {
  const pieces: Buffer[] = [];
  for (let at = 0; at < data.length; at += 16_384) {
    const piece = data.subarray(at, at + 16_384);
    pieces.push(Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n'));
  }
  return Buffer.concat([...pieces, Buffer.from('0\r\n\r\n')]);
};

/** A form's head for a body of this length, and the body as it is sent. */
type Form = readonly [name: string, head: (length: number) => string, encode: (data: Buffer) => Buffer];
const plain = (data: Buffer): Buffer => data;

const FORMS: readonly Form[] = [
  ['a length', (length) => `HTTP/1.1 200 OK\r\nContent-Length: ${length}\r\nConnection: close\r\n\r\n`, plain],
  ['no length', () => 'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n', plain],
  ['neither a length nor a word of closing', () => 'HTTP/1.1 200 OK\r\n\r\n', plain],
  ['HTTP/1.0', (length) => `HTTP/1.0 200 OK\r\nContent-Length: ${length}\r\n\r\n`, plain],
  ['HTTP/1.0 without a length', () => 'HTTP/1.0 200 OK\r\n\r\n', plain],
  ['chunks', () => 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n', chunked],
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
  /** Takes each piece only after the network has done all that it can. */
  const readSlowly = async (store: Awaited<ReturnType<typeof open>>, blob: Buffer): Promise<Buffer> => {
    const pieces: Buffer[] = [];
    for await (const piece of store.open(describeBytes(blob))) {
      pieces.push(Buffer.from(piece));
      await sleep(3);
    }
    return Buffer.concat(pieces);
  };

  test.each(FORMS)('%s: every byte, every time', async (_name, head, encode) => {
    await using store = await open();
    for (const blob of BLOBS) {
      answer = Buffer.concat([Buffer.from(head(blob.length)), encode(blob)]);
      expect((await readSlowly(store, blob)).equals(blob)).toBe(true);
    }
  });

  test.each(FORMS)('%s, cut: an error, never a shorter blob', async (_name, head, encode) => {
    await using store = await open();
    for (const blob of BLOBS.slice(0, 12)) {
      const part = encode(blob).subarray(0, Math.floor(blob.length * 0.9));
      answer = Buffer.concat([Buffer.from(head(blob.length)), part]);
      await failure('UNAVAILABLE', readSlowly(store, blob));
    }
  });
});

test('what is not a socket of undici is left alone', () => {
  expect(guardParserOf({})).toBe(false);
  expect(guardParserOf({ [Symbol('parser')]: { finish: () => null } })).toBe(false);
});
