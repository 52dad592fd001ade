/** What somebody at a terminal sees: the result and nothing around it, bars below what is logged. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { lacunaArgs } from '../../kit/lacuna.ts';
import { fixture } from '../../kit/layers.ts';
import { run } from '../../kit/process.ts';
import { needs } from '../../kit/skip.ts';
import { Terminal } from '../../kit/terminal.ts';

const skip = needs('dist', 'addon', 'script');

describe.skipIf(skip.reason)('at a terminal', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-terminal-'));
  afterAll(() => rmSync(dir, { recursive: true }));

  /** What the program writes to a terminal, line ends as the terminal gets them. */
  async function written(...args: string[]): Promise<string> {
    const command = [process.execPath, ...lacunaArgs(...args)].map((word) => `'${word}'`).join(' ');
    const env = { NO_COLOR: '1', FORCE_COLOR: undefined, SHELL: '/bin/sh' };
    const { stdout } = await run('script', ['-qec', `stty cols 200 rows 30; ${command}`, '/dev/null'], { env });
    return stdout;
  }

  it('prints only the result, without an empty line or an escape before it', async () => {
    const text = await written('inspect', `rafs:${fixture('rafs', 'merged', 'bootstrap')}`);
    expect(text).toMatch(/^rafs:[^\r\n]+: a lazy image\r\n/);
    expect(text).not.toContain('\u001b');
  });

  it('bars stay behind as lines, and the result follows', async () => {
    const terminal = new Terminal(200, 30);
    const image = `oci:${fixture('oci', 'tame-mini')}:tame-mini-gzip`;
    terminal.write(await written('convert', image, `oci:${dir}/target:lazy`));
    const lines = terminal.text.split('\n').map((line) => line.trimEnd());
    const bars = lines.filter((line) => /^convert +[0-9a-f]{12} \[#{24}\] 100 % \d.* \/ \d/.test(line));
    expect(bars).toHaveLength(3);
    expect(lines).not.toContain('');
    expect(lines.at(-1)).toMatch(/@sha256:[0-9a-f]{64}$/);
  });
});
