/** A log in which nothing repeats itself without end: what a hostile image makes happen is told, but not each time. */
import type { Log } from './log.ts';

/** Lines of one kind that a period has. */
const BURST = 10;
/** Milliseconds. */
const PERIOD = 60_000;
/** Kinds that are told from each other; what comes beyond them in a period counts as one more. */
export const MAX_KINDS = 1000;

const OTHERS = { subject: {}, message: 'other messages' };

/** What a line is about, in this order; chunks, offsets and errors differ from line to line. */
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
  // Who asks for debug lines wants all of them.
  return {
    debug: (fields, message) => log.debug(fields, message),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
  };
}

function subjectOf(fields: object): Record<string, unknown> {
  const known = new Map(Object.entries(fields));
  const name = SUBJECTS.find((field) => known.has(field));
  return name === undefined ? {} : { [name]: known.get(name) };
}
