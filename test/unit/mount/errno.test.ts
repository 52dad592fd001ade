import { describe, expect, it } from 'vitest';
import { errnoOf } from '../../../src/mount/errno.ts';

describe('errnoOf', () => {
  it('finds the number in the text of a native error', () => {
    expect(errnoOf(new Error('mount /x: Block device required (os error 15)'))).toBe(15);
    expect(errnoOf(new Error('mount /x: Invalid argument (os error 22): erofs: bad'))).toBe(22);
  });

  it.each([new Error('other'), 'text (os error 15)', null])('is null for %j', (error) => {
    expect(errnoOf(error)).toBeNull();
  });
});
