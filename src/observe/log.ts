/**
 * The one logger. Logs go to stderr or a file: a readable line each, or JSON lines for machines.
 * Secrets never reach it: what may hold one is redacted by name, what was sent to a registry wherever it comes back, and
 * callers pass subjects, not headers.
 */
import { createRequire } from 'node:module';
import type { Logger } from 'pino';
import { toLacunaError } from '../errors.ts';
import { printable, printableName } from '../printable.ts';
import { redact } from '../secrets.ts';
import { openLogFile } from './log-file.ts';
import { screen } from './screen.ts';
import { paint } from './style.ts';

/** The lowest level that is logged; `silent` logs nothing. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent';
export const LOG_LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error', 'silent'];
export const DEFAULT_LOG_LEVEL: LogLevel = 'info';

/** How log lines are written: text for people, or one JSON document per line. */
export type LogFormat = 'text' | 'json';
export const LOG_FORMATS: readonly LogFormat[] = ['text', 'json'];
/** Of the programs. */
export const DEFAULT_LOG_FORMAT: LogFormat = 'text';

/** The logger that modules use; a user of the library may pass one. */
export interface Log {
  /** Logs details for the search of a fault. */
  debug(fields: object, message: string): void;
  /** Logs an ordinary event. */
  info(fields: object, message: string): void;
  /** Logs something that an operator should look at. */
  warn(fields: object, message: string): void;
  /** Logs a failure. */
  error(fields: object, message: string): void;
}

/** Options of {@link openLog}. */
export interface LogOptions {
  /** The lowest level that is written. Default `info`. */
  readonly level?: LogLevel;
  /** Name of the process, e.g. `daemon`. */
  readonly name?: string;
  /** `auto`, the default: text on a terminal, JSON elsewhere. */
  readonly format?: LogFormat | 'auto';
  /** Path of a file of bounded size; default: standard error. */
  readonly file?: string;
}

/** Field names whose values are never printed, at the top and one level down. */
const SECRET_FIELDS = ['password', 'authorization', 'token', 'identityToken', 'secret', 'credentials'];

/** pino is loaded by the first line that is written: most runs of a command write none. */
export function openLog(options: LogOptions = {}): Log {
  const lowest = LOG_LEVELS.indexOf(options.level ?? DEFAULT_LOG_LEVEL);
  let logger: Logger | null = null;
  const write = (level: keyof Log) => (fields: object, message: string) => {
    if (LOG_LEVELS.indexOf(level) < lowest) return;
    logger ??= openPino(options);
    logger[level](fields, message);
  };
  return { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') };
}

function openPino(options: LogOptions): Logger {
  const { pino } = createRequire(import.meta.url)('pino') as typeof import('pino');
  const format = options.format ?? 'auto';
  const file = options.file === undefined ? null : openLogFile(options.file);
  const print = (line: string): void => (file === null ? screen.print(line) : file.write(line));
  const isText = format === 'text' || (format === 'auto' && process.stderr.isTTY === true);
  return pino(
    {
      level: options.level ?? DEFAULT_LOG_LEVEL,
      base: options.name === undefined ? {} : { name: options.name },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]),
    },
    { write: (line: string) => print((isText ? textLine : jsonLine)(recordOf(line))) },
  );
}

/** A logger without output: the library's default. */
export const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {} };

/** Number of causes that a row names. */
const MAX_CAUSES = 8;

/** An error as a field of a log line: code, message, op, subject, hint, the messages of its causes, and its stack. */
export function errorRow(thrown: unknown): Record<string, unknown> {
  const causes: string[] = [];
  let cause = thrown instanceof Error ? thrown.cause : undefined;
  for (; cause instanceof Error && causes.length < MAX_CAUSES; cause = cause.cause) causes.push(cause.message);
  return {
    ...toLacunaError(thrown).toJSON(),
    ...(causes.length === 0 ? {} : { causes }),
    stack: thrown instanceof Error ? thrown.stack : undefined,
  };
}

const STYLES: Readonly<Record<string, Parameters<typeof paint>[0]>> = { warn: 'yellow', error: 'red', debug: 'dim' };

/** Redacts each string, not the finished line: a secret of digits may be part of a number, which must stay valid. */
function withoutSecrets(value: unknown): unknown {
  if (typeof value === 'string') return redact(value);
  if (Array.isArray(value)) return value.map(withoutSecrets);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [redact(key), withoutSecrets(field)]));
}

const recordOf = (line: string): Record<string, unknown> => withoutSecrets(JSON.parse(line)) as Record<string, unknown>;

const jsonLine = (record: Record<string, unknown>): string => `${printable(JSON.stringify(record))}\n`;

/** `2026-01-31T12:00:00.000Z WARN  daemon: message field=value`. */
function textLine({ level, time, name, msg, ...fields }: Record<string, unknown>): string {
  const word = String(level).toUpperCase().padEnd(5);
  const style = STYLES[String(level)];
  const details = Object.entries(fields).map(([key, value]) => `${key}=${describe(value)}`);
  const who = name === undefined ? '' : `${name}: `;
  const text = printable([`${who}${msg}`, ...details].join(' '));
  return `${time} ${style === undefined ? word : paint(style, word)} ${text}\n`;
}

function describe(value: unknown): string {
  if (typeof value === 'string') return /[\s"]/.test(value) ? JSON.stringify(value) : printableName(value);
  if (typeof value === 'object' && value !== null && 'message' in value) return JSON.stringify(textOf(value));
  return JSON.stringify(value);
}

/** The message and its causes that it does not repeat; the stack is for machines. */
function textOf(error: { readonly message: unknown; readonly causes?: unknown }): string {
  const message = String(error.message);
  const causes = Array.isArray(error.causes) ? error.causes.map(String) : [];
  return [message, ...causes.filter((cause) => !message.includes(cause))].join(': ');
}
