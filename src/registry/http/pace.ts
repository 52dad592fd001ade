/**
 * A least pace of bodies. A transport's own clock begins again with every byte, so a peer that drips would be listened to
 * for ever.
 */
import { type Transport, TransportTimeout } from './transport.ts';

/** A download slower than this is taken for stuck. Bytes per millisecond. */
const SLOWEST_DOWNLOAD = 1;

/**
 * `inner`, whose bodies fail with a timeout when less than {@link SLOWEST_DOWNLOAD} has come within `window` milliseconds of
 * waiting. What their reader does with the bytes takes none of that time.
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
        if (bytes < window * SLOWEST_DOWNLOAD) throw new TransportTimeout('the body comes too slowly');
        waited = 0;
        bytes = 0;
      }
      yield next.value;
    }
  } finally {
    // Ends the stream, and with it the connection of a body that was not read to its end.
    await iterator.return?.();
  }
}
