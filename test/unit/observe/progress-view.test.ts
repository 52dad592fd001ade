/** How often progress is told: the built view in a process of its own, fed with more events than anybody reads. */
import { describe, expect, it } from 'vitest';
import type { Progress } from '../../../src/observe/progress.ts';
import { run } from '../../kit/process.ts';
import { needs } from '../../kit/skip.ts';

const skip = needs('dist');
const VIEW = new URL('../../../dist/observe/progress-view.js', import.meta.url);

type Line = Progress & { readonly schema: string; readonly time: string };

async function shown(style: string, statements: string): Promise<string> {
  const program = `
    import { openProgress } from ${JSON.stringify(VIEW.href)};
    const view = openProgress(${JSON.stringify(style)});
    const tell = (subject, done, total) => view.onProgress({ phase: 'convert', subject, done, total, unit: 'bytes' });
    ${statements}`;
  const { stdout, stderr } = await run(process.execPath, ['--input-type=module', '-e', program]);
  expect(stdout).toBe('');
  return stderr;
}

const lines = (text: string): Line[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line);

describe.skipIf(skip.reason)('progress as JSON', () => {
  it('is a document a line, with the time, the first and the last of each subject', async () => {
    const events = lines(
      await shown(
        'json',
        "for (let i = 0; i <= 5000; i++) for (const s of ['a', 'b']) tell(s, i, 5000); view.close();",
      ),
    );
    for (const subject of ['a', 'b']) {
      const mine = events.filter((event) => event.subject === subject);
      expect(mine[0]).toEqual({
        ...{ schema: 'lacuna.progress.v1', time: expect.any(String), phase: 'convert', subject },
        ...{ done: 0, total: 5000, unit: 'bytes' },
      });
      expect(mine.at(-1)).toMatchObject({ done: 5000, total: 5000 });
      const times = mine.map(({ time }) => Date.parse(time));
      // All but the last keep their distance.
      const gaps = times.slice(1, -1).map((time, at) => time - times[at]!);
      expect(gaps.every((gap) => gap >= 250)).toBe(true);
      expect(mine.length).toBeLessThan(500);
    }
  });

  it('tells the last state of work that is not done, when it ends', async () => {
    const events = lines(
      await shown('json', "tell('a', 1, null); tell('a', 2, null); tell('a', 3, null); view.close(); view.close();"),
    );
    expect(events.map(({ done }) => done)).toEqual([1, 3]);
  });

  it('is not there for a pipe that did not ask for it', async () => {
    expect(await shown('auto', "tell('a', 1, 2); view.close();")).toBe('');
    expect(await shown('none', "tell('a', 1, 2); view.close();")).toBe('');
  });
});
