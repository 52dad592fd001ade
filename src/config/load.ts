/** TOML text → {@link Config}. `version = 1`, snake_case; an unknown key is an error with a suggestion. */
import { readFile } from 'node:fs/promises';
import { parse } from 'smol-toml';
import { LacunaError } from '../errors.ts';
import { type Config, SECTIONS } from './table.ts';
import { DURATION_UNITS, parseUnit, SIZE_UNITS, type Units } from './units.ts';

export const CONFIG_VERSION = 1;

/** Every key at its default. */
export function defaultConfig(): Config {
  return configOf({}, 'defaults');
}

/** Reads and checks the file at `path`. */
export async function loadConfig(path: string): Promise<Config> {
  return parseConfig(await readFile(path, 'utf8'), path);
}

/** `subject` names the file in errors. */
export function parseConfig(source: string, subject: string): Config {
  let document: Record<string, unknown>;
  try {
    document = parse(source);
  } catch (cause) {
    throw new LacunaError('CONFIG', cause instanceof Error ? cause.message : String(cause), {
      op: 'read configuration',
      subject,
      cause,
    });
  }
  const { version, ...sections } = document;
  if (version !== CONFIG_VERSION) {
    throw problem(subject, 'version', `must be ${CONFIG_VERSION}`, 'put `version = 1` on the first line');
  }
  return configOf(sections, subject);
}

/** The sample file: every key with its meaning and default, commented out. */
export function sampleConfig(): string {
  const lines = [`version = ${CONFIG_VERSION}`];
  for (const [section, keys] of Object.entries(SECTIONS)) {
    lines.push('', `[${section}]`);
    for (const [name, key] of Object.entries(keys)) {
      lines.push(`# ${key.doc}`, `# ${name} = ${sampleValue(key.type, key.default)}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

function configOf(document: Record<string, unknown>, subject: string): Config {
  refuseUnknown(document, Object.keys(SECTIONS), '', subject);
  const result: Record<string, Record<string, unknown>> = {};
  for (const [section, keys] of Object.entries(SECTIONS)) {
    const given = document[section] ?? {};
    if (typeof given !== 'object' || Array.isArray(given)) throw problem(subject, section, 'must be a table', null);
    const values = given as Record<string, unknown>;
    refuseUnknown(values, Object.keys(keys), `${section}.`, subject);
    result[section] = {};
    for (const [name, key] of Object.entries(keys)) {
      const value = values[name];
      result[section][name] =
        value === undefined ? key.default : checkedValue(key.type, value, `${section}.${name}`, subject);
    }
  }
  return result as unknown as Config;
}

function checkedValue(type: string, value: unknown, name: string, subject: string): unknown {
  switch (type) {
    case 'size':
      return withUnit(value, SIZE_UNITS, name, subject, '"256KiB"');
    case 'duration':
      return withUnit(value, DURATION_UNITS, name, subject, '"30s"');
    case 'count':
      if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 1) return value;
      throw problem(subject, name, 'must be a whole number of at least 1', null);
    case 'boolean':
      if (typeof value === 'boolean') return value;
      throw problem(subject, name, 'must be true or false', null);
    case 'text':
      if (typeof value === 'string') return value;
      throw problem(subject, name, 'must be a string', null);
    default:
      if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value;
      throw problem(subject, name, 'must be a list of strings', null);
  }
}

function withUnit(value: unknown, units: Units, name: string, subject: string, example: string): number {
  const result = typeof value === 'string' ? parseUnit(value, units) : null;
  if (result !== null) return result;
  throw problem(
    subject,
    name,
    'must be a string with a unit',
    `one of ${Object.keys(units).join(', ')}, as in ${example}`,
  );
}

function refuseUnknown(
  given: Record<string, unknown>,
  known: readonly string[],
  prefix: string,
  subject: string,
): void {
  for (const name of Object.keys(given)) {
    if (known.includes(name)) continue;
    const near = known.toSorted((a, b) => distance(a, name) - distance(b, name))[0];
    throw problem(
      subject,
      `${prefix}${name}`,
      'is not a known key',
      near === undefined ? null : `did you mean ${prefix}${near}?`,
    );
  }
}

function problem(subject: string, name: string, what: string, hint: string | null): LacunaError {
  return new LacunaError('CONFIG', `${name} ${what}`, {
    op: 'read configuration',
    subject,
    ...(hint === null ? {} : { hint }),
  });
}

/** Levenshtein distance, for suggestions only. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length]!;
}

function sampleValue(type: string, value: unknown): string {
  if (type === 'size') return `"${Number(value) / 1024}KiB"`;
  if (type === 'duration') return `"${Number(value) / 1000}s"`;
  return JSON.stringify(value);
}
