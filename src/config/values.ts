/** Values of the configuration: checked, and written out again for samples and messages. */
import { didYouMean, problem } from './problem.ts';
import type { Key } from './table.ts';
import { DURATION_UNITS, parseDuration, parseSize, SIZE_FORMS } from './units.ts';

/** The value in bytes, milliseconds or as it is; CONFIG when it is not one of the key's. */
export function checkedValue(key: Key<unknown>, value: unknown, name: string, subject: string): unknown {
  switch (key.type) {
    case 'size':
      return inRange(key, withUnit(parseSize, value, name, subject, SIZE_FORMS), name, subject);
    case 'duration':
      return inRange(key, withUnit(parseDuration, value, name, subject, DURATION_FORMS), name, subject);
    case 'count':
      if (typeof value === 'number' && Number.isSafeInteger(value)) return inRange(key, value, name, subject);
      throw problem(subject, name, `must be a whole number of at least ${key.least}`, null);
    case 'boolean':
      if (typeof value === 'boolean') return value;
      throw problem(subject, name, 'must be true or false', null);
    case 'text':
      if (typeof value === 'string') return value;
      throw problem(subject, name, 'must be a string', null);
    case 'choice':
      if (key.choices!.includes(value)) return value;
      throw problem(subject, name, `must be one of ${key.choices!.join(', ')}`, didYouMean(value, key.choices!));
    case 'texts':
      if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value;
      throw problem(subject, name, 'must be a list of strings', null);
  }
}

const DURATION_FORMS = `${Object.keys(DURATION_UNITS).join(', ')}, as in "30s"`;

/** A bare number is refused, because its unit would be a guess. */
function withUnit(
  parseText: (text: string) => number | null,
  value: unknown,
  name: string,
  subject: string,
  forms: string,
): number {
  const result = typeof value === 'string' && /[a-z]/i.test(value) ? parseText(value) : null;
  if (result !== null) return result;
  throw problem(subject, name, 'must be a string with a unit', forms);
}

/** Checks the bounds of the key. */
function inRange(key: Key<unknown>, value: number, name: string, subject: string): number {
  const { type, least, most } = key;
  const whole = type === 'count' ? 'a whole number of ' : '';
  if (value < least!) throw problem(subject, name, `must be ${whole}at least ${wordValue(type, least)}`, null);
  if (value > most!) throw problem(subject, name, `must be ${whole}at most ${wordValue(type, most)}`, null);
  return value;
}

/** As it stands in a file. */
export function wordValue(type: string, value: unknown): string {
  if (type === 'size') return `"${Number(value) / 1024}KiB"`;
  if (type === 'duration') return Number(value) < 1000 ? `"${value}ms"` : `"${Number(value) / 1000}s"`;
  return JSON.stringify(value);
}
