/** A time limit that nothing but its own end takes away. */
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { Deadline } from '../../../src/daemon/deadline.ts';
import { run } from '../../kit/process.ts';
import { needs } from '../../kit/skip.ts';

const BUILT = fileURLToPath(new URL('../../../dist/daemon/deadline.js', import.meta.url));
const skip = needs('dist');

describe('a deadline', () => {
  it('fires with its parent, at once for one that has fired', () => {
    const parent = new AbortController();
    using early = new Deadline(parent.signal, 60_000);
    parent.abort(new Error('gone'));
    expect(early.signal.reason).toMatchObject({ message: 'gone' });
    using late = new Deadline(parent.signal, 60_000);
    expect(late.signal.aborted).toBe(true);
  });

  it.skipIf(skip.reason)('fires after its time although garbage was collected', async () => {
    const program = `
      const { Deadline } = await import(${JSON.stringify(BUILT)});
      const wait = () => {
        const deadline = new Deadline(new AbortController().signal, 200);
        const { signal } = deadline;
        return new Promise((resolve) => signal.addEventListener('abort', () => resolve(signal.reason.code)));
      };
      const waiting = wait();
      globalThis.gc();
      console.log(await waiting);`;
    const { stdout } = await run(process.execPath, ['--expose-gc', '--input-type=module', '-e', program]);
    expect(stdout.trim()).toBe('TIMEOUT');
  });
});
