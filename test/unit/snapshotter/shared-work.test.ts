import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { SharedWork } from '../../../src/snapshotter/shared-work.ts';

const STAYS = new AbortController().signal;

describe('work that several wait for', () => {
  it('that was done before it was asked for stays done', async () => {
    const work = new SharedWork(async () => 'result');
    // Who began it waits for nothing any more.
    expect(await work.join(STAYS)).toBe('result');
    expect(work.isStopped).toBe(false);
    expect(await work.join(STAYS)).toBe('result');
  });

  it('ends when the last one goes, and not before', async () => {
    let ended = 0;
    const work = new SharedWork((signal) => sleep(60_000, 'result', { signal }).finally(() => ended++));
    const [first, last] = [new AbortController(), new AbortController()];
    const waiting = [work.join(first.signal), work.join(last.signal)];
    first.abort();
    await expect(waiting[0]).rejects.toMatchObject({ name: 'AbortError' });
    expect([ended, work.isStopped]).toEqual([0, false]);
    last.abort();
    await expect(waiting[1]).rejects.toMatchObject({ name: 'AbortError' });
    await expect.poll(() => ended).toBe(1);
    expect(work.isStopped).toBe(true);
  });

  it('tells its failure to who comes later', async () => {
    const work = new SharedWork(() => Promise.reject(new Error('gone wrong')));
    await expect(work.join(STAYS)).rejects.toThrow('gone wrong');
    await expect(work.join(STAYS)).rejects.toThrow('gone wrong');
    expect(work.isStopped).toBe(false);
  });
});
