/** Progress of long work: one union of events, and the two ways the CLI shows it (bars on a terminal, NDJSON). */
import type { SingleBar } from 'cli-progress';

/** How far one piece of work is. Counts are absolute, so that a lost event does no harm. */
export interface Progress {
  /** What is being done, e.g. `convert`, `push`, `pull`. */
  readonly phase: string;
  /** `os/arch[/variant]` of the image, where there are several. */
  readonly platform?: string;
  /** To what: a short digest, a file name. */
  readonly subject: string;
  readonly done: number;
  /** Null where nobody knows. */
  readonly total: number | null;
  readonly unit: 'bytes' | 'items';
}

export type OnProgress = (event: Progress) => void;

export type ProgressStyle = 'auto' | 'bar' | 'json' | 'none';

export interface ProgressView {
  readonly onProgress: OnProgress;
  /** Leaves the last state on the screen. */
  close(): void;
}

/** Shows progress on stderr. `auto`: bars on a terminal, nothing elsewhere. */
export async function openProgress(style: ProgressStyle): Promise<ProgressView> {
  if (style === 'json') {
    return { onProgress: (event) => process.stderr.write(`${JSON.stringify(event)}\n`), close: () => {} };
  }
  if (style === 'none' || (style === 'auto' && process.stderr.isTTY !== true)) {
    return { onProgress: () => {}, close: () => {} };
  }
  return await openBars();
}

async function openBars(): Promise<ProgressView> {
  const { MultiBar, Presets } = (await import('cli-progress')).default;
  const bars = new Map<string, SingleBar>();
  const screen = new MultiBar(
    {
      format: '{phase} {subject} [{bar}] {percentage}% {amount}',
      stream: process.stderr,
      hideCursor: true,
      clearOnComplete: false,
      forceRedraw: false,
    },
    Presets.rect,
  );
  return {
    onProgress: (event) => {
      const key = `${event.phase} ${event.subject}`;
      const state = { phase: event.phase.padEnd(8), subject: event.subject, amount: amountOf(event) };
      const bar = bars.get(key);
      const total = event.total ?? Math.max(event.done, 1);
      if (bar === undefined) {
        bars.set(key, screen.create(total, event.done, state));
        return;
      }
      bar.setTotal(total);
      bar.update(event.done, state);
    },
    close: () => screen.stop(),
  };
}

function amountOf(event: Progress): string {
  return event.unit === 'bytes' ? `${(event.done / 1e6).toFixed(1)} MB` : `${event.done}`;
}
