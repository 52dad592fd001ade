/**
 * Lacuna errors ↔ gRPC statuses. The status number is for any client (containerd looks only at it); the code, subject
 * and hint travel in one metadata entry, so that an error that crossed a socket is the same error.
 */
import { Metadata, type ServiceError } from '@grpc/grpc-js';
import { CODES, type ErrorCode, grpcStatusOf, LacunaError, toLacunaError } from '../errors.ts';
import { printable } from '../printable.ts';

/** `-bin`: grpc allows only printable ASCII in other metadata, and a path may hold anything. */
const DETAIL_KEY = 'lacuna-error-bin';

/** The error that a handler passes to grpc-js's callback. */
export interface Status {
  code: number;
  details: string;
  metadata: Metadata;
}

/** Any thrown value as a gRPC status. Clients print its details as they are, and know of nothing else. */
export function toStatus(thrown: unknown): Status {
  const error = toLacunaError(thrown);
  const metadata = new Metadata();
  const { code, op, subject, hint } = error;
  metadata.set(DETAIL_KEY, Buffer.from(JSON.stringify({ code, op, subject, hint })));
  return { code: grpcStatusOf(error), details: printable(error.message + inBrackets(hint)), metadata };
}

const inBrackets = (hint: string | null | undefined): string => (hint ? ` (${hint})` : '');

/** gRPC status numbers as error codes, where the other side is not ours. The first code of a number stands for it. */
const BY_STATUS: Record<number, ErrorCode> = {
  1: 'ABORTED',
  3: 'USAGE',
  4: 'TIMEOUT',
  5: 'NOT_FOUND',
  6: 'ALREADY_EXISTS',
  7: 'FORBIDDEN',
  8: 'RATE_LIMITED',
  9: 'PRECONDITION',
  12: 'UNSUPPORTED',
  14: 'UNAVAILABLE',
  15: 'FORMAT',
  16: 'UNAUTHORIZED',
};

interface Detail {
  code: ErrorCode;
  op?: string;
  subject?: string;
  hint?: string;
}

function detailOf(error: ServiceError): Detail | null {
  const value = error.metadata?.get(DETAIL_KEY)[0];
  if (!Buffer.isBuffer(value)) return null;
  const parsed: unknown = JSON.parse(value.toString('utf8'));
  if (typeof parsed !== 'object' || parsed === null || !('code' in parsed)) return null;
  const fields = parsed as Record<string, unknown>;
  if (typeof fields.code !== 'string' || !Object.hasOwn(CODES, fields.code)) return null;
  const detail: Detail = { code: fields.code as ErrorCode };
  for (const key of ['op', 'subject', 'hint'] as const) {
    const text = fields[key];
    if (typeof text === 'string') detail[key] = text;
  }
  return detail;
}

/** The error of a failed call. `op` and `subject` say what was called where the other side did not. */
export function fromStatus(error: ServiceError, options: { op?: string; subject?: string } = {}): LacunaError {
  let detail: Detail | null = null;
  try {
    detail = detailOf(error);
  } catch {
    // Metadata that is not ours says nothing; the status number remains.
  }
  const { code, ...said }: Detail = detail ?? { code: BY_STATUS[error.code] ?? 'INTERNAL' };
  const message = error.details || error.message;
  const hint = printable(inBrackets(said.hint));
  const own = message.endsWith(hint) ? message.slice(0, message.length - hint.length) : message;
  return new LacunaError(code, own, { ...options, ...said, cause: error });
}
