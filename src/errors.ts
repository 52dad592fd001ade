/**
 * Every error class and code of Lacuna, and the one table that turns a code into an exit code and a gRPC status.
 *
 * The code is the contract; the message is for people: what failed, the subject, and (where there is one) a hint.
 */
import { redact } from './secrets.ts';

/** Exit codes of the CLI. Documented in README; never renumbered. */
export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  notFound: 3,
  denied: 4,
  badData: 5,
  unavailable: 6,
  unsupported: 7,
  conflict: 8,
  interrupted: 130,
} as const;

interface CodeRow {
  readonly exit: number;
  /** gRPC status number, https://grpc.github.io/grpc/core/md_doc_statuscodes.html */
  readonly grpc: number;
  readonly retryable: boolean;
}

const row = (exit: number, grpc: number, retryable = false): CodeRow => ({ exit, grpc, retryable });

/** Code → exit code, gRPC status, and whether trying again can help. */
export const CODES = {
  /** An argument or option is wrong. */
  USAGE: row(EXIT.usage, 3),
  /** A configuration file is wrong. */
  CONFIG: row(EXIT.usage, 3),
  /** A reference does not parse. */
  REFERENCE: row(EXIT.usage, 3),
  NOT_FOUND: row(EXIT.notFound, 5),
  ALREADY_EXISTS: row(EXIT.conflict, 6),
  /** The state does not allow it (committed snapshot, parent not committed, still mounted). */
  PRECONDITION: row(EXIT.conflict, 9),
  /** Someone else holds the lock. */
  LOCKED: row(EXIT.conflict, 9),
  /** Credentials missing or refused. */
  UNAUTHORIZED: row(EXIT.denied, 16),
  FORBIDDEN: row(EXIT.denied, 7),
  /** Bytes do not hash to their digest, or a size differs from the one promised. */
  DIGEST_MISMATCH: row(EXIT.badData, 15),
  SIZE_MISMATCH: row(EXIT.badData, 15),
  /** Bytes that break their format: bootstrap, blob, tar, gzip, manifest. */
  FORMAT: row(EXIT.badData, 15),
  /** A registry answered something that breaks its protocol. */
  PROTOCOL: row(EXIT.badData, 13),
  /** Network failure, 5xx, cut body: trying again can help. */
  UNAVAILABLE: row(EXIT.unavailable, 14, true),
  RATE_LIMITED: row(EXIT.unavailable, 14, true),
  TIMEOUT: row(EXIT.unavailable, 4, true),
  /** Not possible here (kernel, missing addon, missing optional dependency) or not supported by this version. */
  UNSUPPORTED: row(EXIT.unsupported, 12),
  /** A system call failed. */
  SYSTEM: row(EXIT.failure, 13),
  ABORTED: row(EXIT.interrupted, 1),
  INTERNAL: row(EXIT.failure, 13),
} as const;

/** The code of a {@link LacunaError}: a key of {@link CODES}. */
export type ErrorCode = keyof typeof CODES;

/** Options of the constructor of {@link LacunaError}. */
export interface LacunaErrorOptions {
  /** The operation, e.g. `pull`, `read superblock`. */
  readonly op?: string;
  /** The object of the operation: a reference, a path, a digest. Never a secret. */
  readonly subject?: string;
  /** Advice for the user. */
  readonly hint?: string;
  /** Whether the same call can succeed later. Default: as {@link CODES} says for the code. */
  readonly retryable?: boolean;
  /** The error that led to this one. */
  readonly cause?: unknown;
}

/** The one base of all errors that Lacuna throws on purpose. */
export class LacunaError extends Error {
  /** The name of the class. */
  override readonly name: string = 'LacunaError';
  /** The kind of the error; programs decide by it. */
  readonly code: ErrorCode;
  /** The operation that failed; null when it is not known. */
  readonly op: string | null;
  /** Subject of the operation: a reference, a path, a digest. Null when it is not known. */
  readonly subject: string | null;
  /** Advice for the reader; null when there is none. */
  readonly hint: string | null;
  /** Whether the same call can succeed later. */
  readonly retryable: boolean;

  /** Secrets in the message, the subject and the hint are replaced. */
  constructor(code: ErrorCode, message: string, options: LacunaErrorOptions = {}) {
    super(redact(message), options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.op = options.op ?? null;
    this.subject = options.subject === undefined ? null : redact(options.subject);
    this.hint = options.hint === undefined ? null : redact(options.hint);
    this.retryable = options.retryable ?? CODES[code].retryable;
  }

  /** `code`, `message`, `op`, `subject`, `hint`: what `--json` prints for an error. */
  toJSON(): Record<string, unknown> {
    return { code: this.code, message: this.message, op: this.op, subject: this.subject, hint: this.hint };
  }
}

/** Bytes that break their format. Names the field and, where it has one, the byte offset. */
export class FormatError extends LacunaError {
  /** The name of the class. */
  override readonly name: string = 'FormatError';
  /** The field that is wrong, as its format names it. */
  readonly field: string;
  /** Its first byte in the subject; null in documents. */
  readonly offset: number | null;

  /** The code is FORMAT; the message is made of the field, the offset and the problem. */
  constructor(field: string, problem: string, options: LacunaErrorOptions & { readonly offset?: number } = {}) {
    const at = options.offset === undefined ? '' : ` at byte ${options.offset}`;
    super('FORMAT', `${field}${at}: ${problem}`, options);
    this.field = field;
    this.offset = options.offset ?? null;
  }
}

/**
 * Whether `error` is Lacuna's, also when two copies of the library are loaded. One of the native addon is, too, though it
 * has only a code and a text: {@link toLacunaError} completes it.
 */
export function isLacunaError(error: unknown): error is LacunaError {
  if (!(error instanceof Error) || !('code' in error)) return false;
  return typeof error.code === 'string' && Object.hasOwn(CODES, error.code);
}

/** Any thrown value as a LacunaError: aborts and system errors get their code, the rest is INTERNAL. */
export function toLacunaError(error: unknown, options: LacunaErrorOptions = {}): LacunaError {
  if (isLacunaError(error) && 'toJSON' in error) return error;
  if (!(error instanceof Error)) return new LacunaError('INTERNAL', String(error), options);
  const merged = { ...options, cause: error };
  if (isLacunaError(error)) return new LacunaError(error.code, error.message, merged);
  if (error.name === 'AbortError') return new LacunaError('ABORTED', 'aborted', merged);
  const code = 'code' in error ? String(error.code) : '';
  if (Object.hasOwn(SHORTAGES, code)) return shortage(code, error, merged);
  if (code === 'ENOENT') return new LacunaError('NOT_FOUND', error.message, merged);
  if (code === 'EACCES' || code === 'EPERM') return new LacunaError('FORBIDDEN', error.message, merged);
  if (/^E[A-Z0-9]+$/.test(code)) return new LacunaError('SYSTEM', error.message, merged);
  return new LacunaError('INTERNAL', error.message, merged);
}

/** Errors of exhausted or missing resources: problem and hint. */
const SHORTAGES: Readonly<Record<string, readonly [problem: string, hint: string]>> = {
  ENOSPC: [
    'no space left on the file system',
    'free space or inodes there (`df -h`, `df -i`), or choose another place',
  ],
  EDQUOT: ['the disk quota is used up', 'free space there, or raise the quota'],
  EROFS: ['the file system is read-only', 'choose a place that can be written to, or mount it writable'],
  EMFILE: ['this process has too many files open', 'raise its limit: `ulimit -n`, or LimitNOFILE= of its service'],
  ENFILE: ['this host has too many files open', 'raise fs.file-max'],
};

function shortage(code: string, error: Error, options: LacunaErrorOptions): LacunaError {
  const [problem, hint] = SHORTAGES[code]!;
  const path = 'path' in error && typeof error.path === 'string' ? { subject: error.path } : {};
  return new LacunaError('SYSTEM', problem, { hint, ...path, ...options });
}

/** A caller's function, such as `onProgress`, whose errors are told from ours. Does nothing when there is none. */
export function callback<A extends readonly unknown[]>(
  given: ((...values: A) => void) | undefined,
  name: string,
): (...values: A) => void {
  return (...values) => {
    try {
      given?.(...values);
    } catch (error) {
      throw toLacunaError(error, { op: 'call back', subject: name });
    }
  };
}

/** The exit code of the CLI for an error. */
export function exitCodeOf(error: unknown): number {
  return CODES[toLacunaError(error).code].exit;
}

/** The gRPC status number for an error. */
export function grpcStatusOf(error: unknown): number {
  return CODES[toLacunaError(error).code].grpc;
}
