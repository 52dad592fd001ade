/** What a registry answered: bounded bodies, error answers as errors, and URLs without their secrets. */
import { type ErrorCode, LacunaError } from '../../errors.ts';
import { parseJson } from '../../image/json.ts';
import { printable } from '../../printable.ts';
import { redact } from '../../secrets.ts';
import { parseRetryAfter, ResponseError } from './retry.ts';
import { discard, PROXY_LOGIN, type TransportResponse, transportError } from './transport.ts';

/** A response and the URL that it came from, which is another one than asked for after a redirect. */
export interface RegistryResponse extends TransportResponse {
  readonly url: URL;
}

/** What an exchange is for, in messages. */
export interface RequestContext {
  /** `pull`, `push`, … */
  readonly op: string;
  /** The image or blob. */
  readonly subject: string;
}

export const MAX_ERROR_BODY = 64 * 1024;
const MAX_ERROR_TEXT = 300;

/**
 * A URL for messages and logs. Without query and user: they hold tokens and signatures; without what we sent, which a
 * redirect may have in its path.
 */
export const plainUrl = (url: URL): string => redact(url.origin + url.pathname);

/** The body in pieces; a broken one is UNAVAILABLE or TIMEOUT. */
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

/** `Content-Length`, null when absent. Throws PROTOCOL when it is not a length. */
export function contentLength(response: RegistryResponse, { op, subject }: RequestContext): number | null {
  const text = response.header('content-length');
  if (text === null) return null;
  // Sent twice, it is one length all the same (RFC 9110 8.6).
  const [length = null, ...others] = new Set(text.split(',').map(readLength));
  if (length !== null && others.length === 0) return length;
  throw new LacunaError('PROTOCOL', `${plainUrl(response.url)} sent a Content-Length that is not a length`, {
    op,
    subject,
  });
}

/** A header's decimal number of bytes, null when it is absent or anything else. */
export function readLength(text: string | null): number | null {
  const length = Number(text ?? Number.NaN);
  return /^[0-9]+$/.test(text?.trim() ?? '') && Number.isSafeInteger(length) ? length : null;
}

interface RemoteError {
  readonly code: string;
  readonly message: string;
}

/** Remote text for a message: one line, short, and without what we sent, which is looked for before anything is cut off. */
const lineOf = (text: string): string => printable(redact(text).replace(/\s+/g, ' ').trim()).slice(0, MAX_ERROR_TEXT);

/** The errors of an OCI error body (distribution-spec "Error Codes"), none when it is something else. */
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
    const rows: unknown[] = document.errors.slice(0, 4);
    return rows
      .filter(
        (row): row is { code?: unknown; message?: unknown } =>
          typeof row === 'object' && row !== null && ('code' in row || 'message' in row),
      )
      .map((row) => ({ code: lineOf(String(row.code ?? '')), message: lineOf(String(row.message ?? '')) }));
  } catch (error) {
    // The status says enough where the body does not: an HTML page, a cut or an endless body.
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
      return 'log in with lacuna login or docker login; some registries also answer so when the repository does not exist';
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

/** Artifactory has errors without a code. */
const wordsOf = ({ code, message }: RemoteError): string =>
  code === '' || message === '' ? code || message : `${code} (${message})`;

/** The error that an unexpected answer is. Reads its body. */
export async function responseError(response: RegistryResponse, context: RequestContext): Promise<ResponseError> {
  const { op, subject } = context;
  const remote = await remoteErrors(response, context);
  const code = codeFor(response.status, remote);
  const details = remote.map(wordsOf).join(', ');
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
