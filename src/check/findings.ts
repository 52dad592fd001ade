/** Problems of an image, collected: a check continues after each of them, so that one run reports all. */
import { type ErrorCode, FormatError, toLacunaError } from '../errors.ts';

/** `error`: a value is wrong, or readers will fail. `warning`: a value is unusual, but harmless to today's readers. */
export type Severity = 'error' | 'warning';

/** One problem that `check` found. */
export interface Problem {
  /** The error code that names the kind of problem. */
  readonly code: ErrorCode;
  /** Whether the value is wrong, or only unusual. */
  readonly severity: Severity;
  /** The object that has the problem: a manifest, a layer, `bootstrap`, `blob <id>`. */
  readonly subject: string;
  /** The field that is wrong, as its format names it. */
  readonly field: string;
  /** Offset of the field in the subject, in bytes; null in documents. */
  readonly offset: number | null;
  /** Path of the file in the image that the field belongs to; null when there is none. */
  readonly path: string | null;
  /** The problem, in one sentence. */
  readonly message: string;
  /** Advice for the user; null when there is none. */
  readonly hint: string | null;
}

export interface ProblemDetails {
  readonly code?: ErrorCode;
  readonly path?: string | null;
  readonly hint?: string;
}

/** Maximum number of listed problems; further ones are only counted. */
const MAX_PROBLEMS = 1000;
/** Maximum number of listed problems for one field of one subject, so that a million damaged records do not hide the rest. */
export const MAX_PER_FIELD = 100;

/** Codes of errors that the image causes. Network errors, refused access and internal errors are not problems of the image. */
const IMAGE_ERROR_CODES: ReadonlySet<ErrorCode> = new Set([
  'FORMAT',
  'DIGEST_MISMATCH',
  'SIZE_MISMATCH',
  'NOT_FOUND',
  'UNSUPPORTED',
  'PROTOCOL',
]);

/** The list that all `Findings` of one check share. */
interface Collected {
  readonly problems: Problem[];
  readonly perField: Map<string, number>;
  errors: number;
  warnings: number;
}

/** Records problems of one subject in the list of the whole check. */
export class Findings {
  readonly subject: string;
  readonly #all: Collected;

  constructor(subject: string, all?: Findings) {
    this.subject = subject;
    this.#all = all === undefined ? { problems: [], perField: new Map(), errors: 0, warnings: 0 } : all.#all;
  }

  /** Findings of another subject, recorded in the same list. */
  forSubject(subject: string): Findings {
    return new Findings(subject, this);
  }

  error(field: string, offset: number | null, message: string, details: ProblemDetails = {}): void {
    this.#add('error', field, offset, message, details);
  }

  warning(field: string, offset: number | null, message: string, details: ProblemDetails = {}): void {
    this.#add('warning', field, offset, message, details);
  }

  /** Records an error as a problem if the image causes it; throws any other error again. */
  recordError(error: unknown, field: string, offset: number | null = null, details: ProblemDetails = {}): void {
    const failure = toLacunaError(error);
    if (!IMAGE_ERROR_CODES.has(failure.code)) throw error;
    const { code, hint } = failure;
    const place = failure instanceof FormatError ? failure : null;
    this.#add('error', place?.field ?? field, offset ?? place?.offset ?? null, failure.message, {
      code,
      ...(hint === null ? {} : { hint }),
      ...details,
    });
  }

  get errors(): number {
    return this.#all.errors;
  }

  get warnings(): number {
    return this.#all.warnings;
  }

  /** All problems, by subject in the order of first use, then by offset and field. */
  sorted(): Problem[] {
    const order = new Map<string, number>();
    for (const { subject } of this.#all.problems) if (!order.has(subject)) order.set(subject, order.size);
    return this.#all.problems.toSorted(
      (a, b) =>
        order.get(a.subject)! - order.get(b.subject)! ||
        (a.offset ?? -1) - (b.offset ?? -1) ||
        (a.field < b.field ? -1 : a.field > b.field ? 1 : 0),
    );
  }

  #add(severity: Severity, field: string, offset: number | null, message: string, details: ProblemDetails): void {
    const all = this.#all;
    if (severity === 'error') all.errors++;
    else all.warnings++;
    const key = `${this.subject}\0${field}`;
    const before = all.perField.get(key) ?? 0;
    all.perField.set(key, before + 1);
    if (all.problems.length >= MAX_PROBLEMS || before >= MAX_PER_FIELD) return;
    const { code = 'FORMAT', path = null, hint = null } = details;
    all.problems.push({ code, severity, subject: this.subject, field, offset, path, message, hint });
  }
}
