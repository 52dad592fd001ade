import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { limitedLog } from '../../../src/observe/limited-log.ts';
import type { Log } from '../../../src/observe/log.ts';

type Line = [level: string, fields: object, message: string];

describe('a limited log', () => {
  let lines: Line[];
  let log: Log;
  beforeEach(() => {
    vi.useFakeTimers();
    lines = [];
    const write = (level: string) => (fields: object, message: string) => void lines.push([level, fields, message]);
    log = limitedLog({ debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') });
  });
  afterEach(() => vi.useRealTimers());

  it('passes on the first lines of a kind, then tells once a minute how many it left out', () => {
    for (let chunk = 0; chunk < 5000; chunk++) log.warn({ blob: 'a', chunk }, `chunk ${chunk} of blob a is wrong`);
    expect(lines).toHaveLength(10);
    expect(lines[9]).toEqual(['warn', { blob: 'a', chunk: 9 }, 'chunk 9 of blob a is wrong']);
    vi.advanceTimersByTime(60_000);
    expect(lines.slice(10)).toEqual([['warn', { blob: 'a', omitted: 4990 }, 'chunk 0 of blob a is wrong (repeated)']]);
    log.warn({ blob: 'a', chunk: 1 }, 'chunk 1 of blob a is wrong');
    expect(lines).toHaveLength(12);
    vi.advanceTimersByTime(600_000);
    expect(lines).toHaveLength(12);
  });

  it('counts what differs in level, words or subject apart: one image does not silence another', () => {
    for (let i = 0; i < 100; i++) log.warn({ blob: 'a' }, 'wrong');
    for (let i = 0; i < 100; i++) log.warn({ blob: 'b' }, 'wrong');
    log.warn({ blob: 'a' }, 'absent');
    log.error({ blob: 'a' }, 'wrong');
    expect(lines).toHaveLength(22);
  });

  it('is bounded also when every line is about something else', () => {
    for (let i = 0; i < 100_000; i++) log.warn({ blob: `${i}` }, 'wrong');
    expect(lines.length).toBeLessThanOrEqual(1010);
    // What is beyond that is not told as if it were the first of them, nor in another level.
    for (let i = 0; i < 20; i++) log.error({ blob: `e${i}` }, 'lost');
    vi.advanceTimersByTime(60_000);
    expect(lines.slice(-2)).toEqual([
      ['warn', { omitted: 100_000 - 1010 }, 'other messages (repeated)'],
      ['error', { omitted: 10 }, 'other messages (repeated)'],
    ]);
  });

  it('leaves debug lines as they are: who asks for them wants all', () => {
    for (let i = 0; i < 5000; i++) log.debug({ blob: `${i}` }, 'request');
    expect(lines).toHaveLength(5000);
    log.warn({ blob: 'a' }, 'wrong');
    expect(lines.at(-1)).toEqual(['warn', { blob: 'a' }, 'wrong']);
  });
});
