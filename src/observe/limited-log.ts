/** A rate-limited log: a hostile image cannot fill it with repetitions. */
import type { Log } from './log.ts';

/** Maximum lines of one kind in a period. */
const BURST = 10;
/** Milliseconds. */
const PERIOD = 60_000;
/** Maximum distinct kinds in a period; all further ones count as one kind. */
export const MAX_KINDS = 1000;

const OTHERS = { subject: {}, message: 'other messages' };

/** Fields that identify the subject of a line, in this order; chunks, offsets and errors differ from line to line. */
const SUBJECTS = ['image', 'blob', 'subject', 'host', 'device'] as const;

type Level = keyof Log;

interface Kind {
  lines: number;
  readonly level: Level;
  readonly subject: object;
  readonly message: string;
}

/**
 * Passes on {@link BURST} lines of each kind a minute, and at the minute's end one with the number of those that were left
 * out. Of one kind are lines of equal message, numbers aside, about the same subject.
 */
export function limitedLog(log: Log, { burst = BURST, period = PERIOD } = {}): Log {
  const kinds = new Map<string, Kind>();
  const end = (): void => {
    for (const { lines, level, subject, message } of kinds.values()) {
      if (lines > burst) log[level]({ ...subject, omitted: lines - burst }, `${message} (repeated)`);
    }
    kinds.clear();
  };
  const write = (level: Level) => (fields: object, message: string) => {
    const subject = subjectOf(fields);
    const name = [level, message.replaceAll(/\d+/g, '#'), ...Object.values(subject)].join(' ');
    const isTold = kinds.has(name) || kinds.size < MAX_KINDS;
    const key = isTold ? name : level;
    const kind = kinds.get(key) ?? { lines: 0, level, ...(isTold ? { subject, message } : OTHERS) };
    if (kinds.size === 0) setTimeout(end, period).unref();
    kinds.set(key, kind);
    kind.lines++;
    if (kind.lines <= burst) log[level](fields, message);
  };
  // Debug lines are not limited.
  return {
    debug: (fields, message) => log.debug(fields, message),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
  };
}

function subjectOf(fields: object): Record<string, unknown> {
  const present = new Map(Object.entries(fields));
  const name = SUBJECTS.find((field) => present.has(field));
  return name === undefined ? {} : { [name]: present.get(name) };
}
