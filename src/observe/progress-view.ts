/** The two ways the command line shows progress: bars on a terminal, JSON lines for programs. */
import { printableJson } from '../printable.ts';
import { progressLine, type Work } from './bar.ts';
import type { OnProgress, Progress } from './progress.ts';
import { screen } from './screen.ts';

export type ProgressStyle = 'auto' | 'bar' | 'json' | 'none';

export interface ProgressView {
  readonly onProgress: OnProgress;
  /** Leaves the last state on the screen. Idempotent. */
  close(): void;
}

/** Milliseconds between two events of one subject that are shown: four a second are read, more are noise. */
const INTERVAL = 250;

/** Shows progress on stderr. `auto`: bars on a terminal, nothing elsewhere. */
export function openProgress(style: ProgressStyle): ProgressView {
  if (style === 'json') return throttled((works) => screen.print(works.map(jsonLine).join('')));
  const isShown = style === 'bar' || (style === 'auto' && process.stderr.isTTY === true);
  return isShown ? openBars() : { onProgress: () => {}, close: () => {} };
}

const jsonLine = ({ event, now }: Work): string =>
  `${printableJson({ schema: 'lacuna.progress.v1', time: new Date(performance.timeOrigin + now).toISOString(), ...event })}\n`;

function openBars(): ProgressView {
  const all = new Map<string, Work>();
  const width = () => (process.stderr.columns || 80) - 1;
  const view = throttled((works) => {
    for (const work of works) all.set(keyOf(work.event), work);
    screen.draw([...all.values()].map((work) => progressLine(work, width())));
  });
  return {
    onProgress: view.onProgress,
    close: () => {
      view.close();
      screen.keep();
    },
  };
}

const keyOf = ({ phase, platform = '', subject }: Progress): string => `${phase} ${platform} ${subject}`;

/** The first and the last event of each subject, and of those between them no more than one in each interval. */
function throttled(show: (works: readonly Work[]) => void): ProgressView {
  const starts = new Map<string, number>();
  const waiting = new Map<string, Work>();
  const shown = new Map<string, number>();
  const flush = (works: readonly Work[]): void => {
    if (works.length === 0) return;
    for (const { event, now } of works) {
      shown.set(keyOf(event), now);
      waiting.delete(keyOf(event));
    }
    show(works);
  };
  return {
    onProgress: (event) => {
      const key = keyOf(event);
      const now = performance.now();
      if (!starts.has(key)) starts.set(key, now);
      const work = { event, start: starts.get(key)!, now };
      waiting.set(key, work);
      const isDue = event.done === event.total || now - (shown.get(key) ?? Number.NEGATIVE_INFINITY) >= INTERVAL;
      if (isDue) flush([work]);
    },
    close: () => flush([...waiting.values()]),
  };
}
