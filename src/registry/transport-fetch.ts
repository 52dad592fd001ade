/** The transport over node-fetch and Node's own HTTP agents. Its timeouts are kept here: node-fetch has none. */
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { rootCertificates } from 'node:tls';
import fetch from 'node-fetch';
import {
  CONNECTIONS_PER_HOST,
  headersTimeoutOf,
  KEEP_ALIVE,
  type Transport,
  type TransportOptions,
  type TransportRequest,
  type TransportResponse,
  TransportTimeout,
} from './transport.ts';

/** Runs `work`; when it takes longer than `timeout` milliseconds, `expired` is called and the result is a timeout. */
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
    // Ends the stream, and with it the connection of a body that was not read to its end.
    await iterator.return?.();
  }
}

async function* nothing(): AsyncGenerator<Buffer> {}

export function fetchTransport(options: TransportOptions): Transport {
  const pool = {
    keepAlive: true,
    maxSockets: CONNECTIONS_PER_HOST,
    timeout: KEEP_ALIVE,
    ...(options.lookup == null ? {} : { lookup: options.lookup }),
  };
  const http = new HttpAgent(pool);
  const https = new HttpsAgent({ ...pool, ...(options.ca === null ? {} : { ca: [...rootCertificates, options.ca] }) });
  return {
    async request(request: TransportRequest): Promise<TransportResponse> {
      // One controller for the caller's signal and for our clocks; node-fetch destroys the socket when it fires.
      const controller = new AbortController();
      const stop = (): void => controller.abort();
      if (request.signal?.aborted === true) stop();
      request.signal?.addEventListener('abort', stop, { once: true });
      const release = (): void => request.signal?.removeEventListener('abort', stop);
      try {
        const limit = options.timeouts.connect + headersTimeoutOf(request, options.timeouts);
        const answer = fetch(request.url, {
          method: request.method,
          headers: request.headers,
          body: request.body,
          redirect: 'manual',
          compress: false,
          agent: (url) => (url.protocol === 'https:' ? https : http),
          signal: controller.signal,
        });
        const response = await within(limit, answer, stop);
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
    },
    async close() {
      http.destroy();
      https.destroy();
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
