/**
 * A minimum rate for bodies. A transport's own timeout starts again with every byte, so a peer that sends single bytes
 * would keep a connection open without end.
 */
import { type Transport, TransportTimeout } from './transport.ts';

/** Minimum rate of a download. Bytes per millisecond. */
const SLOWEST_DOWNLOAD = 1;

/**
 * A transport like `inner` whose bodies fail with a timeout when they stay below {@link SLOWEST_DOWNLOAD} over `window`
 * milliseconds of waiting. Time that the reader spends on the bytes does not count.
 */
export const paced = (inner: Transport, window: number): Transport => ({
  async request(request) {
    const response = await inner.request(request);
    return { ...response, body: atPace(response.body, window) };
  },
  close: () => inner.close(),
});

async function* atPace(body: AsyncIterable<Buffer>, window: number): AsyncGenerator<Buffer> {
  const iterator = body[Symbol.asyncIterator]();
  let waited = 0;
  let bytes = 0;
  try {
    for (;;) {
      const began = performance.now();
      const next = await iterator.next();
      if (next.done === true) return;
      waited += performance.now() - began;
      bytes += next.value.length;
      if (waited >= window) {
        if (bytes < window * SLOWEST_DOWNLOAD) throw new TransportTimeout('the body arrives too slowly');
        waited = 0;
        bytes = 0;
      }
      yield next.value;
    }
  } finally {
    // This ends the stream, and the connection of a body that was not read to its end.
    await iterator.return?.();
  }
}
