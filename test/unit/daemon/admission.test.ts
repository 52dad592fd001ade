/** Who may begin: sums stay within the bound, and nobody is passed. */
import { setImmediate } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { Admission } from '../../../src/daemon/admission.ts';

class Gate {
  readonly begun: string[] = [];
  readonly ends = new Map<string, () => void>();
  readonly #admission = new Admission(10);

  enter(name: string, size: number, signal = new AbortController().signal): Promise<void> {
    return this.#admission.enter(size, signal).then((end) => {
      this.begun.push(name);
      this.ends.set(name, end);
    });
  }

  async end(name: string): Promise<string[]> {
    this.ends.get(name)!();
    await setImmediate();
    return this.begun;
  }
}

it('large work is not passed by small work that comes later', async () => {
  const gate = new Gate();
  await gate.enter('first', 6);
  const others = [gate.enter('large', 10), gate.enter('small', 1), gate.enter('tiny', 1)];
  await setImmediate();
  expect(gate.begun).toEqual(['first']);
  expect(await gate.end('first')).toEqual(['first', 'large']);
  expect(await gate.end('large')).toEqual(['first', 'large', 'small', 'tiny']);
  await Promise.all(others);
});

it('work that is larger than the bound runs alone', async () => {
  const gate = new Gate();
  await gate.enter('first', 1);
  void gate.enter('huge', 100);
  void gate.enter('next', 1);
  expect(await gate.end('first')).toEqual(['first', 'huge']);
  expect(await gate.end('huge')).toEqual(['first', 'huge', 'next']);
});

it('work that is given up while it waits lets those behind it begin', async () => {
  const gate = new Gate();
  const abort = new AbortController();
  await gate.enter('first', 6);
  const large = gate.enter('large', 10, abort.signal);
  const small = gate.enter('small', 4);
  abort.abort(new Error('gone'));
  await expect(large).rejects.toThrow('gone');
  await small;
  expect(gate.begun).toEqual(['first', 'small']);
});
