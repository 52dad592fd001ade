import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openLogFile } from '../../../src/observe/log-file.ts';

describe('a log file', () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'lacuna-log-'));
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  it('is put aside when it is full, while it is written to, and keeps the newest lines', () => {
    const path = join(dir, 'log');
    const file = openLogFile(path, 1000);
    for (let i = 0; i < 500; i++) file.write(`line ${i}\n`);
    const [old, now] = [readFileSync(`${path}.old`, 'utf8'), readFileSync(path, 'utf8')];
    expect(old.length).toBeLessThanOrEqual(1000);
    expect(now.length).toBeLessThanOrEqual(1000);
    const numbers = `${old}${now}`
      .trimEnd()
      .split('\n')
      .map((line) => Number(line.slice(5)));
    expect(numbers.at(-1)).toBe(499);
    expect(numbers).toEqual(numbers.map((_, at) => 500 - numbers.length + at));
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('appends to the file of an earlier process, whatever its size', () => {
    const path = join(dir, 'log');
    openLogFile(path, 1000).write('x'.repeat(990));
    openLogFile(path, 1000).write('line\nanother line\n');
    expect(readFileSync(path, 'utf8')).toBe('line\nanother line\n');
    expect(readFileSync(`${path}.old`, 'utf8')).toHaveLength(990);
  });

  it('loses what cannot be written, and throws nothing', () => {
    openLogFile('/dev/full').write('line\n');
    const missing = join(dir, 'none', 'log');
    const file = openLogFile(missing);
    file.write('line\n');
    expect(existsSync(missing)).toBe(false);
  });
});
