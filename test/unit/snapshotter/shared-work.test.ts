/** Work that several wait for. */
import { describe, expect, it } from 'vitest';
import { SharedWork } from '../../../src/snapshotter/shared-work.ts';

const STAYS = new AbortController().signal;

describe('shared work', () => {
  const start = () => {
    let resolve!: (value: string) => void;
    const promise = new Promise<string>((done) => {
      resolve = done;
    });
    const seen: AbortSignal[] = [];
    const work = new SharedWork((signal) => {
      seen.push(signal);
      return promise;
    });
    return { work, resolve, signal: seen[0]! };
  };

  it('goes on while somebody waits, and ends with the last', async () => {
    const { work, signal } = start();
    const [first, second] = [new AbortController(), new AbortController()];
    const waiting = [work.join(first.signal), work.join(second.signal)];
    first.abort();
    await expect(waiting[0]).rejects.toMatchObject({ name: 'AbortError' });
    expect([signal.aborted, work.isStopped]).toEqual([false, false]);
    second.abort();
    await expect(waiting[1]).rejects.toMatchObject({ name: 'AbortError' });
    expect([signal.aborted, work.isStopped]).toEqual([true, true]);
  });

  it('gives everybody the same', async () => {
    const { work, resolve } = start();
    const waiting = Promise.all([work.join(STAYS), work.join(STAYS)]);
    resolve('done');
    expect(await waiting).toEqual(['done', 'done']);
  });

  it('is not joined by who has gone already', async () => {
    const { work, signal } = start();
    await expect(work.join(AbortSignal.abort())).rejects.toMatchObject({ name: 'AbortError' });
    expect(signal.aborted).toBe(false);
  });

  it('fails for those who wait, and for nobody else', async () => {
    const work = new SharedWork(() => Promise.reject(new Error('broken')));
    await expect(work.join(STAYS)).rejects.toThrow('broken');
  });
});
