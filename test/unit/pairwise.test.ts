import { expect, it } from 'vitest';
import { pairwise } from '../kit/pairwise.ts';

it('any two choices meet in a row, in far fewer rows than there are combinations', () => {
  const factors = { a: [1, 2, 3, 4, 5], b: ['x', 'y', 'z'], c: [false, true], d: [false, true], e: [0, 1, 2] } as const;
  const rows = pairwise(factors);
  const entries = Object.entries(factors) as Array<[keyof typeof factors, readonly unknown[]]>;
  for (const [f, values] of entries)
    for (const [g, others] of entries)
      if (f < g)
        for (const v of values)
          for (const w of others)
            expect(
              rows.some((row) => row[f] === v && row[g] === w),
              `${f} ${v} ${g} ${w}`,
            ).toBe(true);
  expect(rows.length).toBeLessThanOrEqual(20);
});
