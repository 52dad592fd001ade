/** One line of progress: phase, subject, bar, done and total, rate, remaining time. */
import { printable } from '../printable.ts';
import { humanBytes, humanDuration } from './human.ts';
import type { Progress } from './progress.ts';

/** A piece of work and the time of its first event, from which rate and remaining time follow. */
export interface Work {
  readonly event: Progress;
  readonly start: number;
  readonly now: number;
}

const BAR = 24;

/** A line of at most `width` characters; where there is little room the bar goes first. */
export function progressLine(work: Work, width: number): string {
  const { phase, platform, subject } = work.event;
  const what = printable([phase.padEnd(8), ...(platform === undefined ? [] : [platform]), subject].join(' ').trimEnd());
  const numbers = numbersOf(work);
  const whole = `${what} ${bar(work)} ${numbers}`;
  return (whole.length <= width ? whole : `${what} ${numbers}`).slice(0, width);
}

function bar({ event: { done, total } }: Work): string {
  const filled = Math.round(fraction(done, total) * BAR);
  return `[${'#'.repeat(filled)}${'-'.repeat(BAR - filled)}]`;
}

/** 1 when the total is 0. */
const fraction = (done: number, total: number | null): number =>
  total === null ? 0 : total <= 0 ? 1 : Math.min(done / total, 1);

function numbersOf({ event: { done, total, unit }, start, now }: Work): string {
  const amount = (value: number) => (unit === 'bytes' ? humanBytes(value) : String(value));
  const elapsed = now - start;
  const speed = elapsed === 0 ? 0 : (done / elapsed) * 1000;
  const pieces = [total === null ? amount(done) : `${percent(done, total)} ${amount(done)} / ${amount(total)}`];
  if (speed > 0) pieces.push(unit === 'bytes' ? `${humanBytes(speed)}/s` : `${Math.round(speed)}/s`);
  if (total !== null && done >= total) pieces.push(humanDuration(elapsed));
  else if (total !== null && speed > 0) pieces.push(`ETA ${humanDuration(((total - done) / speed) * 1000)}`);
  return pieces.join('  ');
}

const percent = (done: number, total: number): string =>
  `${String(Math.floor(fraction(done, total) * 100)).padStart(3)} %`;
