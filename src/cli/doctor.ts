/** `lacuna doctor`: what works here, what does not, why, and what to do. */
import type { Command } from 'commander';
import type { ProbeResult } from '../doctor/doctor.ts';
import { EXIT } from '../errors.ts';
import { paint } from '../observe/style.ts';
import { printable } from '../printable.ts';
import type { CliContext, CommandResult, CommandSpec } from './command.ts';

export const command: CommandSpec = {
  name: 'doctor',
  group: 'operate',
  summary: 'test what works on this machine',
  examples: ['lacuna doctor', 'lacuna doctor --root /var/lib/lacuna --json'],

  configure(command: Command): void {
    command.option(
      '--root <dir>',
      'the intended root: its file system is tested (default: the one of temporary files)',
    );
  },

  async run(_context: CliContext, _args: string[], options: Record<string, unknown>): Promise<CommandResult> {
    const { doctor, isOptional } = await import('../doctor/doctor.ts');
    const { ok, rows } = await doctor(typeof options.root === 'string' ? { folder: options.root } : {});
    const verdict = ok ? 'Lazy images can be mounted here.' : 'Lazy images cannot be mounted here.';
    const lines = rows.map((row) => describe(row, isOptional(row.name, rows)));
    return {
      document: { schema: 'lacuna.doctor.v1', ok, rows },
      text: [...lines, '', verdict].join('\n'),
      isStyled: true,
      exitCode: ok ? EXIT.ok : EXIT.unsupported,
    };
  },
};

/** ✓ works, ✗ needed, – can be done without. */
function describe({ name, status, why, hint }: ProbeResult, optional: boolean): string {
  const [style, sign] =
    status === 'ok' ? (['green', '✓'] as const) : optional ? (['dim', '–'] as const) : (['red', '✗'] as const);
  const mark = paint(style, sign, process.stdout);
  const line = `${mark} ${name.padEnd(20)} ${status.padEnd(8)} ${printable(why)}`;
  return hint === null ? line : `${line}\n${' '.repeat(32)}${printable(hint)}`;
}
