/** Errors of configuration files. */
import { LacunaError } from '../errors.ts';
import { nearest } from '../suggest.ts';

export const OP = 'read configuration';

/** A CONFIG error. The message is the key `name` followed by `what`. */
export function problem(
  subject: string,
  name: string,
  what: string,
  hint: string | null,
  cause?: unknown,
): LacunaError {
  return new LacunaError('CONFIG', `${name} ${what}`, { op: OP, subject, cause, ...(hint === null ? {} : { hint }) });
}

/** Node's text without its code and system call: `no such file or directory '/x'`. */
export const reasonOf = ({ message }: NodeJS.ErrnoException): string =>
  message.replace(/^E[A-Z]+: /, '').replace(/, [a-z]+( |$)/, '$1');

/** A hint when one of the valid words is similar. */
export function didYouMean(word: unknown, valid: readonly unknown[], prefix = ''): string | null {
  const near = nearest(String(word), valid.map(String));
  return near === null ? null : `did you mean ${prefix}${near}?`;
}
