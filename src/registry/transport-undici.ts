/** The default transport: undici's Agent, a pool of kept connections for each host, no pipelining. */
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

export function undiciTransport(options: TransportOptions): Transport {
  const agent = new Agent({
    connections: CONNECTIONS_PER_HOST,
    pipelining: 1,
    keepAliveTimeout: KEEP_ALIVE,
    bodyTimeout: options.timeouts.body,
    connect: {
      timeout: options.timeouts.connect,
      ...(options.lookup == null ? {} : { lookup: options.lookup }),
      ...(options.ca === null ? {} : { ca: [...rootCertificates, options.ca] }),
    },
  });
  return {
    async request(request: TransportRequest): Promise<TransportResponse> {
      const { statusCode, headers, body } = await agent.request({
        origin: request.url.origin,
        path: request.url.pathname + request.url.search,
        method: request.method,
        headers: request.headers,
        body: request.body,
        signal: request.signal,
        headersTimeout: headersTimeoutOf(request, options.timeouts),
      });
      return {
        status: statusCode,
        header(name) {
          const value = headers[name];
          return (Array.isArray(value) ? value.join(', ') : value) ?? null;
        },
        body,
      };
    },
    close: () => agent.destroy(),
  };
}
