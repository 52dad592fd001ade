import { describe, expect, it } from 'vitest';
import {
  EXIT,
  exitCodeOf,
  FormatError,
  grpcStatusOf,
  isLacunaError,
  LacunaError,
  toLacunaError,
} from '../../src/errors.ts';

const withCode = (message: string, code: string): Error => Object.assign(new Error(message), { code });

describe('toLacunaError', () => {
  it('gives back our own errors as they are', () => {
    const error = new FormatError('magic', 'is wrong', { offset: 1024 });
    expect(toLacunaError(error, { op: 'other' })).toBe(error);
    expect(error.message).toBe('magic at byte 1024: is wrong');
  });

  it('completes an error of the native addon, which has a code and a text and nothing else', () => {
    const native = withCode('mount /x: Invalid argument (os error 22)', 'SYSTEM');
    expect(isLacunaError(native)).toBe(true);
    const error = toLacunaError(native, { op: 'mount', subject: '/x' });
    expect(error.toJSON()).toEqual({ code: 'SYSTEM', message: native.message, op: 'mount', subject: '/x', hint: null });
    expect(error.cause).toBe(native);
  });

  it.each([
    [withCode('no file', 'ENOENT'), 'NOT_FOUND', EXIT.notFound, 5],
    [withCode('no right', 'EACCES'), 'FORBIDDEN', EXIT.denied, 7],
    [withCode('no room', 'ENOSPC'), 'SYSTEM', EXIT.failure, 13],
    [withCode('odd', 'toString'), 'INTERNAL', EXIT.failure, 13],
    [new DOMException('stopped', 'AbortError'), 'ABORTED', EXIT.interrupted, 1],
    [new TypeError('a bug'), 'INTERNAL', EXIT.failure, 13],
    ['text', 'INTERNAL', EXIT.failure, 13],
    [new LacunaError('UNAVAILABLE', 'away'), 'UNAVAILABLE', EXIT.unavailable, 14],
  ])('%s: %s', (thrown, code, exit, grpc) => {
    expect(toLacunaError(thrown).code).toBe(code);
    expect(exitCodeOf(thrown)).toBe(exit);
    expect(grpcStatusOf(thrown)).toBe(grpc);
  });
});
