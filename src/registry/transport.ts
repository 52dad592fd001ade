/**
 * One HTTP exchange, as small as we need it: no redirects, no retries, no decompression, no cookies. Those that are
 * wanted are ours, so that every transport behaves the same.
 */
import type { LookupFunction } from 'node:net';
import { LacunaError } from '../errors.ts';
import type { TimeoutOptions } from './store.ts';

export type Method = 'GET' | 'HEAD' | 'POST' | 'PATCH' | 'PUT' | 'DELETE';

export interface TransportRequest {
  readonly method: Method;
  readonly url: URL;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer | null;
  readonly signal: AbortSignal | null;
}

export interface TransportResponse {
  readonly status: number;
  /** A header by its lower-case name; several of one name are joined with commas. */
  header(name: string): string | null;
  /** Must be read to its end, or given up with {@link discard}: until then it holds a connection. */
  readonly body: AsyncIterable<Buffer>;
}

export interface Transport {
  /** Rejects with the transport's own error; {@link transportError} turns it into ours. */
  request(request: TransportRequest): Promise<TransportResponse>;
  close(): Promise<void>;
}

export interface TransportOptions {
  readonly ca: string | null;
  readonly timeouts: Required<TimeoutOptions>;
  /** How names are resolved; null: as the system does. */
  readonly lookup?: LookupFunction | null;
}

/** Milliseconds. A dead peer is noticed soon, and a slow one still gets its time: every byte starts the clock again. */
export const DEFAULT_TIMEOUTS: Required<TimeoutOptions> = { connect: 10_000, headers: 60_000, body: 30_000 };

/** An upload slower than this is taken for stuck. Bytes per millisecond. */
const SLOWEST_UPLOAD = 16;

/** Milliseconds that a request may take up to the head of its response, the time for sending its body included. */
export const headersTimeoutOf = (request: TransportRequest, timeouts: Required<TimeoutOptions>): number =>
  timeouts.headers + Math.ceil((request.body?.length ?? 0) / SLOWEST_UPLOAD);

/** Connections to one host at once. Browsers take 6, registries allow far more; past 16 a link is full anyway. */
export const CONNECTIONS_PER_HOST = 16;

/** How long an idle connection is kept, below the 60 s after which common load balancers drop it. Milliseconds. */
export const KEEP_ALIVE = 30_000;

/** A body at most this long is read to its end to keep the connection; a longer one is cut with it. Bytes. */
const DISCARD_LIMIT = 64 * 1024;

/** Gives a response's body up. Never throws: the exchange is over for us. */
export async function discard(response: TransportResponse): Promise<void> {
  let size = 0;
  try {
    for await (const piece of response.body) {
      size += piece.length;
      if (size > DISCARD_LIMIT) break;
    }
  } catch {
    // A body that nobody wants may break.
  }
}

/** A transport gave up waiting. */
export class TransportTimeout extends Error {
  readonly code = 'ETIMEDOUT';
}

const TIMEOUTS = new Set(['ETIMEDOUT', 'UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT']);

/** TLS failures that trying again does not mend (Node's `tls` documentation, "X509 certificate error codes"). */
const CERTIFICATE =
  /^(CERT_|DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_|HOSTNAME_MISMATCH|ERR_TLS_CERT_ALTNAME_INVALID|INVALID_CA|PATH_LENGTH_EXCEEDED)/;

/** Not TLS at the other end, or TLS that has nothing in common with ours. */
const NOT_TLS = /^(EPROTO|ERR_SSL_)/;

const HTTP_SYNTAX = /^(HPE_|UND_ERR_INVALID_ARG|UND_ERR_HEADERS_OVERFLOW|ERR_INVALID_CHAR)/;

/** The innermost code of an error: transports and Node wrap them. */
function codeOf(error: unknown, depth = 0): string {
  if (!(error instanceof Error) || depth > 4) return '';
  if (error instanceof AggregateError && error.errors.length > 0) return codeOf(error.errors[0], depth + 1);
  if ('code' in error && typeof error.code === 'string') return error.code;
  return codeOf(error.cause, depth + 1);
}

export const isAborted = (signal: AbortSignal | null): signal is AbortSignal => signal?.aborted === true;

/** What ends an operation whose signal has fired: the signal's own reason where it is one of ours. */
export function abortError(signal: AbortSignal, op: string, subject: string): LacunaError {
  const reason: unknown = signal.reason;
  if (reason instanceof LacunaError) return reason;
  const isDeadline = reason instanceof Error && reason.name === 'TimeoutError';
  return new LacunaError(
    isDeadline ? 'TIMEOUT' : 'ABORTED',
    `${op} ${subject}: ${isDeadline ? 'timed out' : 'aborted'}`,
    {
      op,
      subject,
      cause: reason,
    },
  );
}

/**
 * A transport's error as ours. The original is not kept as the cause: some quote the URL, whose query may be a secret.
 */
export function transportError(error: unknown, url: URL, op: string, subject: string): LacunaError {
  if (error instanceof LacunaError) return error;
  const code = codeOf(error);
  // Not the network's fault, but ours.
  if (code === '' && (error instanceof TypeError || error instanceof RangeError)) {
    return new LacunaError('INTERNAL', `${op} ${subject}: ${url.host}: ${error.name}`, { op, subject });
  }
  const label = code === '' ? 'the connection failed' : code;
  const message = `${op} ${subject}: ${url.host}: ${label}`;
  if (TIMEOUTS.has(code)) return new LacunaError('TIMEOUT', message, { op, subject });
  if (CERTIFICATE.test(code)) {
    const hint = 'give the certificate authority of the registry with the option ca';
    return new LacunaError('UNAVAILABLE', message, { op, subject, hint, retryable: false });
  }
  if (NOT_TLS.test(code)) {
    const hint = 'if the registry speaks plain HTTP, say so with the option plainHttp';
    return new LacunaError('UNAVAILABLE', message, { op, subject, hint, retryable: false });
  }
  if (HTTP_SYNTAX.test(code)) return new LacunaError('PROTOCOL', message, { op, subject });
  if (code === 'ENOTFOUND')
    return new LacunaError('UNAVAILABLE', message, { op, subject, hint: 'is the host name right?' });
  if (code === 'ECONNREFUSED')
    return new LacunaError('UNAVAILABLE', message, { op, subject, hint: 'is the registry running?' });
  return new LacunaError('UNAVAILABLE', message, { op, subject });
}
