/** A forward proxy in this process: CONNECT for what is encrypted, whole URLs for what is not, as squid and others do. */
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';

export interface ProxyOptions {
  /** `USER:PASSWORD` that it wants. */
  readonly auth?: string;
  /** Host that clients name, with its port → `HOST:PORT` where it is. Others are not known to it. */
  readonly hosts: Readonly<Record<string, string>>;
  /** Answers a CONNECT with this status. */
  readonly refuse?: number;
  /** Never answers a CONNECT. */
  readonly isSilent?: boolean;
}

export interface TestProxy extends AsyncDisposable {
  /** `127.0.0.1:PORT` */
  readonly host: string;
  /** `CONNECT HOST:PORT` or `GET URL`, in the order of arrival. */
  readonly log: string[];
}

export async function startProxy(options: ProxyOptions): Promise<TestProxy> {
  const log: string[] = [];
  const sockets = new Set<Duplex>();
  const server = createServer();
  const isAllowed = ({ headers }: IncomingMessage): boolean =>
    options.auth === undefined ||
    headers['proxy-authorization'] === `Basic ${Buffer.from(options.auth).toString('base64')}`;

  server.on('request', (incoming: IncomingMessage, response: ServerResponse) => {
    log.push(`${incoming.method} ${incoming.url}`);
    if (!isAllowed(incoming)) return void response.writeHead(407, { 'proxy-authenticate': 'Basic' }).end();
    const url = new URL(incoming.url!);
    const target = options.hosts[`${url.hostname}:${url.port || 80}`];
    if (target === undefined || incoming.headers.host !== url.host) return void response.writeHead(502).end();
    const { 'proxy-authorization': _own, ...headers } = incoming.headers;
    const [host, port] = target.split(':');
    const path = url.pathname + url.search;
    const onward = request({ host, port, method: incoming.method, path, headers }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.writeHead(502).end());
    incoming.pipe(onward);
  });

  server.on('connect', (incoming: IncomingMessage, socket: Duplex) => {
    log.push(`CONNECT ${incoming.url}`);
    sockets.add(socket);
    socket.on('error', () => {});
    if (options.isSilent === true) return;
    const target = options.hosts[incoming.url!];
    const status = options.refuse ?? (isAllowed(incoming) ? (target === undefined ? 503 : 200) : 407);
    if (status !== 200) return void socket.end(`HTTP/1.1 ${status} No\r\ncontent-length: 0\r\n\r\n`);
    const [host, port] = target!.split(':');
    const onward: Socket = connect(Number(port), host, () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      socket.pipe(onward).pipe(socket);
    });
    sockets.add(onward);
    onward.on('error', () => socket.destroy());
  });

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    host,
    log,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
