/** Progress on a terminal and what is printed meanwhile: neither cuts the other. */
import { describe, expect, it } from 'vitest';
import { progressLine } from '../../../src/observe/bar.ts';
import type { Progress } from '../../../src/observe/progress.ts';
import { Screen } from '../../../src/observe/screen.ts';
import { Terminal } from '../../kit/terminal.ts';

const screenOf = (terminal: Terminal): Screen => new Screen(terminal as unknown as NodeJS.WriteStream);

describe('the screen', () => {
  it('prints above the lines that are drawn', () => {
    const terminal = new Terminal();
    const screen = screenOf(terminal);
    screen.print('first\n');
    screen.draw(['a 1 %', 'b 2 %']);
    screen.print('second\n');
    screen.draw(['a 50 %', 'b']);
    expect(terminal.text).toBe('first\nsecond\na 50 %\nb');
    screen.draw(['a 100 %']);
    screen.keep();
    screen.print('third\n');
    expect(terminal.text).toBe('first\nsecond\na 100 %\nthird');
  });

  it('shows a long line that is printed in full, and cuts one that is drawn', () => {
    const terminal = new Terminal(10);
    const screen = screenOf(terminal);
    screen.draw(['0123456789abcdef']);
    screen.print('ABCDEFGHIJKLMNOP\n');
    expect(terminal.text).toBe('ABCDEFGHIJ\nKLMNOP\n012345678');
  });

  it('draws no more lines than there are, so that it finds the first again', () => {
    const terminal = new Terminal(80, 4);
    const screen = screenOf(terminal);
    for (let round = 0; round < 3; round++) screen.draw(['a', 'b', 'c', 'd', `e${round}`]);
    expect(terminal.text).toBe('c\nd\ne2');
  });

  it('is cleared while other output is written', () => {
    const terminal = new Terminal();
    const screen = screenOf(terminal);
    screen.draw(['a']);
    screen.hide();
    terminal.write('a row of the result\n');
    screen.draw(['b']);
    expect(terminal.text).toBe('a row of the result\nb');
  });

  it('writes nothing where nothing was drawn', () => {
    const terminal = new Terminal();
    const screen = screenOf(terminal);
    screen.hide();
    screen.keep();
    expect(terminal.text).toBe('');
  });
});

describe('a line of progress', () => {
  const event: Progress = { phase: 'convert', subject: 'abc', done: 5_000_000, total: 20_000_000, unit: 'bytes' };

  it('has how much of how much, how fast, and how long it still takes', () => {
    const line = progressLine({ event, start: 1000, now: 3000 }, 120);
    expect(line).toBe('convert  abc [######------------------]  25 % 5.00 MB / 20.0 MB  2.50 MB/s  ETA 6.00 s');
  });

  it('shows no remaining time when the total is unknown', () => {
    const line = progressLine({ event: { ...event, total: null }, start: 1000, now: 3000 }, 120);
    expect(line).toBe('convert  abc [------------------------] 5.00 MB  2.50 MB/s');
  });

  it('says how long all took', () => {
    const line = progressLine({ event: { ...event, done: 20_000_000 }, start: 1000, now: 3000 }, 120);
    expect(line).toMatch(/100 % 20\.0 MB \/ 20\.0 MB {2}10\.0 MB\/s {2}2\.00 s$/);
  });

  it('names the platform, counts items, and leaves the bar out where there is little room', () => {
    const items = { ...event, platform: 'linux/arm64', done: 3, total: 10, unit: 'items' } as const;
    expect(progressLine({ event: items, start: 0, now: 1000 }, 60)).toBe(
      'convert  linux/arm64 abc  30 % 3 / 10  3/s  ETA 2.33 s',
    );
    expect(progressLine({ event: items, start: 0, now: 1000 }, 20)).toBe('convert  linux/arm64');
  });

  it('of nothing is done', () => {
    const line = progressLine({ event: { ...event, done: 0, total: 0 }, start: 0, now: 0 }, 120);
    expect(line).toContain('[########################] 100 % 0 B / 0 B');
  });
});
