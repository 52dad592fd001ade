/** The default transport: undici's Agent with a pool of keep-alive connections for each host, without pipelining. */
import { Readable } from 'node:stream';
import { Agent, buildConnector, type Dispatcher, Pool, ProxyAgent } from 'undici';
import { tlsSettings } from '../../access/tls.ts';
import { proxyAuthorization, proxyFor } from './proxy.ts';
import {
  CONNECTIONS_PER_HOST,
  ConnectTimeout,
  headersTimeoutOf,
  KEEP_ALIVE,
  type Transport,
  type TransportOptions,
  type TransportRequest,
  type TransportResponse,
  TransportTimeout,
} from './transport.ts';
import { sendStreamed } from './transport-body.ts';
import { guardUndici } from './undici-guard.ts';

export function undiciTransport(options: TransportOptions): Transport {
  guardUndici();
  const { connect: timeout, body: bodyTimeout } = options.timeouts;
  const pool = {
    connections: CONNECTIONS_PER_HOST,
    pipelining: 1 as const,
    keepAliveTimeout: KEEP_ALIVE,
    bodyTimeout,
  };
  const agent = new Agent({ ...pool, connect: connectorOf(options) });
  /** Tunnels by the proxy's URL. */
  const tunnels = new Map<string, ProxyAgent>();

  function tunnelBy(proxy: URL): ProxyAgent {
    const existing = tunnels.get(proxy.href);
    if (existing !== undefined) return existing;
    const tls = { ...tlsSettings(options.tls), timeout };
    const authorization = proxyAuthorization(proxy);
    const made = new ProxyAgent({
      ...pool,
      uri: proxy.origin,
      ...(authorization === null ? {} : { token: authorization }),
      requestTls: tls,
      proxyTls: tls,
      clientFactory: (origin, settings) => new ProxyPool(origin, { ...settings, headersTimeout: timeout }),
    });
    tunnels.set(proxy.href, made);
    return made;
  }

  const send = async (
    { url, method }: TransportRequest,
    headers: Headers,
    body: Buffer | Readable | null,
    signal: AbortSignal | null,
    headersTimeout: number,
  ): Promise<TransportResponse> => {
    const proxy = proxyFor(url);
    const isTunnelled = proxy !== null && url.protocol === 'https:';
    const dispatcher: Dispatcher = isTunnelled ? tunnelBy(proxy) : agent;
    const target = proxy === null || isTunnelled ? direct(url, headers) : absolute(url, headers, proxy);
    const onInfo = interimTimeout(headersTimeout || options.timeouts.headers);
    const response = await dispatcher.request({ ...target, method, body, signal, headersTimeout, bodyTimeout, onInfo });
    return {
      status: response.statusCode,
      header(name) {
        const value = response.headers[name];
        return (Array.isArray(value) ? value.join(', ') : value) ?? null;
      },
      body: response.body,
    };
  };

  return {
    async request(request: TransportRequest): Promise<TransportResponse> {
      const { body, headers, signal } = request;
      if (body === null || Buffer.isBuffer(body)) {
        return await send(request, headers, body, signal, headersTimeoutOf(body, options.timeouts));
      }
      // undici's own timeout would run while the body is still being produced.
      return await sendStreamed(body, request, options.timeouts, (stream, all, either) =>
        send(request, all, Readable.from(stream, { objectMode: false }), either, 0),
      );
    },
    async close() {
      await Promise.all([agent, ...tunnels.values()].map((it) => it.destroy()));
    },
  };
}

/**
 * Limits the time of interim responses (1xx), whose number is unbounded and each of which restarts undici's timeout.
 */
function interimTimeout(limit: number): () => void {
  let began: number | null = null;
  return () => {
    began ??= performance.now();
    if (performance.now() - began > limit) throw new TransportTimeout('the server sent only interim responses');
  };
}

/** Pool of connections to a proxy: a tunnel that is not open in time is reported as a connect timeout. */
class ProxyPool extends Pool {
  // biome-ignore lint/suspicious/noExplicitAny: the overloads of undici's types have one implementation.
  override async connect(options: any): Promise<any> {
    try {
      return await super.connect(options);
    } catch (error) {
      const isLate = error instanceof Error && 'code' in error && error.code === 'UND_ERR_HEADERS_TIMEOUT';
      throw isLate ? new ConnectTimeout('the proxy did not answer in time') : error;
    }
  }
}

/** Makes a connector that reads certificates with the first TLS connection. */
function connectorOf({ tls, timeouts, lookup }: TransportOptions): buildConnector.connector {
  const common = { timeout: timeouts.connect, lookup };
  const plain = buildConnector(common);
  let secure: buildConnector.connector | null = null;
  return (request, callback) => {
    if (request.protocol !== 'https:') return plain(request, callback);
    try {
      secure ??= buildConnector({ ...common, ...tlsSettings(tls) });
    } catch (error) {
      return callback(error as Error, null);
    }
    secure(request, callback);
  };
}

type Headers = TransportRequest['headers'];
type Target = Pick<Dispatcher.RequestOptions, 'origin' | 'path' | 'headers'>;

const pathOf = (url: URL): string => url.pathname + url.search;

const direct = (url: URL, headers: Headers): Target => ({ origin: url.origin, path: pathOf(url), headers });

/** The target of plain HTTP through a proxy: the proxy itself, with the whole URL as path (RFC 9112 3.2.2). */
function absolute(url: URL, headers: Headers, proxy: URL): Target {
  const authorization = proxyAuthorization(proxy);
  return {
    origin: proxy.origin,
    path: url.origin + pathOf(url),
    headers: {
      ...headers,
      host: url.host,
      ...(authorization === null ? {} : { 'proxy-authorization': authorization }),
    },
  };
}
