/**
 * One HTTP exchange, as small as we need it: no redirects, no retries, no decompression, no cookies. Those that are
 * wanted are ours, so that every transport behaves the same.
 */
import type { LookupFunction } from 'node:net';
import type { TlsOptions } from '../../access/tls.ts';
import { LacunaError, type LacunaErrorOptions } from '../../errors.ts';
import type { TimeoutOptions } from '../store.ts';
import { proxyFor } from './proxy.ts';

export type Method = 'GET' | 'HEAD' | 'POST' | 'PATCH' | 'PUT' | 'DELETE';

/** A request's body that is sent while it comes into being. */
export interface StreamedBody {
  /** Bytes; null when it is not known yet: then HTTP's chunked coding says where the body ends. */
  readonly length: number | null;
  /** Its bytes from the first on; opened again for every request that carries it. `return` ends a pending `next`. */
  open(): AsyncIterator<Buffer>;
}

export interface TransportRequest {
  readonly method: Method;
  readonly url: URL;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer | StreamedBody | null;
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
  readonly tls: TlsOptions;
  readonly timeouts: Required<TimeoutOptions>;
  /** How names are looked up. */
  readonly lookup: LookupFunction;
}

/**
 * Milliseconds. A dead peer is noticed soon, and a slow one still gets its time: every byte starts the clock again. While
 * it connects, the kernel repeats itself after 1, 3 and 7 s.
 */
export const DEFAULT_TIMEOUTS: Required<TimeoutOptions> = { connect: 8_000, headers: 60_000, body: 30_000 };

/** An upload slower than this is taken for stuck. Bytes per millisecond. */
const SLOWEST_UPLOAD = 16;

/** Milliseconds that a request may take up to the head of its response, the time for sending its body included. */
export const headersTimeoutOf = (body: Buffer | null, timeouts: Required<TimeoutOptions>): number =>
  timeouts.headers + Math.ceil((body?.length ?? 0) / SLOWEST_UPLOAD);

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

/** A transport gave up waiting for a connection. */
export class ConnectTimeout extends Error {
  readonly code = 'UND_ERR_CONNECT_TIMEOUT';
}

/** A proxy did not open the way to a host. Its answer's status is in the code, which is all that node-fetch passes on. */
export class ProxyRefusal extends Error {
  readonly code: string;

  constructor(status: number) {
    super('the proxy refused');
    this.code = `ERR_PROXY_${status}`;
  }
}

/** No connection came about, so nothing was sent: nobody answers at this host, or its name leads nowhere. */
export class ConnectError extends LacunaError {
  readonly host: string;
  /** The system has tried again by itself, or the answer is final. */
  readonly isDecided: boolean;

  constructor(...[code, message, options]: ConnectErrorArguments) {
    super(code, message, options);
    this.host = options.host;
    this.isDecided = options.isDecided;
  }
}

type ConnectErrorArguments = [
  code: 'UNAVAILABLE' | 'TIMEOUT',
  message: string,
  options: LacunaErrorOptions & { readonly host: string; readonly isDecided: boolean },
];

/** Code of a connection that did not come about → what it means, and what to ask oneself. */
const UNREACHABLE: Readonly<Record<string, readonly [meaning: string, hint: string | null]>> = {
  ECONNREFUSED: ['connection refused', 'is the registry running?'],
  ENOTFOUND: ['no such host', 'is the host name right?'],
  EAI_AGAIN: ['the name could not be looked up', 'is the host name right, and does DNS work?'],
  EHOSTUNREACH: ['host unreachable', null],
  ENETUNREACH: ['network unreachable', null],
  EHOSTDOWN: ['host down', null],
  LOOKUP_TIMEOUT: ['no name server answered in time', 'is the host name right, and does DNS work?'],
  UND_ERR_CONNECT_TIMEOUT: ['no connection in time', 'does a firewall lie between? A proxy is named by HTTPS_PROXY'],
};
const DECIDED = new Set(['ENOTFOUND', 'LOOKUP_TIMEOUT', 'UND_ERR_CONNECT_TIMEOUT']);

const TIMEOUTS = new Set([
  ...['ETIMEDOUT', 'LOOKUP_TIMEOUT', 'UND_ERR_CONNECT_TIMEOUT'],
  ...['UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT'],
]);

/** TLS failures that trying again does not mend (Node's `tls` documentation, "X509 certificate error codes"). */
const CERTIFICATE =
  /^(CERT_|DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_|HOSTNAME_MISMATCH|ERR_TLS_CERT_ALTNAME_INVALID|INVALID_CA|PATH_LENGTH_EXCEEDED)/;

/** Not TLS at the other end, or TLS that has nothing in common with ours. */
const NOT_TLS = /^(EPROTO|ERR_SSL_)/;

/** Words for codes that say nothing to people. */
const LABELS: Readonly<Record<string, string>> = {
  '': 'the connection failed',
  UND_ERR_SOCKET: 'the other side closed the connection',
  ECONNRESET: 'the other side closed the connection (ECONNRESET)',
};

/** The transport was closed under the request. */
const CLOSED = new Set(['UND_ERR_DESTROYED', 'UND_ERR_CLOSED']);

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
  return new LacunaError(isDeadline ? 'TIMEOUT' : 'ABORTED', isDeadline ? 'timed out' : 'aborted', {
    op,
    subject,
    cause: reason,
  });
}

/**
 * A transport's error as ours. The original is not kept as the cause: some quote the URL, whose query may be a secret.
 */
export function transportError(error: unknown, url: URL, op: string, subject: string): LacunaError {
  if (error instanceof LacunaError) return error;
  const code = codeOf(error);
  // Not the network's fault, but ours.
  if (code === '' && (error instanceof TypeError || error instanceof RangeError)) {
    return new LacunaError('INTERNAL', `${url.host}: ${error.name}`, { op, subject });
  }
  const proxy = proxyFor(url);
  const way = proxy === null ? url.host : `${url.host} by the proxy ${proxy.host}`;
  const refusal = proxyStatus(error, code);
  if (refusal !== null) return proxyRefused(refusal, way, { op, subject });
  if (Object.hasOwn(UNREACHABLE, code)) {
    const [meaning, question] = UNREACHABLE[code]!;
    const hint = proxy === null ? question : 'is the proxy right that HTTPS_PROXY or HTTP_PROXY names?';
    return new ConnectError(TIMEOUTS.has(code) ? 'TIMEOUT' : 'UNAVAILABLE', `${way}: ${meaning} (${code})`, {
      op,
      subject,
      ...(hint === null ? {} : { hint }),
      host: url.host,
      isDecided: DECIDED.has(code),
    });
  }
  const label = LABELS[code] ?? code;
  const message = `${way}: ${label}`;
  if (CLOSED.has(code)) return new LacunaError('ABORTED', message, { op, subject });
  if (TIMEOUTS.has(code)) return new LacunaError('TIMEOUT', message, { op, subject });
  if (CERTIFICATE.test(code)) {
    const hint =
      'if its certificate is right, give its authority with --ca FILE (the option ca), or add it to those of the system';
    const problem = `${message}: its certificate is not trusted`;
    return new LacunaError('UNAVAILABLE', problem, { op, subject, hint, retryable: false });
  }
  if (NOT_TLS.test(code)) {
    const hint = 'if the registry speaks plain HTTP, say so with --plain-http (the option plainHttp)';
    return new LacunaError('UNAVAILABLE', message, { op, subject, hint, retryable: false });
  }
  if (HTTP_SYNTAX.test(code)) return new LacunaError('PROTOCOL', message, { op, subject });
  return new LacunaError('UNAVAILABLE', message, { op, subject });
}

/** The status with which a proxy refused a tunnel; undici has it in its text alone. */
function proxyStatus(error: unknown, code: string): number | null {
  const text = error instanceof Error ? error.message : '';
  const match = /^ERR_PROXY_([0-9]+)$/.exec(code) ?? /^Proxy response \(([0-9]{3})\)/.exec(text);
  return match === null ? null : Number(match[1]);
}

/** The hint about a proxy that wants credentials. */
export const PROXY_LOGIN = 'name the proxy with user and password, http://USER:PASSWORD@HOST:PORT';

function proxyRefused(status: number, where: string, options: LacunaErrorOptions): LacunaError {
  if (status === 407) {
    const problem = `${where}: the proxy wants other credentials`;
    return new LacunaError('UNAUTHORIZED', problem, { ...options, hint: PROXY_LOGIN });
  }
  const code = status === 403 ? 'FORBIDDEN' : 'UNAVAILABLE';
  return new LacunaError(code, `${where}: the proxy answered ${status}`, options);
}
