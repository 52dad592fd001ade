/**
 * A link of known delay and bandwidth in front of a TCP server, in user space, because the kernel's netem is often absent.
 *
 * Each direction is delayed by half a round trip, a new connection costs one whole round trip before its first byte
 * travels, and the sum of all downloads passes one queue of the given bandwidth. Uploads are delayed but not limited.
 * Timers of Node have a resolution of 1 ms, so a byte arrives up to 1 ms late, never early.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { RequestCounter } from './request-counter.ts';

export interface LinkShape {
  /** Round-trip time in milliseconds. */
  readonly rtt: number;
  /** Of all downloads together, in bits per second. */
  readonly bandwidth: number;
}

export interface LinkCounters {
  /** Bytes that reached clients. */
  bytes: number;
  /** HTTP/1.1 requests sent by clients. */
  requests: number;
  connections: number;
}

/** Bytes of one connection that may wait for their turn on the link: the buffer of a router, not of a whole download. */
const QUEUE_LIMIT = 256 * 1024;

/** Deliveries that are due within this many milliseconds go out together. */
const SLACK = 0.25;

/** Actions in the order of their due times; one timer for all of them. */
class DelayLine {
  private readonly actions: { readonly due: number; readonly act: () => void }[] = [];
  private timer: NodeJS.Timeout | null = null;
  private readonly fire = (): void => {
    this.timer = null;
    const now = performance.now() + SLACK;
    let done = 0;
    for (const action of this.actions) {
      if (action.due > now) break;
      action.act();
      done += 1;
    }
    this.actions.splice(0, done);
    this.arm();
  };

  /** `due` must not lie before the due time of an earlier action. */
  add(due: number, act: () => void): void {
    this.actions.push({ due, act });
    this.arm();
  }

  stop(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.actions.length = 0;
  }

  private arm(): void {
    const first = this.actions[0];
    if (this.timer !== null || first === undefined) return;
    this.timer = setTimeout(this.fire, Math.max(1, Math.ceil(first.due - performance.now() - SLACK)));
  }
}

export class ShapedLink implements AsyncDisposable {
  readonly counters: LinkCounters = { bytes: 0, requests: 0, connections: 0 };
  private readonly sockets = new Set<Socket>();
  private readonly down = new DelayLine();
  /** When the link has sent all that is queued on it. */
  private free = 0;
  private lastByte = performance.now();
  private readonly server: Server;
  private readonly target: { readonly host: string; readonly port: number };
  private readonly shape: LinkShape;

  private constructor(server: Server, target: { readonly host: string; readonly port: number }, shape: LinkShape) {
    this.server = server;
    this.target = target;
    this.shape = shape;
  }

  /** Listens on a free port of the loopback interface and forwards to `target`. */
  static async open(target: { readonly host: string; readonly port: number }, shape: LinkShape): Promise<ShapedLink> {
    const server = createServer({ noDelay: true, allowHalfOpen: true });
    const link = new ShapedLink(server, target, shape);
    server.on('connection', (client) => link.forward(client));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return link;
  }

  /** `127.0.0.1:PORT`, where clients connect. */
  get address(): string {
    return `127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Milliseconds since the last byte reached a client or left one. */
  get quietFor(): number {
    return performance.now() - this.lastByte;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.down.stop();
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
    await once(this.server, 'close');
  }

  private forward(client: Socket): void {
    const opened = performance.now();
    const { counters, shape } = this;
    const upstream = connect({ ...this.target, noDelay: true, allowHalfOpen: true });
    const up = new DelayLine();
    const requests = new RequestCounter();
    counters.connections += 1;
    let queued = 0;

    const end = (): void => {
      up.stop();
      client.destroy();
      upstream.destroy();
      this.sockets.delete(client);
      this.sockets.delete(upstream);
    };
    for (const socket of [client, upstream]) {
      this.sockets.add(socket);
      // A reset of either side is a reset of the other; nothing on this link retries.
      socket.on('error', end);
      socket.on('close', () => {
        if (client.closed && upstream.closed) end();
      });
    }

    // The handshake of a real link takes a round trip before the first byte can leave.
    const upDue = (): number => Math.max(performance.now(), opened + shape.rtt) + shape.rtt / 2;
    client.on('data', (data) => {
      this.lastByte = performance.now();
      counters.requests += requests.push(data);
      up.add(upDue(), () => void (upstream.destroyed || upstream.write(data)));
    });
    client.on('end', () => up.add(upDue(), () => void (upstream.destroyed || upstream.end())));

    upstream.on('data', (data) => {
      const now = performance.now();
      this.free = Math.max(now, this.free) + (data.length * 8000) / shape.bandwidth;
      queued += data.length;
      if (queued >= QUEUE_LIMIT) upstream.pause();
      this.down.add(this.free + shape.rtt / 2, () => {
        queued -= data.length;
        if (queued < QUEUE_LIMIT) upstream.resume();
        if (client.destroyed) return;
        counters.bytes += data.length;
        this.lastByte = performance.now();
        client.write(data);
      });
    });
    upstream.on('end', () =>
      this.down.add(
        Math.max(performance.now(), this.free) + shape.rtt / 2,
        () => void (client.destroyed || client.end()),
      ),
    );
  }
}
