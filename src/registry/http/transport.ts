/**
 * The interface of HTTP clients: one request and its response, without redirects, retries, decompression or cookies.
 * The callers implement redirects and retries, so that all transports behave the same.
 */
import type { LookupFunction } from 'node:net';
import type { TlsOptions } from '../../access/tls.ts';
import { LacunaError, type LacunaErrorOptions } from '../../errors.ts';
import type { TimeoutOptions } from '../store.ts';
import { proxyFor } from './proxy.ts';

export type Method = 'GET' | 'HEAD' | 'POST' | 'PATCH' | 'PUT' | 'DELETE';

/** A request's body that is produced while it is sent. */
export interface StreamedBody {
  /** Length in bytes; null when it is not known yet: then the chunked transfer coding marks the end. */
  readonly length: number | null;
  /** Iterates over all its bytes; called for every request that sends it. `return` ends a pending `next`. */
  open(): AsyncIterator<Buffer>;
}

export interface TransportRequest {
  readonly method: Method;
  readonly url: URL;
  /** Headers by their names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer | StreamedBody | null;
  readonly signal: AbortSignal | null;
}

export interface TransportResponse {
  readonly status: number;
  /** The value of a header by its name in lower case; several of one name are joined with commas. */
  header(name: string): string | null;
  /** Body, which must be read to its end or dropped with {@link discard}: until then it occupies a connection. */
  readonly body: AsyncIterable<Buffer>;
}

export interface Transport {
  /** Sends a request. Rejects with the transport's own error, which {@link transportError} turns into a LacunaError. */
  request(request: TransportRequest): Promise<TransportResponse>;
  close(): Promise<void>;
}

export interface TransportOptions {
  readonly tls: TlsOptions;
  readonly timeouts: Required<TimeoutOptions>;
  /** Resolver of host names. */
  readonly lookup: LookupFunction;
}

/**
 * Milliseconds: short enough to notice a dead peer soon, and every byte from a slow one starts the timeout again. While
 * connecting, the kernel repeats its SYN after 1, 3 and 7 s.
 */
export const DEFAULT_TIMEOUTS: Required<TimeoutOptions> = { connect: 8_000, headers: 60_000, body: 30_000 };

/** Minimum rate of an upload. Bytes per millisecond. */
const SLOWEST_UPLOAD = 16;

/** Maximum milliseconds until the head of a response, including the time for sending the request's body. */
export const headersTimeoutOf = (body: Buffer | null, timeouts: Required<TimeoutOptions>): number =>
  timeouts.headers + Math.ceil((body?.length ?? 0) / SLOWEST_UPLOAD);

/** Maximum connections to one host. Browsers use 6, registries allow far more; more than 16 rarely add throughput. */
export const CONNECTIONS_PER_HOST = 16;

/** Milliseconds that an idle connection stays open, below the 60 s after which common load balancers drop it. */
export const KEEP_ALIVE = 30_000;

/** Maximum bytes of a dropped body that are read to keep the connection; with a longer body it is closed. */
const DISCARD_LIMIT = 64 * 1024;

/** Drops a response's body. Never throws. */
export async function discard(response: TransportResponse): Promise<void> {
  let size = 0;
  try {
    for await (const piece of response.body) {
      size += piece.length;
      if (size > DISCARD_LIMIT) break;
    }
  } catch {
    // Errors of a dropped body do not matter.
  }
}

/** A transport's timeout. */
export class TransportTimeout extends Error {
  readonly code = 'ETIMEDOUT';
}

/** A transport's timeout for a connection. */
export class ConnectTimeout extends Error {
  readonly code = 'UND_ERR_CONNECT_TIMEOUT';
}

/** A proxy refused a tunnel to a host. The code contains its status, because node-fetch passes on only the code. */
export class ProxyRefusal extends Error {
  readonly code: string;

  constructor(status: number) {
    super('the proxy refused');
    this.code = `ERR_PROXY_${status}`;
  }
}

/** No connection was made, so nothing was sent: the host does not answer, or its name does not resolve. */
export class ConnectError extends LacunaError {
  readonly host: string;
  /** Whether another try is useless: the system has retried by itself, or the result is final. */
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

/** Code of a failed connection → its meaning, and a hint. */
const UNREACHABLE: Readonly<Record<string, readonly [meaning: string, hint: string | null]>> = {
  ECONNREFUSED: ['connection refused', 'is the registry running?'],
  ENOTFOUND: ['no such host', 'is the host name right?'],
  EAI_AGAIN: ['the name could not be looked up', 'is the host name right, and does DNS work?'],
  EHOSTUNREACH: ['host unreachable', null],
  ENETUNREACH: ['network unreachable', null],
  EHOSTDOWN: ['host down', null],
  LOOKUP_TIMEOUT: ['no name server answered in time', 'is the host name right, and does DNS work?'],
  UND_ERR_CONNECT_TIMEOUT: ['no connection in time', 'does a firewall block it? HTTPS_PROXY names a proxy'],
};
const DECIDED = new Set(['ENOTFOUND', 'LOOKUP_TIMEOUT', 'UND_ERR_CONNECT_TIMEOUT']);

const TIMEOUTS = new Set([
  ...['ETIMEDOUT', 'LOOKUP_TIMEOUT', 'UND_ERR_CONNECT_TIMEOUT'],
  ...['UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT'],
]);

/** TLS errors that a retry does not fix (Node's `tls` documentation, "X509 certificate error codes"). */
const CERTIFICATE =
  /^(CERT_|DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_|HOSTNAME_MISMATCH|ERR_TLS_CERT_ALTNAME_INVALID|INVALID_CA|PATH_LENGTH_EXCEEDED)/;

/** Errors of a peer that does not speak TLS, or no version or cipher that we accept. */
const NOT_TLS = /^(EPROTO|ERR_SSL_)/;

/** Text for codes that are not self-explanatory. */
const LABELS: Readonly<Record<string, string>> = {
  '': 'the connection failed',
  UND_ERR_SOCKET: 'the other side closed the connection',
  ECONNRESET: 'the other side closed the connection (ECONNRESET)',
};

/** Codes of requests whose transport was closed. */
const CLOSED = new Set(['UND_ERR_DESTROYED', 'UND_ERR_CLOSED']);

const HTTP_SYNTAX = /^(HPE_|UND_ERR_INVALID_ARG|UND_ERR_HEADERS_OVERFLOW|ERR_INVALID_CHAR)/;

/** The innermost code of an error, which transports and Node wrap. */
function codeOf(error: unknown, depth = 0): string {
  if (!(error instanceof Error) || depth > 4) return '';
  if (error instanceof AggregateError && error.errors.length > 0) return codeOf(error.errors[0], depth + 1);
  if ('code' in error && typeof error.code === 'string') return error.code;
  return codeOf(error.cause, depth + 1);
}

export const isAborted = (signal: AbortSignal | null): signal is AbortSignal => signal?.aborted === true;

/** The error of an operation whose signal was aborted: the signal's own reason where that is a LacunaError. */
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
 * Turns a transport's error into a LacunaError. The original is not kept as the cause: some quote the URL, whose query
 * may contain a secret.
 */
export function transportError(error: unknown, url: URL, op: string, subject: string): LacunaError {
  if (error instanceof LacunaError) return error;
  const code = codeOf(error);
  // These are bugs of ours, not errors of the network.
  if (code === '' && (error instanceof TypeError || error instanceof RangeError)) {
    return new LacunaError('INTERNAL', `${url.host}: ${error.name}`, { op, subject });
  }
  const proxy = proxyFor(url);
  const route = proxy === null ? url.host : `${url.host} through the proxy ${proxy.host}`;
  const refusal = proxyStatus(error, code);
  if (refusal !== null) return proxyRefused(refusal, route, { op, subject });
  if (Object.hasOwn(UNREACHABLE, code)) {
    const [meaning, question] = UNREACHABLE[code]!;
    const hint = proxy === null ? question : 'is the proxy in HTTPS_PROXY or HTTP_PROXY right?';
    return new ConnectError(TIMEOUTS.has(code) ? 'TIMEOUT' : 'UNAVAILABLE', `${route}: ${meaning} (${code})`, {
      op,
      subject,
      ...(hint === null ? {} : { hint }),
      host: url.host,
      isDecided: DECIDED.has(code),
    });
  }
  const label = LABELS[code] ?? code;
  const message = `${route}: ${label}`;
  if (CLOSED.has(code)) return new LacunaError('ABORTED', message, { op, subject });
  if (TIMEOUTS.has(code)) return new LacunaError('TIMEOUT', message, { op, subject });
  if (CERTIFICATE.test(code)) {
    const hint =
      'if the certificate is right, add its authority with --ca FILE (the option ca) or to those of the system';
    const problem = `${message}: its certificate is not trusted`;
    return new LacunaError('UNAVAILABLE', problem, { op, subject, hint, retryable: false });
  }
  if (NOT_TLS.test(code)) {
    const hint = 'if the registry speaks plain HTTP, use --plain-http (the option plainHttp)';
    return new LacunaError('UNAVAILABLE', message, { op, subject, hint, retryable: false });
  }
  if (HTTP_SYNTAX.test(code)) return new LacunaError('PROTOCOL', message, { op, subject });
  return new LacunaError('UNAVAILABLE', message, { op, subject });
}

/** The status with which a proxy refused a tunnel, which undici has only in the message; null for other errors. */
function proxyStatus(error: unknown, code: string): number | null {
  const text = error instanceof Error ? error.message : '';
  const match = /^ERR_PROXY_([0-9]+)$/.exec(code) ?? /^Proxy response \(([0-9]{3})\)/.exec(text);
  return match === null ? null : Number(match[1]);
}

/** The hint for a proxy that requires credentials. */
export const PROXY_LOGIN = 'name the proxy with user and password: http://USER:PASSWORD@HOST:PORT';

function proxyRefused(status: number, where: string, options: LacunaErrorOptions): LacunaError {
  if (status === 407) {
    const problem = `${where}: the proxy refused the credentials, or requires some`;
    return new LacunaError('UNAUTHORIZED', problem, { ...options, hint: PROXY_LOGIN });
  }
  const code = status === 403 ? 'FORBIDDEN' : 'UNAVAILABLE';
  return new LacunaError(code, `${where}: the proxy answered ${status}`, options);
}
