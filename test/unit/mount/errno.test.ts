import { statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { toLacunaError } from '../../../src/errors.ts';
import { errnoOf } from '../../../src/mount/errno.ts';
import { addon } from '../../../src/native/addon.ts';
import { needs } from '../../kit/skip.ts';

const skip = needs('addon');

describe('errnoOf', () => {
  it.skipIf(skip.reason)('is that of a native promise, also behind our own error', async () => {
    const failure: unknown = await addon()
      .umount('/does/not/exist', 0)
      .catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'NOT_FOUND', errno: 2 });
    expect(errnoOf(failure)).toBe(2);
    expect(errnoOf(toLacunaError(failure, { op: 'unmount' }))).toBe(2);
  });

  it("is that of Node's own error", () => {
    let failure: unknown;
    try {
      statSync('/etc/passwd/below');
    } catch (error) {
      failure = error;
    }
    expect(errnoOf(failure)).toBe(20);
  });

  it.each([new Error('a text (os error 15)'), 'text (os error 15)', null])('is null for %j', (error) => {
    expect(errnoOf(error)).toBeNull();
  });
});
