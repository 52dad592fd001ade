import { describe, expect, it } from 'vitest';
import { unexpectedSkips } from '../kit/reporter.ts';
import { has, needs } from '../kit/skip.ts';

describe('needs', () => {
  it('is null when everything is here', () => {
    expect(needs('linux').reason).toBe(process.platform === 'linux' ? null : 'not here: linux');
  });

  it('answers the same when asked again', () => {
    expect(has('python3')).toBe(has('python3'));
  });
});

describe('a skip under CI', () => {
  const skip = { name: 'test/e2e/a.test.ts > suite > one', lacks: ['go 1.26'] };

  it('is expected when its test, suite or file is listed with a reason', () => {
    for (const name of ['test/e2e/a.test.ts', 'test/e2e/a.test.ts > suite', skip.name]) {
      expect(unexpectedSkips([skip], [{ name, reason: 'no Go' }])).toEqual([]);
    }
  });

  it('is a failure when nothing lists it, another test does, or no reason is given', () => {
    expect(unexpectedSkips([skip], [])).toEqual([skip]);
    expect(unexpectedSkips([skip], [{ name: 'test/e2e/a.test.ts > suite > on', reason: 'no Go' }])).toEqual([skip]);
    expect(unexpectedSkips([skip], [{ name: skip.name, reason: '' }])).toEqual([skip]);
  });
});
