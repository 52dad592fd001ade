/** The transport over node-fetch and Node's own HTTP agents, with timeouts, which node-fetch does not have. */
import { Readable } from 'node:stream';
import fetch from 'node-fetch';
import { AgentPool } from './agents.ts';
import {
  headersTimeoutOf,
  type Transport,
  type TransportOptions,
  type TransportRequest,
  type TransportResponse,
  TransportTimeout,
} from './transport.ts';
import { sendStreamed } from './transport-body.ts';

/** Waits for `work`; after `timeout` milliseconds it calls `expired` and rejects with a timeout. */
async function within<T>(timeout: number, work: Promise<T>, expired: () => void): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const clock = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new TransportTimeout('no answer in time'));
      expired();
    }, timeout);
  });
  try {
    return await Promise.race([work, clock]);
  } finally {
    clearTimeout(timer);
  }
}

async function* pieces(
  body: AsyncIterable<Buffer | string>,
  timeout: number,
  stop: () => void,
): AsyncGenerator<Buffer> {
  const iterator = body[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await within(timeout, iterator.next(), stop);
      if (next.done === true) return;
      yield Buffer.isBuffer(next.value) ? next.value : Buffer.from(next.value);
    }
  } finally {
    // This ends the stream, and the connection of a body that was not read to its end.
    await iterator.return?.();
  }
}

async function* nothing(): AsyncGenerator<Buffer> {}

export function fetchTransport(options: TransportOptions): Transport {
  const agents = new AgentPool(options);
  const send = async (
    { url, method }: TransportRequest,
    headers: Readonly<Record<string, string>>,
    body: Buffer | Readable | null,
    signal: AbortSignal | null,
    limit: number | null,
  ): Promise<TransportResponse> => {
    // One controller serves the caller's signal and our timeouts; node-fetch destroys the socket when it aborts.
    const controller = new AbortController();
    const stop = (): void => controller.abort();
    if (signal?.aborted === true) stop();
    signal?.addEventListener('abort', stop, { once: true });
    const release = (): void => signal?.removeEventListener('abort', stop);
    try {
      const fetched = fetch(url, {
        method,
        headers,
        body,
        redirect: 'manual',
        compress: false,
        agent: (at) => agents.for(at),
        signal: controller.signal,
      });
      const response = limit === null ? await fetched : await within(limit, fetched, stop);
      return {
        status: response.status,
        header: (name) => response.headers.get(name),
        body: released(
          response.body === null ? nothing() : pieces(response.body, options.timeouts.body, stop),
          release,
        ),
      };
    } catch (error) {
      release();
      throw error;
    }
  };
  return {
    async request(request: TransportRequest): Promise<TransportResponse> {
      const { body, headers, signal } = request;
      const { timeouts } = options;
      if (body === null || Buffer.isBuffer(body)) {
        return await send(request, headers, body, signal, timeouts.connect + headersTimeoutOf(body, timeouts));
      }
      return await sendStreamed(body, request, timeouts, (stream, all, either) =>
        send(request, all, Readable.from(stream, { objectMode: false }), either, null),
      );
    },
    async close() {
      agents.close();
    },
  };
}

async function* released(body: AsyncGenerator<Buffer>, release: () => void): AsyncGenerator<Buffer> {
  try {
    yield* body;
  } finally {
    release();
  }
}
