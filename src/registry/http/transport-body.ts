/** Sends a body that is produced while it is sent, for both transports. */
import type { TimeoutOptions } from '../store.ts';
import { type StreamedBody, type TransportRequest, type TransportResponse, TransportTimeout } from './transport.ts';

type Timeouts = Required<TimeoutOptions>;

/**
 * A body that a transport sends, with timeouts: the transport must take each piece within `timeouts.body`, and the
 * response must arrive within `timeouts.headers` after the last one. Time that the source of the body takes does not
 * count.
 */
class BodySender implements AsyncIterableIterator<Buffer> {
  readonly #source: AsyncIterator<Buffer>;
  readonly #timeouts: Timeouts;
  readonly #stalled: () => void;
  #timer: NodeJS.Timeout | undefined;
  #isAnswered = false;
  #isStopped = false;

  constructor(body: StreamedBody, timeouts: Timeouts, stalled: () => void) {
    this.#source = body.open();
    this.#timeouts = timeouts;
    this.#stalled = stalled;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Buffer>> {
    clearTimeout(this.#timer);
    const next = this.#isStopped ? null : await this.#source.next();
    // Ending here would look like the end of the body, and the connection would be reused.
    if (next === null || this.#isStopped) throw new Error('the request is over');
    const { headers, body } = this.#timeouts;
    if (!this.#isAnswered) this.#timer = setTimeout(this.#stalled, next.done === true ? headers : body);
    return next;
  }

  async return(): Promise<IteratorResult<Buffer>> {
    this.stop();
    return { done: true, value: undefined };
  }

  /** Stops the timeouts when the head of the response has arrived: its reader has timeouts of its own. */
  answered(): void {
    this.#isAnswered = true;
    clearTimeout(this.#timer);
  }

  /** Stops sending. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#isStopped = true;
    void this.#source.return?.();
  }
}

/**
 * Sends a request with a streamed body with `send`. The response may arrive before the body has ended; the rest of the
 * body is sent until the response has been read.
 */
export async function sendStreamed(
  body: StreamedBody,
  { signal, headers }: TransportRequest,
  timeouts: Timeouts,
  send: (
    body: AsyncIterable<Buffer>,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ) => Promise<TransportResponse>,
): Promise<TransportResponse> {
  const stall = new AbortController();
  const timeout = new TransportTimeout('sending the body made no progress');
  const sender = new BodySender(body, timeouts, () => stall.abort(timeout));
  const length = body.length === null ? {} : { 'content-length': String(body.length) };
  const either = signal === null ? stall.signal : AbortSignal.any([signal, stall.signal]);
  try {
    const response = await send(sender, { ...headers, ...length }, either);
    sender.answered();
    return { ...response, body: whenRead(response.body, () => sender.stop()) };
  } catch (error) {
    sender.stop();
    throw stall.signal.aborted ? timeout : error;
  }
}

async function* whenRead(body: AsyncIterable<Buffer>, over: () => void): AsyncGenerator<Buffer> {
  try {
    yield* body;
  } finally {
    over();
  }
}
