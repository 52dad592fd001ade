/** Sending a body that comes into being while it is sent: what both transports do about it. */
import type { TimeoutOptions } from '../store.ts';
import { type StreamedBody, type TransportRequest, type TransportResponse, TransportTimeout } from './transport.ts';

type Timeouts = Required<TimeoutOptions>;

/**
 * A body on its way into a transport, and whether it gets on: each piece must be taken within `timeouts.body`, and the
 * answer must come within `timeouts.headers` of the last one. Waiting for whoever makes the body costs no time.
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
    // An end here would look like the end of the body, and the connection like one that can be used again.
    if (next === null || this.#isStopped) throw new Error('the request is over');
    const { headers, body } = this.#timeouts;
    if (!this.#isAnswered) this.#timer = setTimeout(this.#stalled, next.done === true ? headers : body);
    return next;
  }

  async return(): Promise<IteratorResult<Buffer>> {
    this.stop();
    return { done: true, value: undefined };
  }

  /** The head of the answer is here: from now on its reader keeps the time. */
  answered(): void {
    this.#isAnswered = true;
    clearTimeout(this.#timer);
  }

  /** Nothing more is sent. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#isStopped = true;
    void this.#source.return?.();
  }
}

/**
 * A request with a streamed body, sent by `send`. The answer may come before the body has ended; the rest of it is sent
 * until the answer has been read, and no longer.
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
  const timeout = new TransportTimeout('the request got stuck');
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
