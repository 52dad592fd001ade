/** Errors of configuration files. */
import { LacunaError } from '../errors.ts';
import { nearest } from '../suggest.ts';

export const OP = 'read configuration';

/** CONFIG: `name` is a key, `what` goes on with the sentence. */
export function problem(
  subject: string,
  name: string,
  what: string,
  hint: string | null,
  cause?: unknown,
): LacunaError {
  return new LacunaError('CONFIG', `${name} ${what}`, { op: OP, subject, cause, ...(hint === null ? {} : { hint }) });
}

/** Node's text without its code and system call, which people need not know: `no such file or directory '/x'`. */
export const reasonOf = ({ message }: NodeJS.ErrnoException): string =>
  message.replace(/^E[A-Z]+: /, '').replace(/, [a-z]+( |$)/, '$1');

/** A hint, where one of the known words is near. */
export function didYouMean(word: unknown, known: readonly unknown[], prefix = ''): string | null {
  const near = nearest(String(word), known.map(String));
  return near === null ? null : `did you mean ${prefix}${near}?`;
}
