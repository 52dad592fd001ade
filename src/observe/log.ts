/**
 * The one logger. Logs go to stderr: JSON lines for machines, one readable line each on a terminal.
 * Secrets never reach it: what may hold one is redacted by name, and callers pass subjects, not headers.
 */
import { createRequire } from 'node:module';
import type { DestinationStream, Logger } from 'pino';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent';
export const LOG_LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error', 'silent'];
export const DEFAULT_LOG_LEVEL: LogLevel = 'info';

/** What the rooms need of a logger; a library user may pass an own one. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface LogOptions {
  readonly level?: LogLevel;
  /** Which process speaks, e.g. `daemon`. */
  readonly name?: string;
  /** `auto`: text on a terminal, JSON elsewhere. */
  readonly format?: 'auto' | 'json' | 'text';
}

/** Field names whose values are never printed, at the top and one level down. */
const SECRET_FIELDS = ['password', 'authorization', 'token', 'identityToken', 'secret', 'credentials'];

/** pino is loaded by the first line that is written: most runs of a verb write none. */
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
  const text = format === 'text' || (format === 'auto' && process.stderr.isTTY === true);
  return pino(
    {
      level: options.level ?? DEFAULT_LOG_LEVEL,
      base: options.name === undefined ? {} : { name: options.name },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]),
    },
    text ? textDestination : pino.destination({ fd: 2, sync: true }),
  );
}

/** A logger that says nothing: the library's default. */
export const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {} };

const textDestination: DestinationStream = {
  write(line: string): void {
    const { level, time, name, msg, ...fields } = JSON.parse(line) as Record<string, unknown>;
    const clock = String(time).slice(11, 19);
    const details = Object.entries(fields).map(([key, value]) => `${key}=${describe(value)}`);
    const who = name === undefined ? '' : `${name}: `;
    process.stderr.write(`${clock} ${String(level).toUpperCase()} ${who}${msg} ${details.join(' ')}`.trimEnd());
    process.stderr.write('\n');
  },
};

function describe(value: unknown): string {
  if (typeof value === 'string') return /[\s"]/.test(value) ? JSON.stringify(value) : value;
  if (typeof value === 'object' && value !== null && 'message' in value) return JSON.stringify(value.message);
  return JSON.stringify(value);
}
