/** Responses of registries: bodies of bounded length, error responses as errors, and URLs without their secrets. */
import { type ErrorCode, LacunaError } from '../../errors.ts';
import { parseJson } from '../../image/json.ts';
import { printable } from '../../printable.ts';
import { redact } from '../../secrets.ts';
import { parseRetryAfter, ResponseError } from './retry.ts';
import { discard, PROXY_LOGIN, type TransportResponse, transportError } from './transport.ts';

/** A response with the URL that it came from, which after a redirect differs from the requested one. */
export interface RegistryResponse extends TransportResponse {
  readonly url: URL;
}

/** The operation that a request is part of, for messages. */
export interface RequestContext {
  /** Operation: `pull`, `push`, … */
  readonly op: string;
  /** Image or blob that the operation is about. */
  readonly subject: string;
}

export const MAX_ERROR_BODY = 64 * 1024;
const MAX_ERROR_TEXT = 300;

/**
 * A URL for messages and logs: without its query and user, which may contain tokens and signatures, and with secrets
 * that we sent removed from its path, where a redirect may repeat them.
 */
export const plainUrl = (url: URL): string => redact(url.origin + url.pathname);

/** The body in pieces. UNAVAILABLE or TIMEOUT when the connection breaks. */
export async function* bodyOf(response: RegistryResponse, { op, subject }: RequestContext): AsyncGenerator<Buffer> {
  try {
    yield* response.body;
  } catch (error) {
    throw transportError(error, response.url, op, subject);
  }
}

/** The whole body. A body longer than `limit` bytes is a PROTOCOL error, a cut one UNAVAILABLE. */
export async function readBody(
  response: RegistryResponse,
  limit: number,
  { op, subject }: RequestContext,
): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of bodyOf(response, { op, subject })) {
    size += piece.length;
    if (size > limit) {
      throw new LacunaError('PROTOCOL', `${plainUrl(response.url)} sent more than ${limit} bytes`, { op, subject });
    }
    pieces.push(piece);
  }
  return Buffer.concat(pieces, size);
}

/** `Content-Length` in bytes; null when absent. Throws PROTOCOL when it is not a number of bytes. */
export function contentLength(response: RegistryResponse, { op, subject }: RequestContext): number | null {
  const text = response.header('content-length');
  if (text === null) return null;
  // Several equal values count as one (RFC 9110 8.6).
  const [length = null, ...others] = new Set(text.split(',').map(readLength));
  if (length !== null && others.length === 0) return length;
  throw new LacunaError('PROTOCOL', `${plainUrl(response.url)} sent an invalid Content-Length`, {
    op,
    subject,
  });
}

/** The decimal number of bytes in a header; null when it is absent or anything else. */
export function readLength(text: string | null): number | null {
  const length = Number(text ?? Number.NaN);
  return /^[0-9]+$/.test(text?.trim() ?? '') && Number.isSafeInteger(length) ? length : null;
}

interface RemoteError {
  readonly code: string;
  readonly message: string;
}

/** Remote text for a message: one short line without secrets that we sent, which are removed before it is shortened. */
const lineOf = (text: string): string => printable(redact(text).replace(/\s+/g, ' ').trim()).slice(0, MAX_ERROR_TEXT);

/** The errors of an OCI error body (distribution-spec "Error Codes"); none when the body is anything else. */
async function remoteErrors(response: RegistryResponse, context: RequestContext): Promise<RemoteError[]> {
  if (response.status < 400) {
    await discard(response);
    return [];
  }
  try {
    const body = await readBody(response, MAX_ERROR_BODY, context);
    const document = parseJson(body, { ...context, limit: MAX_ERROR_BODY });
    if (typeof document !== 'object' || document === null || !('errors' in document)) return [];
    if (!Array.isArray(document.errors)) return [];
    const errors: unknown[] = document.errors.slice(0, 4);
    return errors
      .filter(
        (error): error is { code?: unknown; message?: unknown } =>
          typeof error === 'object' && error !== null && ('code' in error || 'message' in error),
      )
      .map(({ code, message }) => ({ code: lineOf(String(code ?? '')), message: lineOf(String(message ?? '')) }));
  } catch (error) {
    // The status must do where the body has no errors: an HTML page, a cut or an endless body.
    if (error instanceof LacunaError) return [];
    throw error;
  }
}

const BY_REMOTE_CODE: Readonly<Record<string, ErrorCode>> = {
  DENIED: 'FORBIDDEN',
  DIGEST_INVALID: 'DIGEST_MISMATCH',
  SIZE_INVALID: 'SIZE_MISMATCH',
  UNSUPPORTED: 'UNSUPPORTED',
};

function codeFor(status: number, remote: readonly RemoteError[]): ErrorCode {
  if (status === 401 || status === 407) return 'UNAUTHORIZED';
  if (status === 403) return 'FORBIDDEN';
  if (status === 404 || status === 410) return 'NOT_FOUND';
  if (status === 429) return 'RATE_LIMITED';
  if (status === 408) return 'TIMEOUT';
  if (status === 501) return 'UNSUPPORTED';
  if (status >= 500) return 'UNAVAILABLE';
  for (const { code } of remote) if (Object.hasOwn(BY_REMOTE_CODE, code)) return BY_REMOTE_CODE[code]!;
  return 'PROTOCOL';
}

function hintFor(code: ErrorCode): string | null {
  switch (code) {
    case 'UNAUTHORIZED':
      return 'log in with lacuna login or docker login; some registries also answer this when the repository does not exist';
    case 'FORBIDDEN':
      return 'the account that is logged in may not do this';
    case 'NOT_FOUND':
      return 'check the name and the tag';
    case 'RATE_LIMITED':
      return 'wait, or log in: registries limit anonymous clients more';
    default:
      return null;
  }
}

/** The text of one error; Artifactory sends errors without a code. */
const textOf = ({ code, message }: RemoteError): string =>
  code === '' || message === '' ? code || message : `${code} (${message})`;

/** Reads the body of a response with an unexpected status and makes an error of it. */
export async function responseError(response: RegistryResponse, context: RequestContext): Promise<ResponseError> {
  const { op, subject } = context;
  const remote = await remoteErrors(response, context);
  const code = codeFor(response.status, remote);
  const details = remote.map(textOf).join(', ');
  const hint = response.status === 407 ? PROXY_LOGIN : hintFor(code);
  const message = `${plainUrl(response.url)} answered ${response.status}${details === '' ? '' : `: ${details}`}`;
  return new ResponseError(code, message, {
    op,
    subject,
    ...(hint === null ? {} : { hint }),
    status: response.status,
    retryAfter: parseRetryAfter(response.header('retry-after')),
  });
}
