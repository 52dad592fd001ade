/** What can go wrong with an answer, and sending one that does. */
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Reply {
  status: number;
  headers: Record<string, string>;
  body: Buffer;
}

export type Fault =
  /** Another answer. */
  | {
      readonly kind: 'status';
      readonly status: number;
      readonly headers?: Record<string, string>;
      readonly body?: string;
    }
  /** Another answer, when the whole request has been read. */
  | { readonly kind: 'delayed-status'; readonly status: number }
  /** The true answer, its connection closed after `after` bytes of its body. */
  | { readonly kind: 'cut'; readonly after: number }
  /** The true answer, of whose body nothing comes after `after` bytes. */
  | { readonly kind: 'stall'; readonly after: number }
  /** The true answer, a byte of its body every `ms`. */
  | { readonly kind: 'drip'; readonly ms: number }
  /** The true answer with one byte of its body changed. */
  | { readonly kind: 'wrong-bytes'; readonly at?: number }
  /** 200 and the whole blob, whatever was asked for. */
  | { readonly kind: 'ignore-range' }
  /** The true answer, `ms` later. */
  | { readonly kind: 'delay'; readonly ms: number }
  /** The same path at another origin, with a secret in the query. */
  | { readonly kind: 'redirect'; readonly to: string; readonly status?: number; readonly query?: string }
  /** The true answer with other headers; null takes one away. */
  | { readonly kind: 'headers'; readonly headers: Record<string, string | null> }
  /** The true answer with more bytes than it says, sent without a length. */
  | { readonly kind: 'surplus'; readonly bytes: number }
  /** The connection is closed without an answer. */
  | { readonly kind: 'drop' }
  /** No answer at all. */
  | { readonly kind: 'hang' }
  /** The connection is closed after `after` bytes of the request's body, which are kept. */
  | { readonly kind: 'cut-request'; readonly after: number }
  /** The request is carried out, and the connection closed instead of an answer. */
  | { readonly kind: 'lost-answer' };

/** The secret of redirects, for tests that look for it in messages. */
const REDIRECT_SECRET = 'X-Signature=top-secret-signature';

function changed(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  if (copy.length > 0) copy[at] = copy[at]! ^ 0x20;
  return copy;
}

/** The reply as the fault makes it; those that concern the connection are {@link send}'s. */
export function spoil(reply: Reply, fault: Fault | null, request: IncomingMessage): Reply {
  switch (fault?.kind) {
    case 'status':
      return { status: fault.status, headers: fault.headers ?? {}, body: Buffer.from(fault.body ?? '') };
    case 'delayed-status':
      return { status: fault.status, headers: {}, body: Buffer.alloc(0) };
    case 'wrong-bytes':
      return { ...reply, body: changed(reply.body, fault.at ?? Math.floor(reply.body.length / 2)) };
    case 'redirect':
      return {
        status: fault.status ?? 307,
        headers: { location: `${fault.to}${request.url}?${fault.query ?? REDIRECT_SECRET}` },
        body: Buffer.from('moved'),
      };
    case 'headers': {
      const headers = { ...reply.headers };
      for (const [name, value] of Object.entries(fault.headers)) {
        if (value === null) delete headers[name];
        else headers[name] = value;
      }
      return { ...reply, headers };
    }
    case 'surplus':
      return { ...reply, body: Buffer.concat([reply.body, Buffer.alloc(fault.bytes, 0x58)]) };
    default:
      return reply;
  }
}

/** Sends the reply. Returns how many bytes of its body were given to the connection. */
export async function send(
  request: IncomingMessage,
  response: ServerResponse,
  reply: Reply,
  fault: Fault | null,
): Promise<number> {
  if (fault?.kind === 'hang') return 0;
  if (fault?.kind === 'drop' || fault?.kind === 'lost-answer' || fault?.kind === 'cut-request') {
    request.socket.destroy();
    return 0;
  }
  if (fault?.kind === 'delay') await sleep(fault.ms);
  response.statusCode = reply.status;
  for (const [name, value] of Object.entries(reply.headers)) response.setHeader(name, value);
  const hasBody = request.method !== 'HEAD' && reply.status !== 204;
  const hasLength =
    fault?.kind !== 'surplus' && response.getHeader('content-length') === undefined && reply.status !== 204;
  if (hasLength) response.setHeader('content-length', reply.body.length);
  if (!hasBody) {
    response.end();
    return 0;
  }
  if (fault?.kind === 'cut') {
    const part = reply.body.subarray(0, fault.after);
    // Headers and all of the part must have left before the connection is closed.
    await new Promise<void>((resolve) => response.write(part, () => resolve()));
    request.socket.end();
    await sleep(1);
    request.socket.destroy();
    return part.length;
  }
  if (fault?.kind === 'stall') {
    response.write(reply.body.subarray(0, fault.after));
    return fault.after;
  }
  if (fault?.kind === 'drip') {
    let sent = 0;
    for (; sent < reply.body.length && !request.socket.destroyed; sent++) {
      response.write(reply.body.subarray(sent, sent + 1));
      await sleep(fault.ms);
    }
    response.end();
    return sent;
  }
  // In two pieces where there shall be no length: of one piece Node knows it.
  if (fault?.kind === 'surplus') response.write(reply.body.subarray(0, 1));
  response.end(fault?.kind === 'surplus' ? reply.body.subarray(1) : reply.body);
  if (!response.writableFinished) await Promise.race([once(response, 'finish'), once(response, 'close')]);
  return reply.body.length;
}
