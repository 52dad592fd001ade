/** The scripts of `lacuna completion`, in the shells that they are for. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lacuna } from '../../kit/lacuna.ts';
import { run } from '../../kit/process.ts';
import { needs } from '../../kit/skip.ts';

const built = needs('dist');

/** A line as far as it is typed → what is offered, files by their last component. */
const CASES: ReadonlyArray<readonly [line: string, offered: readonly string[]]> = [
  ['lacuna st', ['stat']],
  ['lacuna ls --rec', ['--recursive']],
  ['lacuna find --json image --max', ['--max-depth']],
  ['lacuna ls --transport ', ['node-fetch', 'undici']],
  ['lacuna ls --transport un', ['undici']],
  ['lacuna ls --recursive --log-level war', ['warn']],
  ['lacuna ls rafs:DIR/boot', ['boot-1', 'boot-2']],
  ['lacuna ls oci-', ['oci-archive:']],
  ['lacuna diff oci:DIR/lay:ref oci:DIR/lay', ['layout']],
  ['lacuna mount image DIR/la', ['layout']],
  ['lacuna export image DIR/boot-1', ['boot-1']],
  ['lacuna cat --ca DIR/boot-2', ['boot-2']],
  ['lacuna completion ', ['bash', 'fish', 'zsh']],
];

describe.skipIf(built.reason)('completion', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lacuna-tab-'));
  const lines = CASES.map(([line]) => line.replaceAll('DIR', dir));
  const script = (shell: string): string => join(dir, `script.${shell}`);

  beforeAll(async () => {
    for (const shell of ['bash', 'zsh', 'fish']) {
      writeFileSync(script(shell), (await lacuna(['completion', shell])).stdout);
    }
    for (const name of ['boot-1', 'boot-2']) writeFileSync(join(dir, name), '');
    mkdirSync(join(dir, 'layout'));
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  /** Each case's offers from a line of output. */
  function check(found: readonly string[][]): void {
    const tidy = (words: readonly string[]): string[] =>
      [...new Set(words.map((word) => word.replace(/\/$/, '').replace(/^.*\//, '')))].sort();
    expect(found.map((words, at) => [CASES[at]![0], tidy(words)])).toEqual(CASES);
  }

  it.skipIf(needs('bash').reason)('works in bash', async () => {
    const program = `source "$1"; shift
      COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
      for COMP_LINE; do COMP_POINT=\${#COMP_LINE}; _lacuna; echo "\${COMPREPLY[*]}"; done`;
    const { stdout } = await run('bash', ['-c', program, 'bash', script('bash'), ...lines]);
    check(
      stdout
        .trimEnd()
        .split('\n')
        .map((line) => line.split(' ')),
    );
  });

  it.skipIf(needs('bash').reason)(
    'works in a bash that does not break words at colons, and with --option=value',
    async () => {
      const program = `source "$1"; COMP_WORDBREAKS=' '
      for COMP_LINE in "lacuna ls oci:$2/lay" 'lacuna ls --transport=un' 'lacuna '; do
        COMP_POINT=\${#COMP_LINE}; _lacuna; echo "\${COMPREPLY[*]}"
      done`;
      const { stdout } = await run('bash', ['-c', program, 'bash', script('bash'), dir]);
      const [file, value, commands] = stdout.trimEnd().split('\n');
      expect(file).toBe(`oci:${dir}/layout`);
      expect(value).toBe('undici');
      const { stdout: help } = await lacuna(['--help']);
      for (const [, name] of help.matchAll(/^ {2}([a-z]+) /gm)) expect(commands!.split(' ')).toContain(name);
    },
  );

  it.skipIf(needs('zsh').reason)('works in zsh', { timeout: 60_000 }, async () => {
    const driver = fileURLToPath(new URL('../../kit/complete.zsh', import.meta.url));
    const { stdout } = await run('zsh', ['-f', driver, script('zsh'), ...lines]);
    // For a file it offers, on the way, the components of its path as well.
    const parts = dir.split('/').filter((part) => part !== '');
    check(
      stdout
        .trimEnd()
        .split('\n')
        .map((line) => line.split(' ').filter((word) => !parts.includes(word))),
    );
  });

  it.skipIf(needs('fish').reason)('works in fish', async () => {
    const program = `source $argv[1]; for line in $argv[2..]; complete -C $line | string replace -r '\\t.*' '' | string join ' '; end`;
    const { stdout } = await run('fish', ['-c', program, script('fish'), ...lines]);
    check(
      stdout
        .trimEnd()
        .split('\n')
        .map((line) => line.split(' ')),
    );
  });
});
