/** The default transport: undici's Agent, a pool of kept connections for each host, no pipelining. */
import { Readable } from 'node:stream';
import { rootCertificates } from 'node:tls';
import { Agent } from 'undici';
import {
  CONNECTIONS_PER_HOST,
  headersTimeoutOf,
  KEEP_ALIVE,
  type Transport,
  type TransportOptions,
  type TransportRequest,
  type TransportResponse,
} from './transport.ts';
import { sendStreamed } from './transport-body.ts';
import { guardUndici } from './undici-guard.ts';

export function undiciTransport(options: TransportOptions): Transport {
  guardUndici();
  const agent = new Agent({
    connections: CONNECTIONS_PER_HOST,
    pipelining: 1,
    keepAliveTimeout: KEEP_ALIVE,
    bodyTimeout: options.timeouts.body,
    connect: {
      timeout: options.timeouts.connect,
      ...(options.ca === null ? {} : { ca: [...rootCertificates, options.ca] }),
    },
  });
  type Body = Buffer | Readable | null;
  const send = async (
    { url, method }: TransportRequest,
    headers: Readonly<Record<string, string>>,
    body: Body,
    signal: AbortSignal | null,
    headersTimeout: number,
  ): Promise<TransportResponse> => {
    const answer = await agent.request({
      origin: url.origin,
      path: url.pathname + url.search,
      method,
      headers,
      body,
      signal,
      headersTimeout,
    });
    return {
      status: answer.statusCode,
      header(name) {
        const value = answer.headers[name];
        return (Array.isArray(value) ? value.join(', ') : value) ?? null;
      },
      body: answer.body,
    };
  };
  return {
    async request(request: TransportRequest): Promise<TransportResponse> {
      const { body, headers, signal } = request;
      if (body === null || Buffer.isBuffer(body)) {
        return await send(request, headers, body, signal, headersTimeoutOf(body, options.timeouts));
      }
      // undici's own clock would run while the body is still being made.
      return await sendStreamed(body, request, options.timeouts, (stream, all, either) =>
        send(request, all, Readable.from(stream, { objectMode: false }), either, 0),
      );
    },
    close: () => agent.destroy(),
  };
}
