/** TOML text → {@link Config}. `version = 1`, snake_case; an unknown key is an error with a suggestion. */
import { parse, TomlError } from 'smol-toml';
import { LacunaError } from '../errors.ts';
import { readNamed } from '../open-file.ts';
import { checkCertificates } from './certificates.ts';
import { didYouMean, OP, problem, reasonOf } from './problem.ts';
import { type Config, SECTIONS } from './table.ts';
import { checkedValue, wordValue } from './values.ts';

const CONFIG_VERSION = 1;

/** Bytes. */
export const MAX_CONFIG_FILE = 1024 * 1024;

/** Every key at its default. */
export function defaultConfig(): Config {
  return configOf({}, 'defaults');
}

/** Reads and checks the file at `path`, and the files that it names. CONFIG, with the key, when one is wrong. */
export async function loadConfig(path: string): Promise<Config> {
  const source = await readNamed(path, MAX_CONFIG_FILE, { op: OP }).catch((cause: NodeJS.ErrnoException) => {
    throw new LacunaError('CONFIG', `cannot be read: ${reasonOf(cause)}`, { op: OP, subject: path, cause });
  });
  const config = parseConfig(source, path);
  await checkCertificates(config.registry.ca, path);
  return config;
}

/** `subject` names the file in errors. */
export function parseConfig(source: string, subject: string): Config {
  let document: Record<string, unknown>;
  try {
    document = parse(source);
  } catch (cause) {
    throw tomlProblem(cause, subject);
  }
  const { version, ...sections } = document;
  if (version !== CONFIG_VERSION) {
    throw problem(subject, 'version', `must be ${CONFIG_VERSION}`, 'put `version = 1` on the first line');
  }
  return configOf(sections, subject);
}

/** Only the first line: the parser's message continues with an excerpt of the source. */
function tomlProblem(cause: unknown, subject: string): LacunaError {
  const place = cause instanceof TomlError ? `line ${cause.line}, column ${cause.column}: ` : '';
  const [first = ''] = (cause instanceof Error ? cause.message : String(cause)).split('\n');
  return new LacunaError('CONFIG', `${place}${first}`, { op: OP, subject, cause });
}

/** The sample file: every key with its meaning and default, commented out. */
export function sampleConfig(): string {
  const lines = [`version = ${CONFIG_VERSION}`];
  for (const [section, keys] of Object.entries(SECTIONS)) {
    lines.push('', `[${section}]`);
    for (const [name, key] of Object.entries(keys)) {
      lines.push(`# ${key.doc}`, `# ${name} = ${wordValue(key.type, key.default)}`);
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
        value === undefined ? key.default : checkedValue(key, value, `${section}.${name}`, subject);
    }
  }
  return result as unknown as Config;
}

function refuseUnknown(
  given: Record<string, unknown>,
  valid: readonly string[],
  prefix: string,
  subject: string,
): void {
  for (const name of Object.keys(given)) {
    if (valid.includes(name)) continue;
    const all = `valid keys: ${valid.join(', ')}`;
    throw problem(subject, `${prefix}${name}`, 'is not a valid key', didYouMean(name, valid, prefix) ?? all);
  }
}
