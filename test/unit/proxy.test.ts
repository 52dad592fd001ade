import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RequestCounter } from '../kit/request-counter.ts';
import { ShapedLink } from '../kit/shaped-link.ts';

describe('RequestCounter', () => {
  const bytes = Buffer.from(
    'GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n' +
      'PUT /x HTTP/1.1\r\nContent-Length: 20\r\n\r\n0123\r\n\r\n0123\r\n\r\n0123' +
      'HEAD /y HTTP/1.1\r\n\r\n',
  );

  it('counts heads and skips bodies', () => {
    expect(new RequestCounter().push(bytes)).toBe(3);
  });

  it('counts the same however the bytes are cut', () => {
    for (let size = 1; size < 12; size += 1) {
      const counter = new RequestCounter();
      let found = 0;
      for (let at = 0; at < bytes.length; at += size) found += counter.push(bytes.subarray(at, at + size));
      expect(found).toBe(3);
    }
  });

  it('skips a chunked body', () => {
    const counter = new RequestCounter();
    expect(counter.push(Buffer.from('PATCH /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n'))).toBe(1);
    expect(counter.push(Buffer.from('0\r\n\r\n'))).toBe(0);
    expect(counter.push(Buffer.from('GET / HTTP/1.1\r\n\r\n'))).toBe(1);
  });

  it('stops at what is not HTTP', () => {
    const counter = new RequestCounter();
    expect(counter.push(randomBytes(100_000))).toBe(0);
    expect(counter.push(Buffer.from('GET / HTTP/1.1\r\n\r\n'))).toBe(0);
  });
});

describe('ShapedLink', () => {
  const body = randomBytes(1_000_000);
  let server: Server;
  let port: number;
  beforeAll(async () => {
    server = createServer((request, response) => {
      if (request.url === '/cut') {
        response.writeHead(200, { 'content-length': body.length });
        response.write(body.subarray(0, 1000), () => response.destroy());
      } else response.end(request.url === '/big' ? body : 'small');
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    port = (server.address() as AddressInfo).port;
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });

  it('delivers every byte, counts bytes and requests, and takes the time its shape says', async () => {
    await using link = await ShapedLink.open({ host: '127.0.0.1', port }, { rtt: 20, bandwidth: 40e6 });
    const began = performance.now();
    const answers = await Promise.all(
      ['/big', '/big', '/small'].map(
        async (path) => await (await fetch(`http://${link.address}${path}`)).arrayBuffer(),
      ),
    );
    const took = performance.now() - began;
    const sha256 = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');
    expect(answers.slice(0, 2).map((answer) => sha256(new Uint8Array(answer)))).toEqual([sha256(body), sha256(body)]);
    expect(link.counters.requests).toBe(3);
    expect(link.counters.bytes).toBeGreaterThan(2_000_005);
    expect(link.counters.bytes).toBeLessThan(2_002_000);
    // One round trip for the handshake, one for the request, 2 MB at 40 Mbit/s: never sooner.
    expect(took).toBeGreaterThan(20 + 20 + 400);
  });

  it('passes the end of a cut answer on', async () => {
    await using link = await ShapedLink.open({ host: '127.0.0.1', port }, { rtt: 2, bandwidth: 1e9 });
    await expect(fetch(`http://${link.address}/cut`).then((answer) => answer.arrayBuffer())).rejects.toThrow();
  });

  it('ends a client whose server is not there', async () => {
    await using link = await ShapedLink.open({ host: '127.0.0.1', port: 1 }, { rtt: 2, bandwidth: 1e9 });
    await expect(fetch(`http://${link.address}/`)).rejects.toThrow();
  });
});
