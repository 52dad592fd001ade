/**
 * containerd's filter language (its package `filters`), which selects snapshots of a list:
 *
 *     selectors := selector ("," selector)*
 *     selector  := fieldpath (operator value)?
 *     fieldpath := field ("." field)*
 *     field     := quoted | [A-Za-z0-9_]+
 *     operator  := "==" | "!=" | "~="
 *     value     := quoted | [^\s,]+
 */
import { LacunaError } from '../errors.ts';
import type { SnapshotInfo } from './info.ts';

export type Filter = (info: SnapshotInfo) => boolean;

/** A test that passes what any of `filters` matches; everything when there are none. USAGE when one does not parse. */
export function parseFilters(filters: readonly string[]): Filter {
  if (filters.length === 0) return () => true;
  const parsed = filters.map(parseFilter);
  return (info) => parsed.some((filter) => filter(info));
}

const FIELD = /[A-Za-z0-9_]+/y;
const QUOTED = /"(?:[^"\\\n]|\\.)*"/y;
/** Regular expressions may also be quoted with slashes or bars, so that backslashes need no doubling. */
const REGEXP_QUOTED = /\/(?:[^/\\\n]|\\.)*\/|\|(?:[^|\\\n]|\\.)*\|/y;
const OPERATOR = /[=!~]+/y;
const VALUE = /[^\s,]+/y;
const SPACE = /\s*/y;

function parseFilter(text: string): Filter {
  if (text === '') return () => true;
  const scanner = new Scanner(text);
  const selectors = [parseSelector(scanner)];
  while (scanner.skip(',')) selectors.push(parseSelector(scanner));
  if (!scanner.atEnd()) scanner.fail('unexpected input');
  return (info) => selectors.every((selector) => selector(info));
}

function parseSelector(scanner: Scanner): Filter {
  const path = [parseField(scanner)];
  while (scanner.skip('.')) path.push(parseField(scanner));
  if (scanner.atEnd() || scanner.sees(',')) return (info) => fieldOf(info, path) !== null;
  const operator = scanner.take(OPERATOR);
  switch (operator) {
    case '==': {
      const value = parseValue(scanner);
      return (info) => fieldOf(info, path) === value;
    }
    case '!=': {
      const value = parseValue(scanner);
      return (info) => (fieldOf(info, path) ?? '') !== value;
    }
    case '~=': {
      const pattern = parsePattern(scanner);
      return (info) => pattern.test(fieldOf(info, path) ?? '');
    }
    default:
      return scanner.fail('expected an operator ("==", "!=", "~=")');
  }
}

function parseField(scanner: Scanner): string {
  const quoted = scanner.take(QUOTED);
  if (quoted !== null) return unquote(quoted, scanner);
  return scanner.take(FIELD) ?? scanner.fail('expected a field or a quoted field');
}

function parseValue(scanner: Scanner): string {
  const quoted = scanner.take(QUOTED);
  if (quoted !== null) return unquote(quoted, scanner);
  return scanner.take(VALUE) ?? scanner.fail('expected a value or a quoted value');
}

function parsePattern(scanner: Scanner): RegExp {
  const quoted = scanner.take(REGEXP_QUOTED);
  const source = quoted === null ? parseValue(scanner) : quoted.slice(1, -1).replaceAll(`\\${quoted[0]}`, quoted[0]!);
  try {
    return new RegExp(source);
  } catch (error) {
    return scanner.fail((error as Error).message);
  }
}

/** JSON lacks Go's octal, `\x`, `\U`, `\a` and `\v` string escapes; containerd sends none of them. */
function unquote(quoted: string, scanner: Scanner): string {
  try {
    return JSON.parse(quoted.replaceAll(/\\x([0-9a-fA-F]{2})/g, '\\u00$1')) as string;
  } catch {
    return scanner.fail(`illegal escape in ${quoted}`);
  }
}

class Scanner {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  take(pattern: RegExp): string | null {
    this.#skipSpace();
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0] ?? null;
    this.#at += found?.length ?? 0;
    return found;
  }

  sees(character: string): boolean {
    this.#skipSpace();
    return this.#text[this.#at] === character;
  }

  skip(character: string): boolean {
    const found = this.sees(character);
    if (found) this.#at++;
    return found;
  }

  atEnd(): boolean {
    this.#skipSpace();
    return this.#at >= this.#text.length;
  }

  fail(problem: string): never {
    throw new LacunaError('USAGE', `filter: ${problem} at character ${this.#at}`, { subject: this.#text });
  }

  #skipSpace(): void {
    SPACE.lastIndex = this.#at;
    this.#at += SPACE.exec(this.#text)?.[0].length ?? 0;
  }
}

/** Null: the snapshot has no such field. A snapshot without a parent has an empty one (as in containerd). */
function fieldOf(info: SnapshotInfo, path: readonly string[]): string | null {
  switch (path[0]) {
    case 'kind':
      return info.kind;
    case 'name':
      return info.name;
    case 'parent':
      return info.parent;
    case 'labels': {
      const key = path.slice(1).join('.');
      return Object.hasOwn(info.labels, key) ? info.labels[key]! : null;
    }
    default:
      return null;
  }
}
