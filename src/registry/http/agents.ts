/** Node's HTTP agents for the transport over node-fetch: direct or through a proxy, with a timeout for connecting. */
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { HttpProxyAgent } from 'http-proxy-agent';
import { HttpsProxyAgent } from 'https-proxy-agent';
import { tlsSettings } from '../../access/tls.ts';
import { proxyAuthorization, proxyFor } from './proxy.ts';
import { CONNECTIONS_PER_HOST, ConnectTimeout, KEEP_ALIVE, ProxyRefusal, type TransportOptions } from './transport.ts';

const POOL = { keepAlive: true, maxSockets: CONNECTIONS_PER_HOST, timeout: KEEP_ALIVE };

type TlsSettings = Partial<ReturnType<typeof tlsSettings>>;

export class AgentPool {
  readonly #options: TransportOptions;
  /** Agents by scheme and proxy. */
  readonly #agents = new Map<string, HttpAgent>();

  constructor(options: TransportOptions) {
    this.#options = options;
  }

  for(url: URL): HttpAgent {
    const proxy = proxyFor(url);
    const key = `${url.protocol}${proxy?.href ?? ''}`;
    const existing = this.#agents.get(key);
    if (existing !== undefined) return existing;
    const made = this.#make(url.protocol === 'https:', proxy);
    this.#agents.set(key, made);
    return made;
  }

  close(): void {
    for (const agent of this.#agents.values()) agent.destroy();
  }

  #make(isSecure: boolean, proxy: URL | null): HttpAgent {
    const { tls, timeouts, lookup } = this.#options;
    const settings = isSecure || proxy?.protocol === 'https:' ? tlsSettings(tls) : {};
    if (proxy !== null) {
      return isSecure ? new Tunnel(proxy, settings, timeouts.connect) : new Forward(proxy, settings, timeouts.connect);
    }
    const pool = { ...POOL, lookup };
    const agent = isSecure ? new HttpsAgent({ ...pool, ...settings }) : new HttpAgent(pool);
    const create = agent.createConnection.bind(agent);
    agent.createConnection = (options, callback) => {
      const socket = create(options, callback);
      if (socket != null) limit(socket, isSecure ? 'secureConnect' : 'connect', timeouts.connect);
      return socket;
    };
    return agent;
  }
}

/** Destroys a socket that is not connected after `timeout` milliseconds. */
function limit(socket: Duplex, event: string, timeout: number): void {
  const timer = setTimeout(() => socket.destroy(new ConnectTimeout('no connection in time')), timeout);
  const stop = (): void => clearTimeout(timer);
  socket.once(event, stop);
  socket.once('close', stop);
}

function proxyHeaders(proxy: URL): Record<string, string> {
  const authorization = proxyAuthorization(proxy);
  return authorization === null ? {} : { 'proxy-authorization': authorization };
}

/** Agent for plain HTTP: it sends the requests themselves to the proxy. */
class Forward extends HttpProxyAgent<string> {
  readonly #timeout: number;

  constructor(proxy: URL, settings: TlsSettings, timeout: number) {
    super(proxy.origin, { ...POOL, ...settings, headers: proxyHeaders(proxy) });
    this.#timeout = timeout;
  }

  override async connect(...[request, options]: Parameters<HttpProxyAgent<string>['connect']>): Promise<Socket> {
    const socket = await super.connect(request, options);
    if (socket.connecting) limit(socket, 'connect', this.#timeout);
    return socket;
  }
}

/** Agent for HTTPS: the proxy opens a tunnel to the host, and TLS runs between us and the host. */
class Tunnel extends HttpsProxyAgent<string> {
  readonly #settings: TlsSettings;
  readonly #timeout: number;

  constructor(proxy: URL, settings: TlsSettings, timeout: number) {
    super(proxy.origin, { ...POOL, ...settings, headers: proxyHeaders(proxy) });
    this.#settings = settings;
    this.#timeout = timeout;
  }

  override async connect(...[request, options]: Parameters<HttpsProxyAgent<string>['connect']>): Promise<Socket> {
    let status = 200;
    request.once('proxyConnect', (response: { statusCode: number }) => {
      status = response.statusCode;
    });
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(), this.#timeout);
    try {
      // The library passes these options to the socket that it creates next.
      Object.assign(this.connectOpts, { signal: deadline.signal });
      const socket = await super.connect(request, { ...options, ...this.#settings });
      if (status === 200) return socket;
      socket.destroy();
      throw new ProxyRefusal(status);
    } catch (error) {
      throw deadline.signal.aborted ? new ConnectTimeout('no connection in time') : error;
    } finally {
      clearTimeout(timer);
    }
  }
}
